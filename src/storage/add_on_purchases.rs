//! Add-ons that were bought, each with a quantity and a term of its own.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one, decode};
use crate::domain::catalog::AddOnName;
use crate::domain::ids::{PurchaseId, SubscriptionId};
use crate::domain::subscription::Term;

/// One purchase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PurchaseRow {
    pub id: PurchaseId,
    pub subscription_id: SubscriptionId,
    pub add_on: AddOnName,
    pub quantity: i32,
    pub term: Term,
    /// The same as the contract words it, in the subscription's time zone, where it was made in dates.
    pub starts_on: Option<NaiveDate>,
    pub ends_on: Option<NaiveDate>,
    /// When it was ended before its term; final.
    pub ended_at: Option<DateTime<Utc>>,
    pub external_ref: Option<String>,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Which purchases of a subscription a list is about; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct PurchaseFilter {
    pub add_on: Option<AddOnName>,
    pub external_ref: Option<String>,
}

/// The purchase of this id in this subscription.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, StorageError> {
    find_by(connection, concat!(select!(), "where id = $1 and subscription_id = $2"), subscription, id).await
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, StorageError> {
    let statement = concat!(select!(), "where id = $1 and subscription_id = $2 for no key update");
    find_by(connection, statement, subscription, id).await
}

/// The purchase of this id, whichever its subscription.
///
/// # Errors
/// The database cannot be read.
pub async fn find_anywhere(
    connection: &mut PgConnection,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where id = $1"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(purchase).transpose()
}

/// The purchase as it was first recorded.
///
/// # Errors
/// The database cannot be read.
pub async fn find_first_revision(
    connection: &mut PgConnection,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, StorageError> {
    let row = sqlx::query(concat!(
        "with add_on_purchases as (select (jsonb_populate_record(null::public.add_on_purchases, record)).* \
                                   from record_revisions \
                                   where kind = 'add_on_purchases' and id = $1 and revision = 1) ",
        select!()
    ))
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(purchase).transpose()
}

/// Whose `external_ref` this is.
///
/// # Errors
/// The database cannot be read.
pub async fn find_id_by_external_ref(
    connection: &mut PgConnection,
    external_ref: &str,
) -> Result<Option<PurchaseId>, StorageError> {
    let id: Option<Uuid> = sqlx::query_scalar("select id from add_on_purchases where external_ref = $1")
        .bind(external_ref)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(PurchaseId::from))
}

/// At most `limit` purchases of a subscription after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    filter: &PurchaseFilter,
    after: Option<PurchaseId>,
    limit: i64,
) -> Result<Vec<PurchaseRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where subscription_id = "));
    query.push_bind(subscription.as_uuid());
    query.push(" and id > ").push_bind(after.map_or(Uuid::nil(), PurchaseId::as_uuid));
    if let Some(add_on) = &filter.add_on {
        query.push(" and add_on = ").push_bind(add_on.as_str());
    }
    if let Some(external_ref) = &filter.external_ref {
        query.push(" and external_ref = ").push_bind(external_ref);
    }
    query.push(" order by id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(purchase).collect()
}

/// Records a new purchase.
///
/// # Errors
/// The database refuses it (`add_on_purchases_external_ref_key`), or cannot be reached.
pub async fn insert(connection: &mut PgConnection, row: &PurchaseRow) -> Result<(), StorageError> {
    sqlx::query(
        "insert into add_on_purchases (id, subscription_id, add_on, quantity, starts_at, ends_at, starts_on, ends_on, \
                                       ended_at, external_ref, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(row.id.as_uuid())
    .bind(row.subscription_id.as_uuid())
    .bind(row.add_on.as_str())
    .bind(row.quantity)
    .bind(row.term.starts_at())
    .bind(row.term.ends_at())
    .bind(row.starts_on)
    .bind(row.ends_on)
    .bind(row.ended_at)
    .bind(&row.external_ref)
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the next revision of a purchase.
///
/// # Errors
/// The database refuses it (`add_on_purchases_external_ref_key`, `add_on_purchases_ended_is_final`), another
/// revision came between, or it cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &PurchaseRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update add_on_purchases set add_on = $3, quantity = $4, starts_at = $5, ends_at = $6, starts_on = $7, \
                ends_on = $8, ended_at = $9, external_ref = $10, revision = $2, updated_at = $11 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(row.add_on.as_str())
    .bind(row.quantity)
    .bind(row.term.starts_at())
    .bind(row.term.ends_at())
    .bind(row.starts_on)
    .bind(row.ends_on)
    .bind(row.ended_at)
    .bind(&row.external_ref)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

async fn find_by(
    connection: &mut PgConnection,
    statement: &'static str,
    subscription: SubscriptionId,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, StorageError> {
    let row = sqlx::query(statement)
        .bind(id.as_uuid())
        .bind(subscription.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(purchase).transpose()
}

fn purchase(row: &PgRow) -> Result<PurchaseRow, StorageError> {
    let term = Term::new(row.try_get("starts_at")?, row.try_get("ends_at")?);
    Ok(PurchaseRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        subscription_id: row.try_get::<Uuid, _>("subscription_id")?.into(),
        add_on: decode(row.try_get("add_on")?)?,
        quantity: row.try_get("quantity")?,
        term: term.ok_or_else(|| StorageError::corrupt("a term that ends before it starts"))?,
        starts_on: row.try_get("starts_on")?,
        ends_on: row.try_get("ends_on")?,
        ended_at: row.try_get("ended_at")?,
        external_ref: row.try_get("external_ref")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select id, subscription_id, add_on, quantity, starts_at, ends_at, starts_on, ends_on, ended_at, external_ref, \
                revision, created_at, updated_at \
         from add_on_purchases "
    };
}
use select;
