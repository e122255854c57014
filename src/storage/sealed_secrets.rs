//! Secrets of the service itself, under the same seal as private halves.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::StorageError;
use crate::domain::sealed::{Sealed, SealedSecret, SecretName};

/// The newest version of a secret.
///
/// # Errors
/// The database cannot be read.
pub async fn find_latest(
    connection: &mut PgConnection,
    environment: &str,
    name: SecretName,
) -> Result<Option<SealedSecret>, StorageError> {
    let row = sqlx::query(
        "select version, sealed, sealed_by, sealed_version from sealed_secrets \
         where environment = $1 and name = $2 order by version desc limit 1",
    )
    .bind(environment)
    .bind(name.as_str())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let secret = Sealed {
            sealed_by: row.try_get("sealed_by")?,
            bytes: row.try_get("sealed")?,
            row_version: row.try_get("sealed_version")?,
        };
        Ok(SealedSecret {
            environment: environment.to_owned(),
            name,
            version: row.try_get("version")?,
            secret,
        })
    })
    .transpose()
}

/// Records a version of a secret.
///
/// # Errors
/// That version exists already, or the database cannot be written.
pub async fn insert(
    connection: &mut PgConnection,
    new: &SealedSecret,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into sealed_secrets (environment, name, version, sealed, sealed_by, sealed_version, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&new.environment)
    .bind(new.name.as_str())
    .bind(new.version)
    .bind(&new.secret.bytes)
    .bind(&new.secret.sealed_by)
    .bind(new.secret.row_version)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
