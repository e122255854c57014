//! Installations as an administrator sees and changes them.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one, decode};
use crate::domain::ids::{CustomerId, InstanceId, InstanceUid, LicenseId, SubscriptionId};
use crate::domain::instance::{Deployment, InstanceKind, InstanceState};

/// One instance, less its credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRow {
    pub uid: InstanceUid,
    pub license_id: LicenseId,
    pub subscription_id: SubscriptionId,
    pub instance_id: InstanceId,
    pub hostname: String,
    pub version: String,
    pub deployment: Deployment,
    pub kind: InstanceKind,
    pub state: InstanceState,
    pub state_since: DateTime<Utc>,
    pub state_reason: Option<String>,
    /// Until then a released instance keeps its place under the license.
    pub place_held_until: Option<DateTime<Utc>>,
    /// Whether it authenticates by a registered key.
    pub has_public_key: bool,
    /// Whether it may register another key once.
    pub reactivation_allowed: bool,
    /// Since when two installations are known to share this identity.
    pub identity_contested_at: Option<DateTime<Utc>>,
    pub disabled_unit_primitives: Vec<String>,
    pub disabled_backends: Vec<String>,
    pub reported_usage: Option<serde_json::Value>,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Which instances a list is about; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct InstanceFilter {
    pub license_id: Option<LicenseId>,
    pub subscription_id: Option<SubscriptionId>,
    pub customer_id: Option<CustomerId>,
    pub instance_id: Option<InstanceId>,
    pub kind: Option<InstanceKind>,
    pub state: Option<InstanceState>,
    pub contested: Option<bool>,
}

/// The instance of this uid.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    uid: InstanceUid,
) -> Result<Option<InstanceRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where i.uid = $1"))
        .bind(uid.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(instance).transpose()
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    uid: InstanceUid,
) -> Result<Option<InstanceRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where i.uid = $1 for no key update of i"))
        .bind(uid.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(instance).transpose()
}

/// At most `limit` instances after `after`, in the order of their uids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &InstanceFilter,
    after: Option<InstanceUid>,
    limit: i64,
) -> Result<Vec<InstanceRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where i.uid > "));
    query.push_bind(after.map_or(Uuid::nil(), InstanceUid::as_uuid));
    if let Some(license) = filter.license_id {
        query.push(" and i.license_id = ").push_bind(license.as_uuid());
    }
    if let Some(subscription) = filter.subscription_id {
        query.push(" and l.subscription_id = ").push_bind(subscription.as_uuid());
    }
    if let Some(customer) = filter.customer_id {
        query.push(
            " and i.license_id in (select l.id from licenses l join subscriptions s on s.id = l.subscription_id \
                                   where s.customer_id = ",
        );
        query.push_bind(customer.as_uuid()).push(")");
    }
    if let Some(kind) = filter.kind {
        query.push(" and i.kind = ").push_bind(kind.as_str());
    }
    if let Some(instance_id) = filter.instance_id {
        query.push(" and i.instance_id = ").push_bind(instance_id.as_uuid());
    }
    if let Some(state) = filter.state {
        query.push(" and i.state = ").push_bind(state.as_str());
    }
    match filter.contested {
        Some(true) => _ = query.push(" and i.identity_contested_at is not null"),
        Some(false) => _ = query.push(" and i.identity_contested_at is null"),
        None => {}
    }
    query.push(" order by i.uid limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(instance).collect()
}

/// Writes the next revision of what an administrator may change of an instance.
///
/// # Errors
/// The database refuses it (`instances_cap`), another revision came between, or it cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &InstanceRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update instances set state = $3, state_since = $4, state_reason = $5, place_held_until = $6, \
                reactivation_allowed = $7, identity_contested_at = $8, revision = $2, updated_at = $9 \
         where uid = $1 and revision = $2 - 1",
    )
    .bind(row.uid.as_uuid())
    .bind(row.revision)
    .bind(row.state.as_str())
    .bind(row.state_since)
    .bind(&row.state_reason)
    .bind(row.place_held_until)
    .bind(row.reactivation_allowed)
    .bind(row.identity_contested_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

fn instance(row: &PgRow) -> Result<InstanceRow, StorageError> {
    Ok(InstanceRow {
        uid: row.try_get::<Uuid, _>("uid")?.into(),
        license_id: row.try_get::<Uuid, _>("license_id")?.into(),
        subscription_id: row.try_get::<Uuid, _>("subscription_id")?.into(),
        instance_id: row.try_get::<Uuid, _>("instance_id")?.into(),
        hostname: row.try_get("hostname")?,
        version: row.try_get("version")?,
        deployment: decode(row.try_get("deployment")?)?,
        kind: decode(row.try_get("kind")?)?,
        state: decode(row.try_get("state")?)?,
        state_since: row.try_get("state_since")?,
        state_reason: row.try_get("state_reason")?,
        place_held_until: row.try_get("place_held_until")?,
        has_public_key: row.try_get("has_public_key")?,
        reactivation_allowed: row.try_get("reactivation_allowed")?,
        identity_contested_at: row.try_get("identity_contested_at")?,
        disabled_unit_primitives: row.try_get("disabled_unit_primitives")?,
        disabled_backends: row.try_get("disabled_backends")?,
        reported_usage: row.try_get("reported_usage")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select i.uid, i.license_id, l.subscription_id, i.instance_id, i.hostname, i.version, i.deployment, i.kind, \
                i.state, i.state_since, i.state_reason, i.place_held_until, i.public_key is not null as has_public_key, \
                i.reactivation_allowed, i.identity_contested_at, i.disabled_unit_primitives, i.disabled_backends, \
                i.reported_usage, i.revision, i.created_at, i.updated_at \
         from instances i join licenses l on l.id = i.license_id "
    };
}
use select;
