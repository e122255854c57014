//! The signed deny lists, one for each serial.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::StorageError;

/// A deny list as it is handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredDenyList {
    pub serial: u64,
    pub created_at: DateTime<Utc>,
    /// Compact JWS.
    pub jws: String,
}

/// The newest list; `None` before the first was signed.
///
/// # Errors
/// The database cannot be read.
pub async fn find_latest(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<StoredDenyList>, StorageError> {
    let row = sqlx::query(
        "select serial, created_at, jws from deny_lists where environment = $1 order by serial desc limit 1",
    )
    .bind(environment)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(StoredDenyList {
            serial: u64::try_from(row.try_get::<i64, _>("serial")?).map_err(StorageError::corrupt)?,
            created_at: row.try_get("created_at")?,
            jws: row.try_get("jws")?,
        })
    })
    .transpose()
}

/// Records a list, or the same one signed anew.
///
/// # Errors
/// A later one is recorded, or the database cannot be written.
pub async fn upsert(
    connection: &mut PgConnection,
    environment: &str,
    list: &StoredDenyList,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into deny_lists (environment, serial, created_at, jws) values ($1, $2, $3, $4) \
         on conflict (environment, serial) do update set created_at = $3, jws = $4",
    )
    .bind(environment)
    .bind(i64::try_from(list.serial).map_err(StorageError::corrupt)?)
    .bind(list.created_at)
    .bind(&list.jws)
    .execute(connection)
    .await?;
    Ok(())
}
