//! Published key sets and the roots that signed them, byte for byte.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::StorageError;
use crate::domain::key_ring::Digest;

/// A key set as it was published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredKeySet {
    pub version: u32,
    /// The file `….jwks.json`.
    pub jwks: Vec<u8>,
    /// The file `….manifest.json`.
    pub manifest: Vec<u8>,
    /// What the root signed.
    pub payload: Vec<u8>,
    pub jwks_digest: Digest,
    pub payload_digest: Digest,
    /// The payload digest of the version before.
    pub prev: Option<Digest>,
    pub root_version: u32,
    pub created_at: DateTime<Utc>,
}

/// One line of the list of key sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeySetSummary {
    pub version: u32,
    pub jwks_digest: Digest,
    pub created_at: DateTime<Utc>,
}

/// A version of the root as it was published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredRoot {
    pub version: u32,
    pub file: Vec<u8>,
    /// What its signatures are over.
    pub payload: Vec<u8>,
    /// Of the payload: the name by which backends trust it.
    pub digest: Digest,
    /// Why trust begins anew with it; `None` where the root before it vouches for it.
    pub pinned_because: Option<String>,
}

/// One key set.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    environment: &str,
    version: u32,
) -> Result<Option<StoredKeySet>, StorageError> {
    let row = sqlx::query(
        "select version, jwks, manifest, payload, jwks_digest, payload_digest, prev, root_version, created_at \
         from key_sets where environment = $1 and version = $2",
    )
    .bind(environment)
    .bind(i64::from(version))
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(key_set).transpose()
}

/// The newest key set.
///
/// # Errors
/// The database cannot be read.
pub async fn find_latest(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<StoredKeySet>, StorageError> {
    let row = sqlx::query(
        "select version, jwks, manifest, payload, jwks_digest, payload_digest, prev, root_version, created_at \
         from key_sets where environment = $1 order by version desc limit 1",
    )
    .bind(environment)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(key_set).transpose()
}

/// Every key set, oldest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<KeySetSummary>, StorageError> {
    let rows = sqlx::query(
        "select version, jwks_digest, created_at from key_sets where environment = $1 order by version",
    )
    .bind(environment)
    .fetch_all(connection)
    .await?;
    let summaries = rows.iter().map(|row| {
        Ok(KeySetSummary {
            version: number(row, "version")?,
            jwks_digest: digest(row.try_get("jwks_digest")?)?,
            created_at: row.try_get("created_at")?,
        })
    });
    summaries.collect()
}

/// Records the next key set.
///
/// # Errors
/// It is not the next one of the chain, or the database cannot be written.
pub async fn insert(
    connection: &mut PgConnection,
    environment: &str,
    key_set: &StoredKeySet,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into key_sets (environment, version, jwks, manifest, payload, jwks_digest, payload_digest, prev, \
                               root_version, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(environment)
    .bind(i64::from(key_set.version))
    .bind(&key_set.jwks)
    .bind(&key_set.manifest)
    .bind(&key_set.payload)
    .bind(key_set.jwks_digest.as_bytes().as_slice())
    .bind(key_set.payload_digest.as_bytes().as_slice())
    .bind(key_set.prev.as_ref().map(|prev| prev.as_bytes().as_slice()))
    .bind(i64::from(key_set.root_version))
    .bind(key_set.created_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Every version of the root, oldest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_roots(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<StoredRoot>, StorageError> {
    let rows = sqlx::query(
        "select version, file, payload, digest, pinned_because from key_roots where environment = $1 order by version",
    )
    .bind(environment)
    .fetch_all(connection)
    .await?;
    let roots = rows.iter().map(|row| {
        Ok(StoredRoot {
            version: number(row, "version")?,
            file: row.try_get("file")?,
            payload: row.try_get("payload")?,
            digest: digest(row.try_get("digest")?)?,
            pinned_because: row.try_get("pinned_because")?,
        })
    });
    roots.collect()
}

/// Records the next root.
///
/// # Errors
/// It is not the next one, or the database cannot be written.
pub async fn insert_root(
    connection: &mut PgConnection,
    environment: &str,
    root: &StoredRoot,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into key_roots (environment, version, file, payload, digest, recorded_at, pinned_because) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(environment)
    .bind(i64::from(root.version))
    .bind(&root.file)
    .bind(&root.payload)
    .bind(root.digest.as_bytes().as_slice())
    .bind(now)
    .bind(&root.pinned_because)
    .execute(connection)
    .await?;
    Ok(())
}

fn key_set(row: &PgRow) -> Result<StoredKeySet, StorageError> {
    Ok(StoredKeySet {
        version: number(row, "version")?,
        jwks: row.try_get("jwks")?,
        manifest: row.try_get("manifest")?,
        payload: row.try_get("payload")?,
        jwks_digest: digest(row.try_get("jwks_digest")?)?,
        payload_digest: digest(row.try_get("payload_digest")?)?,
        prev: row.try_get::<Option<&[u8]>, _>("prev")?.map(digest).transpose()?,
        root_version: number(row, "root_version")?,
        created_at: row.try_get("created_at")?,
    })
}

fn number(row: &PgRow, column: &str) -> Result<u32, StorageError> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(StorageError::corrupt)
}

/// A stored SHA-256.
pub(super) fn digest(bytes: &[u8]) -> Result<Digest, StorageError> {
    bytes.try_into().map(Digest::new).map_err(StorageError::corrupt)
}
