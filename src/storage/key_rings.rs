//! The ring of one environment: its keys, the head of its key sets, its floor and deny-list serial.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};

use super::key_sets::digest;
use super::{StorageError, signing_keys};
use crate::domain::key_ring::{Head, Key, KeyRing};

/// Opens an empty ring, unless there is one already.
///
/// # Errors
/// The database cannot be written.
pub async fn insert(
    connection: &mut PgConnection,
    environment: &str,
    issuer: &str,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into key_rings (environment, issuer, created_at) values ($1, $2, $3) \
         on conflict (environment) do nothing",
    )
    .bind(environment)
    .bind(issuer)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The database's clock, by which everything that is issued is dated.
///
/// # Errors
/// The database cannot be read.
pub async fn find_clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, StorageError> {
    Ok(sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await?)
}

/// A ring as it was stored, and whose keys it holds.
#[derive(Clone, Debug)]
pub struct StoredRing {
    pub issuer: String,
    pub ring: KeyRing,
}

/// Reads the ring of an environment.
///
/// The caller that is about to change it holds mints off first, in a statement before this one.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<StoredRing>, StorageError> {
    let row = sqlx::query(
        "select r.issuer, r.floor, r.deny_list_serial, r.longest_token_seconds, s.version, s.payload_digest \
         from key_rings r \
         left join lateral (select version, payload_digest from key_sets where environment = r.environment \
                            order by version desc limit 1) s on true \
         where r.environment = $1",
    )
    .bind(environment)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let head = match row.try_get::<Option<i64>, _>("version")? {
        None => None,
        Some(version) => {
            Some(Head { version: number(version)?, digest: digest(row.try_get("payload_digest")?)? })
        }
    };
    let longest_token = TimeDelta::try_seconds(row.try_get("longest_token_seconds")?)
        .ok_or_else(|| StorageError::corrupt("a token life beyond all time"))?;
    let keys = signing_keys::list(connection, environment).await?.into_iter().map(|listed| listed.key);
    let ring = KeyRing::restored(
        keys,
        head,
        number(row.try_get("floor")?)?,
        u64::try_from(row.try_get::<i64, _>("deny_list_serial")?).map_err(StorageError::corrupt)?,
        longest_token,
    );
    Ok(Some(StoredRing { issuer: row.try_get("issuer")?, ring }))
}

/// Who issues the tokens of an environment; `None` before its first keys were made.
///
/// # Errors
/// The database cannot be read.
pub async fn find_issuer(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<String>, StorageError> {
    let issuer = sqlx::query_scalar("select issuer from key_rings where environment = $1")
        .bind(environment)
        .fetch_optional(connection)
        .await?;
    Ok(issuer)
}

/// The lowest key-set version with which a process may start.
///
/// # Errors
/// The database cannot be read.
pub async fn find_floor(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<u32>, StorageError> {
    let floor = sqlx::query_scalar("select floor from key_rings where environment = $1")
        .bind(environment)
        .fetch_optional(connection)
        .await?;
    floor.map(number).transpose()
}

/// Writes what a step made of a ring: its numbers, and every key that moved. Keys and
/// key sets that are new are inserted by their own functions before.
///
/// Returns whether every key still was where `before` says. If not, the caller takes
/// the transaction back.
///
/// # Errors
/// The schema allows no such change, or the database cannot be written.
pub async fn update(
    connection: &mut PgConnection,
    environment: &str,
    before: &KeyRing,
    after: &KeyRing,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let moved = before.keys().filter_map(|key| after.key(key.kid).map(|moved| (key, moved)));
    let mut moved: Vec<(&Key, &Key)> = moved.filter(|(key, moved)| key != moved).collect();
    // Whoever stops signing does so before another starts: one key per slot, at every statement.
    moved.sort_by_key(|(_, moved)| after.active(moved.slot()).map(|active| active.kid) == Some(moved.kid));
    for (key, moved) in moved {
        if !signing_keys::update(&mut *connection, key, moved, now).await? {
            return Ok(false);
        }
    }
    sqlx::query(
        "update key_rings set floor = $2, deny_list_serial = $3, longest_token_seconds = $4 where environment = $1",
    )
    .bind(environment)
    .bind(i64::from(after.floor()))
    .bind(i64::try_from(after.deny_list_serial()).map_err(StorageError::corrupt)?)
    .bind(after.longest_token().num_seconds())
    .execute(connection)
    .await?;
    Ok(true)
}

/// What an earlier copy of this database issued before this instant may be missing from the ledger;
/// `None` where it was never restored.
///
/// # Errors
/// The database cannot be read.
pub async fn find_recovered_at(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<DateTime<Utc>>, StorageError> {
    let found = sqlx::query_scalar("select recovered_at from key_rings where environment = $1")
        .bind(environment)
        .fetch_optional(connection)
        .await?;
    Ok(found.flatten())
}

/// Tells every replica that the keys have changed, once this transaction commits.
///
/// # Errors
/// The database cannot be reached.
pub async fn notify(connection: &mut PgConnection, environment: &str) -> Result<(), StorageError> {
    sqlx::query("select pg_notify($1, $2)").bind(CHANGES).bind(environment).execute(connection).await?;
    Ok(())
}

/// Holds the ring's row until the transaction ends: nobody else changes the ring meanwhile.
///
/// # Errors
/// The database cannot be read.
pub async fn lock(connection: &mut PgConnection, environment: &str) -> Result<(), StorageError> {
    sqlx::query("select from key_rings where environment = $1 for no key update")
        .bind(environment)
        .execute(connection)
        .await?;
    Ok(())
}

/// The channel (`LISTEN`) on which changes of keys are told; the payload is the environment.
pub const CHANGES: &str = "token_authority_keys";

fn number(version: i64) -> Result<u32, StorageError> {
    u32::try_from(version).map_err(StorageError::corrupt)
}
