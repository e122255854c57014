//! How far the line of one-time values of each instance has come.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StorageError;
use crate::domain::ids::InstanceUid;
use crate::domain::sync_line::LinkId;

/// The newest value that came back of each of these instances; none where a line starts anew. The caller holds
/// their locks.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    uids: &[InstanceUid],
) -> Result<HashMap<InstanceUid, LinkId>, StorageError> {
    let rows = sqlx::query(
        "select instance_uid, seen from sync_lines where instance_uid = any($1) and seen is not null",
    )
    .bind(uids.iter().map(|uid| uid.as_uuid()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let seen: Vec<u8> = row.try_get("seen")?;
            let seen =
                seen.try_into().map_err(|_| StorageError::corrupt("a value that is not 16 bytes long"))?;
            Ok((row.try_get::<Uuid, _>("instance_uid")?.into(), seen))
        })
        .collect()
}

/// Records the values that came back.
///
/// # Errors
/// The database cannot be written.
pub async fn upsert_all(
    connection: &mut PgConnection,
    seen: &HashMap<InstanceUid, LinkId>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into sync_lines (instance_uid, seen, seen_at) select u.uid, u.seen, $3 \
         from unnest($1::uuid[], $2::bytea[]) as u (uid, seen) \
         on conflict (instance_uid) do update set seen = excluded.seen, seen_at = excluded.seen_at",
    )
    .bind(seen.keys().map(|uid| uid.as_uuid()).collect::<Vec<_>>())
    .bind(seen.values().map(|seen| seen.to_vec()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets a line start anew.
///
/// # Errors
/// The database cannot be written.
pub async fn update_to_start_anew(
    connection: &mut PgConnection,
    uid: InstanceUid,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query("update sync_lines set seen = null, seen_at = $2 where instance_uid = $1")
        .bind(uid.as_uuid())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}
