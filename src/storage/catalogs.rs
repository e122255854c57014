//! The versions of the catalog that ever decided something, and which one did since when.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::StorageError;
use crate::domain::catalog::{Catalog, CatalogDigest};

/// A version of the catalog as it was stored.
#[derive(Clone, Debug)]
pub struct StoredCatalog {
    pub catalog: Catalog,
    /// What the ledger calls it.
    pub number: i16,
    pub first_loaded_at: DateTime<Utc>,
}

/// Stores a version unless it is there already, and says that it decides from `now` on. Returns its number.
///
/// # Errors
/// There is no transaction, or the database cannot be written.
pub async fn record_active(
    connection: &mut PgConnection,
    catalog: &Catalog,
    now: DateTime<Utc>,
) -> Result<i16, StorageError> {
    let number = insert_if_new(connection, catalog, now).await?;
    insert_activation(connection, catalog.digest(), now).await?;
    Ok(number)
}

/// Stores a version unless it is there already. Returns its number either way.
///
/// # Errors
/// The database cannot be written.
pub async fn insert_if_new(
    connection: &mut PgConnection,
    catalog: &Catalog,
    now: DateTime<Utc>,
) -> Result<i16, StorageError> {
    // Numbers are few. A conflict would use one up, which every start of every replica would cause: so
    // look first. Only two replicas that start at once with a new version can still waste one.
    if let Some(number) = find_number(connection, catalog.digest()).await? {
        return Ok(number);
    }
    sqlx::query(
        "insert into catalogs (digest, content, first_loaded_at) values ($1, $2, $3) on conflict (digest) do nothing",
    )
    .bind(catalog.digest().as_str())
    .bind(catalog.canonical_json())
    .bind(now)
    .execute(&mut *connection)
    .await?;
    find_number(connection, catalog.digest())
        .await?
        .ok_or_else(|| StorageError::corrupt("a catalog that was just stored is not there"))
}

/// The number of a version.
///
/// # Errors
/// The database cannot be read.
pub async fn find_number(
    connection: &mut PgConnection,
    digest: &CatalogDigest,
) -> Result<Option<i16>, StorageError> {
    let number = sqlx::query_scalar("select number from catalogs where digest = $1")
        .bind(digest.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(number)
}

/// The version with this digest.
///
/// # Errors
/// The database cannot be read, or holds what is no catalog.
pub async fn find_by_digest(
    connection: &mut PgConnection,
    digest: &CatalogDigest,
) -> Result<Option<StoredCatalog>, StorageError> {
    let row = sqlx::query("select content, number, first_loaded_at from catalogs where digest = $1")
        .bind(digest.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored).transpose()
}

/// The version with this number: what a row of the ledger names.
///
/// # Errors
/// The database cannot be read, or holds what is no catalog.
pub async fn find_by_number(
    connection: &mut PgConnection,
    number: i16,
) -> Result<Option<StoredCatalog>, StorageError> {
    let row = sqlx::query("select content, number, first_loaded_at from catalogs where number = $1")
        .bind(number)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(stored).transpose()
}

/// Says that a stored version decides from `now` on. Returns whether it did not do so already.
///
/// The order of these calls is the order of the versions, whatever the clocks of two replicas say: an
/// activation is never dated before the one it follows.
///
/// # Errors
/// The version is not stored, there is no transaction, or the database cannot be written.
pub async fn insert_activation(
    connection: &mut PgConnection,
    digest: &CatalogDigest,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    // Until the transaction ends; readers go on.
    sqlx::query("lock table catalog_activations in share row exclusive mode")
        .execute(&mut *connection)
        .await?;
    let inserted = sqlx::query(
        "insert into catalog_activations (digest, activated_at) \
         select $1, greatest($2, (select max(activated_at) from catalog_activations)) \
         where $1 is distinct from (select digest from catalog_activations order by id desc limit 1)",
    )
    .bind(digest.as_str())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The version that was said to decide last; `None` before the first one.
///
/// # Errors
/// The database cannot be read, or holds what is no catalog.
pub async fn find_newest_active(connection: &mut PgConnection) -> Result<Option<Catalog>, StorageError> {
    let content: Option<String> = sqlx::query_scalar(
        "select c.content from catalog_activations a join catalogs c on c.digest = a.digest \
         order by a.id desc limit 1",
    )
    .fetch_optional(connection)
    .await?;
    content.map(|content| Catalog::from_json(&content).map_err(StorageError::corrupt)).transpose()
}

/// The version that decided at `at`; `None` before the first one.
///
/// # Errors
/// The database cannot be read, or holds what is no catalog.
pub async fn find_active_at(
    connection: &mut PgConnection,
    at: DateTime<Utc>,
) -> Result<Option<Catalog>, StorageError> {
    let content: Option<String> = sqlx::query_scalar(
        "select c.content from catalog_activations a join catalogs c on c.digest = a.digest \
         where a.activated_at <= $1 order by a.activated_at desc, a.id desc limit 1",
    )
    .bind(at)
    .fetch_optional(connection)
    .await?;
    content.map(|content| Catalog::from_json(&content).map_err(StorageError::corrupt)).transpose()
}

fn stored(row: &PgRow) -> Result<StoredCatalog, StorageError> {
    let content: String = row.try_get("content")?;
    let catalog = Catalog::from_json(&content).map_err(StorageError::corrupt)?;
    Ok(StoredCatalog {
        catalog,
        number: row.try_get("number")?,
        first_loaded_at: row.try_get("first_loaded_at")?,
    })
}
