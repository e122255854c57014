//! What instances reported of themselves over time. A trigger writes it, whichever way a report came.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::StorageError;
use crate::domain::ids::InstanceUid;

/// One report, kept when it was news.
#[derive(Clone, Debug)]
pub struct ReportRow {
    /// Later ones have higher numbers.
    pub sequence: i64,
    pub reported_at: DateTime<Utc>,
    pub version: String,
    pub hostname: String,
    pub usage: Option<serde_json::Value>,
}

/// At most `limit` reports of an instance from before the report `before`, latest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_of_instance(
    connection: &mut PgConnection,
    uid: InstanceUid,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ReportRow>, StorageError> {
    let rows = sqlx::query(
        "select sequence, reported_at, version, hostname, usage from instance_reports \
         where instance_uid = $1 and sequence < $2 order by sequence desc limit $3",
    )
    .bind(uid.as_uuid())
    .bind(before.unwrap_or(i64::MAX))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ReportRow {
                sequence: row.try_get("sequence")?,
                reported_at: row.try_get("reported_at")?,
                version: row.try_get("version")?,
                hostname: row.try_get("hostname")?,
                usage: row.try_get("usage")?,
            })
        })
        .collect()
}
