//! Installations, and what they told of themselves.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StorageError;
use crate::domain::ids::InstanceUid;

/// What an instance reported that differs from what is recorded.
#[derive(Clone, Debug)]
pub struct Reported {
    pub uid: InstanceUid,
    pub version: String,
    /// `None`: as recorded.
    pub hostname: Option<String>,
    /// `None`: as recorded.
    pub usage: Option<serde_json::Value>,
}

/// Marks an instance whose identity two installations use. `false` when it was marked already.
///
/// # Errors
/// The database cannot be written.
pub async fn update_contested(
    connection: &mut PgConnection,
    uid: InstanceUid,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "update instances set identity_contested_at = $2, revision = revision + 1, updated_at = $2 \
         where uid = $1 and identity_contested_at is null",
    )
    .bind(uid.as_uuid())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records what a batch of instances reported. Returns nothing: each row is there, since
/// the batch has read it.
///
/// # Errors
/// The database cannot be written.
pub async fn update_reported(
    connection: &mut PgConnection,
    reported: &[Reported],
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instances i set version = u.version, hostname = coalesce(u.hostname, i.hostname), \
                reported_usage = coalesce(u.usage, i.reported_usage), revision = i.revision + 1, updated_at = $5 \
         from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[]) as u (uid, version, hostname, usage) \
         where i.uid = u.uid",
    )
    .bind(reported.iter().map(|one| one.uid.as_uuid()).collect::<Vec<_>>())
    .bind(reported.iter().map(|one| one.version.clone()).collect::<Vec<_>>())
    .bind(reported.iter().map(|one| one.hostname.clone()).collect::<Vec<_>>())
    .bind(reported.iter().map(|one| one.usage.clone()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
