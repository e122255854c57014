//! Builds that a deployment pipeline has checked, for backends of which nothing may be running.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StorageError;
use crate::domain::catalog::BackendName;

/// A build, and the key set that is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedBuild {
    pub backend: BackendName,
    pub build: String,
    pub key_set_version: u32,
    /// The unit primitives of its contract, sorted; `None`: none was told.
    pub enforces: Option<Vec<String>>,
    pub checked_at: DateTime<Utc>,
}

/// Remembers a check; a later one of the same build takes its place.
///
/// # Errors
/// The database cannot be written.
pub async fn upsert(
    connection: &mut PgConnection,
    environment: &str,
    checked: &CheckedBuild,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into checked_builds (backend, build, environment, key_set_version, checked_at, enforces) \
         values ($1, $2, $3, $4, $5, $6) \
         on conflict (backend, build, key_set_version) do update \
         set checked_at = greatest(checked_builds.checked_at, excluded.checked_at), \
             enforces = coalesce(excluded.enforces, checked_builds.enforces)",
    )
    .bind(checked.backend.as_str())
    .bind(&checked.build)
    .bind(environment)
    .bind(i64::from(checked.key_set_version))
    .bind(checked.checked_at)
    .bind(&checked.enforces)
    .execute(connection)
    .await?;
    Ok(())
}
