//! The ledger: every token that ever left, written before it left.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StorageError;
use crate::domain::ids::{InstanceUid, Jti};

/// One row of the ledger, to be written.
#[derive(Clone, Debug)]
pub struct NewIssuance {
    pub jti: Jti,
    pub instance_number: i64,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub sync_digest: [u8; 16],
    pub idempotency: Option<[u8; 16]>,
    pub seats: Option<i64>,
    pub scope_set: i32,
    pub key_number: i16,
    pub catalog_number: i16,
    pub ends_with_grant: bool,
}

/// What a token of an earlier sync said, apart from what follows from its instance.
#[derive(Clone, Debug)]
pub struct RecordedToken {
    pub instance_number: i64,
    pub jti: Jti,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub seats: Option<i64>,
    pub backend: String,
    pub audience: String,
    pub scopes: Vec<String>,
    pub ends_with_grant: bool,
}

/// What a token grants, as the ledger shares it between tokens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ScopeSet {
    pub audience: String,
    pub backend: String,
    pub scopes: Vec<String>,
}

/// Writes the rows of a batch in one statement.
///
/// # Errors
/// The database refuses one of them, or cannot be reached.
pub async fn insert_all(connection: &mut PgConnection, rows: &[NewIssuance]) -> Result<(), StorageError> {
    /// One column of the batch.
    fn column<T>(rows: &[NewIssuance], value: impl Fn(&NewIssuance) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, idempotency, seats, \
                                scope_set, key_number, catalog_number, ends_with_grant) \
         select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::bytea[], $6::bytea[], \
                              $7::bigint[], $8::integer[], $9::smallint[], $10::smallint[], $11::boolean[])",
    )
    .bind(column(rows, |row| row.jti.as_uuid()))
    .bind(column(rows, |row| row.instance_number))
    .bind(column(rows, |row| row.issued_at))
    .bind(column(rows, |row| row.expires_at))
    .bind(column(rows, |row| row.sync_digest.to_vec()))
    .bind(column(rows, |row| row.idempotency.map(|key| key.to_vec())))
    .bind(column(rows, |row| row.seats))
    .bind(column(rows, |row| row.scope_set))
    .bind(column(rows, |row| row.key_number))
    .bind(column(rows, |row| row.catalog_number))
    .bind(column(rows, |row| row.ends_with_grant))
    .execute(connection)
    .await?;
    Ok(())
}

/// The number of a scope set, which is made where it is new.
///
/// # Errors
/// The database cannot be reached.
pub async fn insert_scope_set(connection: &mut PgConnection, set: &ScopeSet) -> Result<i32, StorageError> {
    loop {
        let found = sqlx::query_scalar(
            "select number from scope_sets where audience = $1 and backend = $2 and scopes = $3",
        )
        .bind(&set.audience)
        .bind(&set.backend)
        .bind(&set.scopes)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(number) = found {
            return Ok(number);
        }
        // Another replica may be making the same set: then this waits for it and the next read finds it.
        sqlx::query(
            "insert into scope_sets (audience, backend, scopes) values ($1, $2, $3) on conflict do nothing",
        )
        .bind(&set.audience)
        .bind(&set.backend)
        .bind(&set.scopes)
        .execute(&mut *connection)
        .await?;
    }
}

/// The tokens of one sync of each of these instances, by instance and backend: of several
/// with one digest within a second, the last one's.
///
/// # Errors
/// The database cannot be read.
pub async fn list_of_syncs(
    connection: &mut PgConnection,
    syncs: &[(i64, DateTime<Utc>, Vec<u8>)],
    since: DateTime<Utc>,
) -> Result<Vec<RecordedToken>, StorageError> {
    let rows = sqlx::query(
        "select t.instance_number, t.jti, t.issued_at, t.expires_at, t.seats, t.ends_with_grant, g.backend, g.audience, g.scopes \
         from unnest($1::bigint[], $2::timestamptz[], $3::bytea[]) as u (instance_number, issued_at, sync_digest) \
         join issuances t on t.instance_number = u.instance_number and t.issued_at = u.issued_at \
              and t.sync_digest = u.sync_digest and t.jti >= $4 \
         join scope_sets g on g.number = t.scope_set \
         order by t.instance_number, g.backend, t.expires_at desc",
    )
    .bind(syncs.iter().map(|(number, _, _)| *number).collect::<Vec<_>>())
    .bind(syncs.iter().map(|(_, issued_at, _)| *issued_at).collect::<Vec<_>>())
    .bind(syncs.iter().map(|(_, _, digest)| digest.clone()).collect::<Vec<_>>())
    .bind(first_jti_of(since))
    .fetch_all(connection)
    .await?;
    let mut tokens = rows
        .iter()
        .map(|row| {
            Ok(RecordedToken {
                instance_number: row.try_get("instance_number")?,
                jti: row.try_get::<Uuid, _>("jti")?.into(),
                issued_at: row.try_get("issued_at")?,
                expires_at: row.try_get("expires_at")?,
                seats: row.try_get("seats")?,
                backend: row.try_get("backend")?,
                audience: row.try_get("audience")?,
                scopes: row.try_get("scopes")?,
                ends_with_grant: row.try_get("ends_with_grant")?,
            })
        })
        .collect::<Result<Vec<_>, StorageError>>()?;
    // Tokens of one sync share the milliseconds of their `jti`.
    let millis = |token: &RecordedToken| token.jti.as_uuid().as_u128() >> 80;
    let mut last: HashMap<i64, u128> = HashMap::new();
    for token in &tokens {
        let last = last.entry(token.instance_number).or_default();
        *last = millis(token).max(*last);
    }
    tokens.retain(|token| last.get(&token.instance_number) == Some(&millis(token)));
    Ok(tokens)
}

/// The smallest `jti` of an instant (RFC 9562 §5.7: its milliseconds since 1970 come first). Computed here,
/// since a statement would compute it anew for each row, and could not leave partitions out.
pub(super) fn first_jti_of(instant: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(instant.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// When the last token of an instance expires; `None` if it never had one.
///
/// # Errors
/// The database cannot be read.
pub async fn find_last_expiry(
    connection: &mut PgConnection,
    instance: InstanceUid,
) -> Result<Option<DateTime<Utc>>, StorageError> {
    Ok(sqlx::query_scalar(
        "select max(expires_at) from issuances where instance_number = (select number from instances where uid = $1)",
    )
    .bind(instance.as_uuid())
    .fetch_one(connection)
    .await?)
}

/// When the last token of a key expires, of those issued since `since`; `None` if there are none.
///
/// # Errors
/// The database cannot be read.
pub async fn find_last_expiry_of_key(
    connection: &mut PgConnection,
    key_number: i16,
    since: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, StorageError> {
    Ok(sqlx::query_scalar("select max(expires_at) from issuances where key_number = $1 and jti >= $2")
        .bind(key_number)
        .bind(first_jti_of(since))
        .fetch_one(connection)
        .await?)
}

/// What of a key is alive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LiveTokens {
    pub tokens: i64,
    pub instances: i64,
    /// When the last of them expires.
    pub until: Option<DateTime<Utc>>,
}

/// The tokens of a key that have not expired at `now`, of those issued since `since`.
///
/// # Errors
/// The database cannot be read.
pub async fn find_live_of_key(
    connection: &mut PgConnection,
    key_number: i16,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<LiveTokens, StorageError> {
    let row = sqlx::query(
        "select count(*) as tokens, count(distinct instance_number) as instances, max(expires_at) as until \
         from issuances where key_number = $1 and jti >= $2 and expires_at > $3",
    )
    .bind(key_number)
    .bind(first_jti_of(since))
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok(LiveTokens {
        tokens: row.try_get("tokens")?,
        instances: row.try_get("instances")?,
        until: row.try_get("until")?,
    })
}

/// Makes the ledger's partitions of this month and the next three, where they are missing.
///
/// # Errors
/// The database cannot be written.
pub async fn make_partitions(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<i32, StorageError> {
    Ok(sqlx::query_scalar("select make_issuance_partitions($1, 3)").bind(now).fetch_one(connection).await?)
}

/// A month that the ledger forgot.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct ForgottenMonth {
    pub name: String,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// As the server estimates it: counting them would take longer than dropping them.
    pub about_tokens: i64,
    pub bytes: i64,
}

/// Drops the ledger's partitions of the months that ended by `before`.
///
/// # Errors
/// `before` is within the last seven days, somebody uses such a month for longer than this transaction waits, or the
/// database cannot be written.
pub async fn drop_partitions(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<Vec<ForgottenMonth>, StorageError> {
    let rows =
        sqlx::query("select name, since, until, about_tokens, bytes from drop_issuance_partitions($1)")
            .bind(before)
            .fetch_all(connection)
            .await?;
    rows.iter()
        .map(|row| {
            Ok(ForgottenMonth {
                name: row.try_get("name")?,
                since: row.try_get("since")?,
                until: row.try_get("until")?,
                about_tokens: row.try_get("about_tokens")?,
                bytes: row.try_get("bytes")?,
            })
        })
        .collect()
}
