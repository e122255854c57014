//! Client assertions that were accepted: each is taken once (RFC 7523 §3).

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StorageError;
use crate::domain::ids::InstanceUid;

/// One acceptance of an assertion.
#[derive(Clone, Copy, Debug)]
pub struct AssertionUse {
    pub uid: InstanceUid,
    pub jti_digest: [u8; 32],
    /// Of the assertion and the request it came with.
    pub request_digest: [u8; 32],
    /// Until when it must be remembered.
    pub expires_at: DateTime<Utc>,
}

/// Remembers the use. `false` when this `jti` came before with another request: a replay.
/// An identical retry is no replay.
///
/// # Errors
/// The database cannot be written.
pub async fn insert_once(connection: &mut PgConnection, used: &AssertionUse) -> Result<bool, StorageError> {
    let request: Vec<u8> = sqlx::query_scalar(
        "insert into assertion_uses (instance_uid, jti_digest, request, expires_at) values ($1, $2, $3, $4) \
         on conflict (instance_uid, jti_digest) do update set request = assertion_uses.request returning request",
    )
    .bind(used.uid.as_uuid())
    .bind(used.jti_digest)
    .bind(used.request_digest)
    .bind(used.expires_at)
    .fetch_one(connection)
    .await?;
    Ok(request == used.request_digest)
}

/// Forgets the uses whose assertions have expired. Returns how many.
///
/// # Errors
/// The database cannot be written.
pub async fn delete_expired(connection: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, StorageError> {
    let done =
        sqlx::query("delete from assertion_uses where expires_at < $1").bind(now).execute(connection).await?;
    Ok(done.rows_affected())
}
