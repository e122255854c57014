//! The organizations that buy.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one};
use crate::domain::ids::CustomerId;

/// One customer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CustomerRow {
    pub id: CustomerId,
    pub name: String,
    pub email: Option<String>,
    pub external_ref: Option<String>,
    /// Since when it takes no new subscriptions.
    pub archived_at: Option<DateTime<Utc>>,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Which customers a list is about; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    pub external_ref: Option<String>,
    pub archived: Option<bool>,
}

/// The customer of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    id: CustomerId,
) -> Result<Option<CustomerRow>, StorageError> {
    find_by(connection, concat!(select!(), "where id = $1"), id).await
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    id: CustomerId,
) -> Result<Option<CustomerRow>, StorageError> {
    find_by(connection, concat!(select!(), "where id = $1 for no key update"), id).await
}

/// The customer as it was first recorded.
///
/// # Errors
/// The database cannot be read.
pub async fn find_first_revision(
    connection: &mut PgConnection,
    id: CustomerId,
) -> Result<Option<CustomerRow>, StorageError> {
    let row = sqlx::query(concat!(
        "with customers as (select (jsonb_populate_record(null::public.customers, record)).* from record_revisions \
                          where kind = 'customers' and id = $1 and revision = 1) ",
        select!()
    ))
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(customer).transpose()
}

/// Whose `external_ref` this is.
///
/// # Errors
/// The database cannot be read.
pub async fn find_id_by_external_ref(
    connection: &mut PgConnection,
    external_ref: &str,
) -> Result<Option<CustomerId>, StorageError> {
    let id: Option<Uuid> = sqlx::query_scalar("select id from customers where external_ref = $1")
        .bind(external_ref)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(CustomerId::from))
}

/// At most `limit` customers after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &CustomerFilter,
    after: Option<CustomerId>,
    limit: i64,
) -> Result<Vec<CustomerRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where id > "));
    query.push_bind(after.map_or(Uuid::nil(), CustomerId::as_uuid));
    if let Some(external_ref) = &filter.external_ref {
        query.push(" and external_ref = ").push_bind(external_ref);
    }
    match filter.archived {
        Some(true) => _ = query.push(" and archived_at is not null"),
        Some(false) => _ = query.push(" and archived_at is null"),
        None => {}
    }
    query.push(" order by id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(customer).collect()
}

/// Records a new customer.
///
/// # Errors
/// The database refuses it (`customers_external_ref_key`), or cannot be reached.
pub async fn insert(connection: &mut PgConnection, row: &CustomerRow) -> Result<(), StorageError> {
    sqlx::query(
        "insert into customers (id, name, email, external_ref, archived_at, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.id.as_uuid())
    .bind(&row.name)
    .bind(&row.email)
    .bind(&row.external_ref)
    .bind(row.archived_at)
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the next revision of a customer.
///
/// # Errors
/// The database refuses it (`customers_external_ref_key`), another revision came between, or it cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &CustomerRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update customers set name = $3, email = $4, external_ref = $5, archived_at = $6, revision = $2, updated_at = $7 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(&row.name)
    .bind(&row.email)
    .bind(&row.external_ref)
    .bind(row.archived_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

async fn find_by(
    connection: &mut PgConnection,
    statement: &'static str,
    id: CustomerId,
) -> Result<Option<CustomerRow>, StorageError> {
    let row = sqlx::query(statement).bind(id.as_uuid()).fetch_optional(connection).await?;
    row.as_ref().map(customer).transpose()
}

fn customer(row: &PgRow) -> Result<CustomerRow, StorageError> {
    Ok(CustomerRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        external_ref: row.try_get("external_ref")?,
        archived_at: row.try_get("archived_at")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select id, name, email, external_ref, archived_at, revision, created_at, updated_at from customers "
    };
}
use select;
