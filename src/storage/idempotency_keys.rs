//! Answers that a retry gets again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{StorageError, changed_one};

/// What a key belongs to: the same word of another caller, or for another route, is another key.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyScope<'a> {
    pub caller: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub key: &'a str,
}

/// What a request with a key meets.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The first one: it does the work, and stores its answer in the same transaction.
    Fresh,
    /// The key came before with another request.
    Reused,
    /// The same request was answered already.
    Stored(StoredAnswer),
}

/// An answer as it was given the first time.
#[derive(Clone, Debug)]
pub struct StoredAnswer {
    pub status: u16,
    pub etag: Option<String>,
    pub location: Option<String>,
    pub sealed_body: Vec<u8>,
}

/// Claims a key, or finds the answer that is stored under it.
///
/// A twin that runs at the same time is waited for: until its transaction ends, the claim stands.
///
/// # Errors
/// The database cannot be reached.
pub async fn claim(
    connection: &mut PgConnection,
    scope: IdempotencyScope<'_>,
    fingerprint: &[u8; 32],
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<Claim, StorageError> {
    let claimed = sqlx::query(
        "insert into idempotency_keys (caller, method, path, key, fingerprint, created_at, expires_at) \
         values ($1, $2, $3, $4, $5, $6, $7) \
         on conflict (caller, method, path, key) do update \
             set fingerprint = excluded.fingerprint, created_at = excluded.created_at, expires_at = excluded.expires_at, \
                 status = null, etag = null, location = null, sealed_body = null \
             where idempotency_keys.expires_at <= excluded.created_at",
    )
    .bind(scope.caller)
    .bind(scope.method)
    .bind(scope.path)
    .bind(scope.key)
    .bind(fingerprint)
    .bind(now)
    .bind(expires_at)
    .execute(&mut *connection)
    .await?;
    if claimed.rows_affected() == 1 {
        return Ok(Claim::Fresh);
    }
    // Another statement, for its snapshot follows the wait.
    let row = sqlx::query(
        "select fingerprint, status, etag, location, sealed_body from idempotency_keys \
         where caller = $1 and method = $2 and path = $3 and key = $4",
    )
    .bind(scope.caller)
    .bind(scope.method)
    .bind(scope.path)
    .bind(scope.key)
    .fetch_one(connection)
    .await?;
    let stored: Vec<u8> = row.try_get("fingerprint")?;
    if stored != fingerprint {
        return Ok(Claim::Reused);
    }
    let status: Option<i16> = row.try_get("status")?;
    let status = status.and_then(|status| u16::try_from(status).ok());
    let sealed_body: Option<Vec<u8>> = row.try_get("sealed_body")?;
    let (Some(status), Some(sealed_body)) = (status, sealed_body) else {
        return Err(StorageError::corrupt("an idempotency key was committed without its answer"));
    };
    Ok(Claim::Stored(StoredAnswer {
        status,
        etag: row.try_get("etag")?,
        location: row.try_get("location")?,
        sealed_body,
    }))
}

/// Stores the answer under a key that this transaction claimed.
///
/// # Errors
/// The database cannot be written.
pub async fn update_answer(
    connection: &mut PgConnection,
    scope: IdempotencyScope<'_>,
    answer: &StoredAnswer,
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update idempotency_keys set status = $5, etag = $6, location = $7, sealed_body = $8 \
         where caller = $1 and method = $2 and path = $3 and key = $4 and status is null",
    )
    .bind(scope.caller)
    .bind(scope.method)
    .bind(scope.path)
    .bind(scope.key)
    .bind(i16::try_from(answer.status).map_err(StorageError::corrupt)?)
    .bind(&answer.etag)
    .bind(&answer.location)
    .bind(&answer.sealed_body)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// Forgets the answers that nobody may ask for any more. Returns how many.
///
/// # Errors
/// The database cannot be written.
pub async fn delete_expired(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, StorageError> {
    let done = sqlx::query("delete from idempotency_keys where expires_at <= $1")
        .bind(now)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
