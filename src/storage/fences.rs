//! Advisory locks that order what replicas do: mints against changes, and syncs of one instance against each other.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Executor, PgConnection};

use super::StorageError;
use crate::domain::ids::InstanceUid;

/// Opens a batch's transaction with `opening` ([`super::Database::batch_opening`]), shares the mint fence, and takes the lock of each
/// instance in one order, so that two batches never wait for each other in a ring.
///
/// One round trip: the statements hold nothing but numbers. What the batch reads
/// must be read by a later statement, whose snapshot then follows the wait.
///
/// # Errors
/// The database cannot be reached.
pub async fn begin_batch(
    connection: &mut PgConnection,
    opening: &'static str,
    uids: &[InstanceUid],
) -> Result<(), StorageError> {
    let mut locks: Vec<i64> = uids.iter().map(|uid| instance_lock(*uid)).collect();
    locks.sort_unstable();
    locks.dedup();
    let mut script = format!("{opening}; SELECT pg_advisory_xact_lock_shared({MINT_FENCE}, 0)");
    // Counted, so that one row comes back and not one for each lock.
    script.push_str("; SELECT count(pg_advisory_xact_lock(k)) FROM unnest('{");
    for (index, lock) in locks.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(script, "{}{lock}", if index == 0 { "" } else { "," });
    }
    script.push_str("}'::bigint[]) k");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await?;
    Ok(())
}

/// Commits a batch.
///
/// # Errors
/// The database cannot be reached: whether the batch is durable is then unknown.
pub async fn commit_batch(connection: &mut PgConnection) -> Result<(), StorageError> {
    connection.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(())
}

/// Takes a batch back.
///
/// # Errors
/// The database cannot be reached.
pub async fn roll_back_batch(connection: &mut PgConnection) -> Result<(), StorageError> {
    connection.execute(sqlx::raw_sql("ROLLBACK")).await?;
    Ok(())
}

/// Holds mints off until the transaction ends: no token that is decided before a
/// revocation can be recorded after it. Waits for running batches, which take milliseconds.
///
/// Later mints wait behind it. So neither this wait nor, once the fence is held, any other
/// of the transaction is long: unless it was bounded already, each is from here on.
///
/// # Errors
/// The database cannot be reached, or a batch hangs: the change may be tried again.
pub async fn hold_mints_off(connection: &mut PgConnection) -> Result<(), StorageError> {
    let script = format!(
        "select set_config('lock_timeout', '{LONGEST_WAIT}', true) where current_setting('lock_timeout') = '0'; \
         select pg_advisory_xact_lock({MINT_FENCE}, 0)"
    );
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(script))).await?;
    Ok(())
}

/// Bounds how long each statement of this transaction waits for a lock.
///
/// # Errors
/// The database cannot be reached.
pub async fn limit_waits(connection: &mut PgConnection, longest: Duration) -> Result<(), StorageError> {
    sqlx::query("select set_config('lock_timeout', $1, true)")
        .bind(format!("{}ms", longest.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

/// The same, but gives up after `within`: whoever holds the fence for longer is stuck. Returns whether
/// mints are held off now; if not, the transaction is over and only good for being taken back.
///
/// # Errors
/// The database cannot be reached.
pub async fn hold_mints_off_within(
    connection: &mut PgConnection,
    within: Duration,
) -> Result<bool, StorageError> {
    limit_waits(connection, within).await?;
    match hold_mints_off(connection).await {
        Ok(()) => {
            // What follows waits as everything does.
            limit_waits(connection, Duration::ZERO).await?;
            Ok(true)
        }
        Err(error) if error.sql_state().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends the connections that hold the mint fence. What they had begun never becomes durable, so that no
/// token of it leaves. Returns how many were ended.
///
/// # Errors
/// The database cannot be reached, or does not let this account end its own connections.
pub async fn end_holders(connection: &mut PgConnection) -> Result<i64, StorageError> {
    let ended = sqlx::query_scalar(
        "select count(*) from (select pg_terminate_backend(pid) from (\
             select distinct pid from pg_locks where locktype = 'advisory' and granted \
                and database = (select oid from pg_database where datname = current_database()) \
                and classid = $1::bigint::oid and objid = 0 and objsubid = 2 and pid <> pg_backend_pid()) h) e",
    )
    .bind(i64::from(MINT_FENCE))
    .fetch_one(connection)
    .await?;
    Ok(ended)
}

/// Serializes what is done to one instance with its syncs.
///
/// # Errors
/// The database cannot be reached.
pub async fn lock_instance(connection: &mut PgConnection, uid: InstanceUid) -> Result<(), StorageError> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(instance_lock(uid)).execute(connection).await?;
    Ok(())
}

/// The database's clock. Read once the locks of a change are held, it is later than everything
/// that the change waited for.
///
/// # Errors
/// The database cannot be reached.
pub async fn find_now(connection: &mut PgConnection) -> Result<DateTime<Utc>, StorageError> {
    Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await?)
}

/// Serializes those who want one `external_ref` for the same kind of record: the first has it,
/// and the others find that it does.
///
/// # Errors
/// The database cannot be reached.
pub async fn lock_external_ref(
    connection: &mut PgConnection,
    kind: &str,
    external_ref: &str,
) -> Result<(), StorageError> {
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2 || '/' || $3))")
        .bind(EXTERNAL_REFS)
        .bind(kind)
        .bind(external_ref)
        .execute(connection)
        .await?;
    Ok(())
}

const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Rotation takes it exclusively, mints share it. PostgreSQL keeps locks of two
/// numbers apart from those of one, which the instances use.
pub const MINT_FENCE: i32 = 0x0074_6b61;

// 0x0074_6b6e is the lock under which events are numbered: a trigger takes it at the end of a transaction.

/// How long a change waits while mints wait behind it. Below the deadline of a sync, which is 5 s by default.
const LONGEST_WAIT: &str = "3s";

/// The locks of external references: two texts of one hash only wait for each other.
const EXTERNAL_REFS: i32 = 0x0074_6b65;

/// The random half of the uid. Two instances that share it only wait for each other.
fn instance_lock(uid: InstanceUid) -> i64 {
    let bytes = uid.as_uuid().into_bytes();
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[8..]);
    i64::from_be_bytes(half)
}
