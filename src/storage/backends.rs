//! The registered verifiers of tokens.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{StorageError, changed_one, decode};
use crate::domain::backend::KeyTrust;
use crate::domain::catalog::BackendName;
use crate::domain::key_ring::Algorithm;

/// One backend, less the digest of its token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendRow {
    /// As the catalog names it.
    pub name: BackendName,
    /// What its verifier understands.
    pub alg: Algorithm,
    pub trust: KeyTrust,
    /// How many of its processes must report before a key may be armed.
    pub min_live: i32,
    /// Whether a token to report with was made.
    pub has_token: bool,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The backend of this name.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    name: &BackendName,
) -> Result<Option<BackendRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where name = $1"))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(backend).transpose()
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    name: &BackendName,
) -> Result<Option<BackendRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where name = $1 for no key update"))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(backend).transpose()
}

/// The backend whose token has this digest.
///
/// # Errors
/// The database cannot be read.
pub async fn find_by_token_digest(
    connection: &mut PgConnection,
    digest: &[u8; 32],
) -> Result<Option<BackendRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where token_digest = $1"))
        .bind(digest)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(backend).transpose()
}

/// At most `limit` backends after `after`, in the order of their names.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    after: Option<&BackendName>,
    limit: i64,
) -> Result<Vec<BackendRow>, StorageError> {
    let rows = sqlx::query(concat!(select!(), "where name > $1 order by name limit $2"))
        .bind(after.map_or("", BackendName::as_str))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(backend).collect()
}

/// The backends for which no key may sign now, with their algorithms, in the order of their names.
///
/// # Errors
/// The database cannot be read.
pub async fn list_unserved(
    connection: &mut PgConnection,
    environment: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(BackendName, Algorithm)>, StorageError> {
    let rows = sqlx::query(
        "select name, alg from backends b where not exists (\
             select from signing_keys k where k.environment = $1 and k.purpose = 'access_tokens' \
             and k.state = 'active' and k.alg = b.alg and k.not_after > $2) order by name",
    )
    .bind(environment)
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((decode(row.try_get("name")?)?, decode(row.try_get("alg")?)?))).collect()
}

/// Registers a backend; it has no token yet. `false` when it is registered already.
///
/// # Errors
/// The database cannot be written.
pub async fn insert(connection: &mut PgConnection, row: &BackendRow) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "insert into backends (name, alg, trust, min_live, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (name) do nothing",
    )
    .bind(row.name.as_str())
    .bind(row.alg.as_str())
    .bind(row.trust.as_str())
    .bind(row.min_live)
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes the next revision of a backend; its token stays.
///
/// # Errors
/// Another revision came between, or the database cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &BackendRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update backends set alg = $3, trust = $4, min_live = $5, revision = $2, updated_at = $6 \
         where name = $1 and revision = $2 - 1",
    )
    .bind(row.name.as_str())
    .bind(row.revision)
    .bind(row.alg.as_str())
    .bind(row.trust.as_str())
    .bind(row.min_live)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// Writes the next revision of a backend with another token; the one before opens nothing from now on.
///
/// # Errors
/// Another revision came between, or the database cannot be reached.
pub async fn update_token(
    connection: &mut PgConnection,
    row: &BackendRow,
    token_digest: &[u8; 32],
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update backends set token_digest = $3, revision = $2, updated_at = $4 where name = $1 and revision = $2 - 1",
    )
    .bind(row.name.as_str())
    .bind(row.revision)
    .bind(token_digest)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

fn backend(row: &PgRow) -> Result<BackendRow, StorageError> {
    Ok(BackendRow {
        name: decode(row.try_get("name")?)?,
        alg: decode(row.try_get("alg")?)?,
        trust: decode(row.try_get("trust")?)?,
        min_live: row.try_get("min_live")?,
        has_token: row.try_get("has_token")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select name, alg, trust, min_live, token_digest is not null as has_token, revision, created_at, updated_at \
         from backends "
    };
}
use select;
