//! Whether the database knows itself to be an old copy, and the high-water mark of its clock.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};

use super::StorageError;

/// Why nothing is minted and no key changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SafeMode {
    pub since: DateTime<Utc>,
    /// What the database is behind.
    pub reason: String,
}

/// Whether the ring is in safe mode, and why.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<SafeMode>, StorageError> {
    let row = sqlx::query(
        "select safe_mode_since, safe_mode_reason from key_rings \
         where environment = $1 and safe_mode_since is not null",
    )
    .bind(environment)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(SafeMode { since: row.try_get("safe_mode_since")?, reason: row.try_get("safe_mode_reason")? })
    })
    .transpose()
}

/// Puts the ring into safe mode, unless it is. Returns whether it was put there now.
///
/// It has no row in the audit: the audit of an old copy is to go on from where it was signed. The recovery has one.
///
/// # Errors
/// The database cannot be written.
pub async fn enter(
    connection: &mut PgConnection,
    environment: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let entered = sqlx::query(
        "update key_rings set safe_mode_since = $3, safe_mode_reason = $2 \
         where environment = $1 and safe_mode_since is null",
    )
    .bind(environment)
    .bind(reason)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(entered.rows_affected() == 1)
}

/// Takes the ring out of safe mode: from here on it knows again what it forgot, up to this event of the audit.
///
/// # Errors
/// The database cannot be written.
pub async fn leave(
    connection: &mut PgConnection,
    environment: &str,
    reconciled_to: u64,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update key_rings set safe_mode_since = null, safe_mode_reason = null, recovered_at = $3, \
                reconciled_to = greatest(reconciled_to, $2) where environment = $1",
    )
    .bind(environment)
    .bind(i64::try_from(reconciled_to).map_err(StorageError::corrupt)?)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The last event of an audit that a recovery has taken over, or was told to go without; 0 before the first.
///
/// # Errors
/// The database cannot be read.
pub async fn find_reconciled_to(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<u64, StorageError> {
    let found: Option<i64> = sqlx::query_scalar("select reconciled_to from key_rings where environment = $1")
        .bind(environment)
        .fetch_optional(connection)
        .await?;
    u64::try_from(found.unwrap_or(0)).map_err(StorageError::corrupt)
}

/// Raises the high-water mark to what the database's clock shows now. Only for a caller whose own clock agrees.
///
/// # Errors
/// The database cannot be written.
pub async fn raise_clock_mark(connection: &mut PgConnection, environment: &str) -> Result<(), StorageError> {
    sqlx::query(
        "insert into clock_marks (environment, high_water) \
         select environment, clock_timestamp() from key_rings where environment = $1 \
         on conflict (environment) do update set high_water = greatest(clock_marks.high_water, excluded.high_water)",
    )
    .bind(environment)
    .execute(connection)
    .await?;
    Ok(())
}

/// How far the database's clock is behind the high-water mark; `None` while it is not.
///
/// # Errors
/// The database cannot be read.
pub async fn find_clock_jump(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<TimeDelta>, StorageError> {
    let row =
        sqlx::query("select high_water, clock_timestamp() as now from clock_marks where environment = $1")
            .bind(environment)
            .fetch_optional(connection)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let (mark, now): (DateTime<Utc>, DateTime<Utc>) = (row.try_get("high_water")?, row.try_get("now")?);
    Ok(Some(mark - now).filter(|back| *back > CLOCK_TOLERANCE))
}

/// A clock that is corrected by less than this has not jumped.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(5);
