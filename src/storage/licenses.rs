//! The rights to activate instances. The activation code itself is kept nowhere: only its keyed digest.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one, decode};
use crate::domain::ids::{LicenseId, SubscriptionId};
use crate::domain::license::LicenseKind;

/// One license, less the digest of its code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LicenseRow {
    pub id: LicenseId,
    pub subscription_id: SubscriptionId,
    pub kind: LicenseKind,
    /// How many instances of each kind may hold a place.
    pub max_instances: i32,
    /// Whether today's instances may use it as a bearer credential.
    pub legacy_bearer: bool,
    pub external_ref: Option<String>,
    pub revocation: Option<Revocation>,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The end of a license; final.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    pub at: DateTime<Utc>,
    pub reason: String,
}

/// Which licenses a list is about; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct LicenseFilter {
    pub subscription_id: Option<SubscriptionId>,
    pub external_ref: Option<String>,
    pub revoked: Option<bool>,
}

/// The license of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(connection: &mut PgConnection, id: LicenseId) -> Result<Option<LicenseRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where id = $1"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(license).transpose()
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    id: LicenseId,
) -> Result<Option<LicenseRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where id = $1 for no key update"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(license).transpose()
}

/// The license that an activation code with this digest opens.
///
/// # Errors
/// The database cannot be read.
pub async fn find_by_activation_code(
    connection: &mut PgConnection,
    digest: &[u8; 32],
) -> Result<Option<LicenseRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where activation_code_digest = $1"))
        .bind(digest)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(license).transpose()
}

/// The same, and holds it until the transaction ends: activations under one license queue,
/// and none slips past a revocation.
///
/// # Errors
/// The database cannot be read.
pub async fn find_by_activation_code_for_update(
    connection: &mut PgConnection,
    digest: &[u8; 32],
) -> Result<Option<LicenseRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where activation_code_digest = $1 for no key update"))
        .bind(digest)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(license).transpose()
}

/// The license as it was first recorded.
///
/// # Errors
/// The database cannot be read.
pub async fn find_first_revision(
    connection: &mut PgConnection,
    id: LicenseId,
) -> Result<Option<LicenseRow>, StorageError> {
    let row = sqlx::query(concat!(
        "with licenses as (select (jsonb_populate_record(null::public.licenses, record)).* from record_revisions \
                          where kind = 'licenses' and id = $1 and revision = 1) ",
        select!()
    ))
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(license).transpose()
}

/// Whose `external_ref` this is.
///
/// # Errors
/// The database cannot be read.
pub async fn find_id_by_external_ref(
    connection: &mut PgConnection,
    external_ref: &str,
) -> Result<Option<LicenseId>, StorageError> {
    let id: Option<Uuid> = sqlx::query_scalar("select id from licenses where external_ref = $1")
        .bind(external_ref)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(LicenseId::from))
}

/// At most `limit` licenses after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &LicenseFilter,
    after: Option<LicenseId>,
    limit: i64,
) -> Result<Vec<LicenseRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where id > "));
    query.push_bind(after.map_or(Uuid::nil(), LicenseId::as_uuid));
    if let Some(subscription) = filter.subscription_id {
        query.push(" and subscription_id = ").push_bind(subscription.as_uuid());
    }
    if let Some(external_ref) = &filter.external_ref {
        query.push(" and external_ref = ").push_bind(external_ref);
    }
    match filter.revoked {
        Some(true) => _ = query.push(" and revoked_at is not null"),
        Some(false) => _ = query.push(" and revoked_at is null"),
        None => {}
    }
    query.push(" order by id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(license).collect()
}

/// Records a new license under the digest of its activation code.
///
/// # Errors
/// The database refuses it (`licenses_external_ref_key`), or cannot be reached.
pub async fn insert(
    connection: &mut PgConnection,
    row: &LicenseRow,
    activation_code_digest: &[u8; 32],
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into licenses (id, subscription_id, kind, max_instances, legacy_bearer, activation_code_digest, \
                               external_ref, revoked_at, revoked_reason, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(row.id.as_uuid())
    .bind(row.subscription_id.as_uuid())
    .bind(row.kind.as_str())
    .bind(row.max_instances)
    .bind(row.legacy_bearer)
    .bind(activation_code_digest)
    .bind(&row.external_ref)
    .bind(row.revocation.as_ref().map(|revocation| revocation.at))
    .bind(row.revocation.as_ref().map(|revocation| &revocation.reason))
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the next revision of a license; its code stays.
///
/// # Errors
/// The database refuses it (`licenses_revoked_is_final`), another revision came between, or it cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &LicenseRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update licenses set max_instances = $3, legacy_bearer = $4, external_ref = $5, revoked_at = $6, \
                revoked_reason = $7, revision = $2, updated_at = $8 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(row.max_instances)
    .bind(row.legacy_bearer)
    .bind(&row.external_ref)
    .bind(row.revocation.as_ref().map(|revocation| revocation.at))
    .bind(row.revocation.as_ref().map(|revocation| &revocation.reason))
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// Writes the next revision of a license under another code; the one before opens nothing from now on.
///
/// # Errors
/// Another revision came between, or the database cannot be reached.
pub async fn update_activation_code(
    connection: &mut PgConnection,
    row: &LicenseRow,
    activation_code_digest: &[u8; 32],
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update licenses set activation_code_digest = $3, revision = $2, updated_at = $4 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(activation_code_digest)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

fn license(row: &PgRow) -> Result<LicenseRow, StorageError> {
    let revoked_at: Option<DateTime<Utc>> = row.try_get("revoked_at")?;
    let revoked_reason: Option<String> = row.try_get("revoked_reason")?;
    Ok(LicenseRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        subscription_id: row.try_get::<Uuid, _>("subscription_id")?.into(),
        kind: decode(row.try_get("kind")?)?,
        max_instances: row.try_get("max_instances")?,
        legacy_bearer: row.try_get("legacy_bearer")?,
        external_ref: row.try_get("external_ref")?,
        revocation: revoked_at.zip(revoked_reason).map(|(at, reason)| Revocation { at, reason }),
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select id, subscription_id, kind, max_instances, legacy_bearer, external_ref, revoked_at, revoked_reason, \
                revision, created_at, updated_at \
         from licenses "
    };
}
use select;
