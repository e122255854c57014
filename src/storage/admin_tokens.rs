//! The credentials of the admin API, as keyed digests.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{StorageError, decode};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::AdminTokenId;

/// One token, less its digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminTokenRow {
    pub id: AdminTokenId,
    /// Who uses it: the audit names it.
    pub name: String,
    pub scopes: Vec<AdminScope>,
    /// From this instant on it opens nothing; `None` if it never expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// The token of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    id: AdminTokenId,
) -> Result<Option<AdminTokenRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where id = $1"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(token).transpose()
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    id: AdminTokenId,
) -> Result<Option<AdminTokenRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where id = $1 for no key update"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(token).transpose()
}

/// The token with this digest, valid or not.
///
/// # Errors
/// The database cannot be read.
pub async fn find_by_digest(
    connection: &mut PgConnection,
    digest: &[u8; 32],
) -> Result<Option<AdminTokenRow>, StorageError> {
    let row =
        sqlx::query(concat!(select!(), "where digest = $1")).bind(digest).fetch_optional(connection).await?;
    row.as_ref().map(token).transpose()
}

/// At most `limit` tokens after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    after: Option<AdminTokenId>,
    limit: i64,
) -> Result<Vec<AdminTokenRow>, StorageError> {
    let rows = sqlx::query(concat!(select!(), "where id > $1 order by id limit $2"))
        .bind(after.map_or(Uuid::nil(), AdminTokenId::as_uuid))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(token).collect()
}

/// Records a new token under its digest.
///
/// # Errors
/// The database cannot be written.
pub async fn insert(
    connection: &mut PgConnection,
    row: &AdminTokenRow,
    digest: &[u8; 32],
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into admin_tokens (id, name, digest, scopes, expires_at, last_used_at, revoked_at, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.id.as_uuid())
    .bind(&row.name)
    .bind(digest)
    .bind(row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>())
    .bind(row.expires_at)
    .bind(row.last_used_at)
    .bind(row.revoked_at)
    .bind(row.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the use of a token, to the minute: a busy caller writes no row per request.
///
/// # Errors
/// The database cannot be written.
pub async fn update_last_used(
    connection: &mut PgConnection,
    row: &AdminTokenRow,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    if row.last_used_at.is_some_and(|last| now - last < TimeDelta::minutes(1)) {
        return Ok(());
    }
    sqlx::query("update admin_tokens set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $2)")
        .bind(row.id.as_uuid())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a token for good.
///
/// # Errors
/// The database cannot be written.
pub async fn update_revoked(
    connection: &mut PgConnection,
    id: AdminTokenId,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query("update admin_tokens set revoked_at = $2 where id = $1 and revoked_at is null")
        .bind(id.as_uuid())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

fn token(row: &PgRow) -> Result<AdminTokenRow, StorageError> {
    let scopes: Vec<String> = row.try_get("scopes")?;
    Ok(AdminTokenRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        name: row.try_get("name")?,
        scopes: scopes.iter().map(|scope| decode(scope)).collect::<Result<_, _>>()?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
        revoked_at: row.try_get("revoked_at")?,
        created_at: row.try_get("created_at")?,
    })
}

macro_rules! select {
    () => {
        "select id, name, scopes, expires_at, last_used_at, revoked_at, created_at from admin_tokens "
    };
}
use select;
