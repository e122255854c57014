//! Reads all that a decision depends on: for a batch of instances at once, or as it was recorded at an instant.

mod batch;
mod row;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

pub use batch::list_for_batch;

use super::{StorageError, decode};
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::AddOnName;
use crate::domain::entitlement::Situation;
use crate::domain::ids::{InstanceCredentialId, InstanceId, InstanceUid, SubscriptionId};
use crate::domain::instance::{Deployment, InstanceStanding};
use crate::domain::key_ring::Algorithm;
use crate::domain::license::LicenseStanding;
use crate::domain::subscription::{SubscriptionStanding, Term};

/// A registered key that another one took the place of.
#[derive(Clone, Debug)]
pub struct PreviousKey {
    pub public_key: Vec<u8>,
    /// `None`: the newer one was not used yet.
    pub dies_at: Option<DateTime<Utc>>,
}

/// What is recorded of one instance.
#[derive(Clone, Debug)]
pub struct InstanceFacts {
    pub uid: InstanceUid,
    /// What the ledger calls it.
    pub number: i64,
    pub instance_id: InstanceId,
    pub subscription_id: SubscriptionId,
    pub hostname: String,
    /// Raw Ed25519 point of an instance that authenticates by assertion.
    pub public_key: Option<Vec<u8>>,
    /// The key whose place that one took, while it goes on.
    pub previous_key: Option<PreviousKey>,
    pub reported_usage: Option<serde_json::Value>,
    pub is_contested: bool,
    /// Oldest first. Those that were dead when the newest was made are left out.
    pub credentials: Vec<CredentialFacts>,
    pub situation: Situation,
    /// The latest sync that issued tokens, within the time asked for.
    pub last_sync: Option<LastSync>,
}

/// One secret of an instance.
#[derive(Clone, Debug)]
pub struct CredentialFacts {
    pub id: InstanceCredentialId,
    pub digest: Vec<u8>,
    pub by_rotation: bool,
    /// Which came first, where there are several.
    pub sequence: i64,
    pub first_used_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub dies_at: Option<DateTime<Utc>>,
}

/// The latest sync of an instance that issued tokens.
#[derive(Clone, Debug)]
pub struct LastSync {
    pub issued_at: DateTime<Utc>,
    pub digest: Vec<u8>,
    pub idempotency: Option<Vec<u8>>,
}

/// The key that signs access tokens now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveKey {
    pub kid: String,
    /// What the ledger calls it.
    pub number: i16,
    pub not_after: DateTime<Utc>,
}

/// The key that signs access tokens now, of each algorithm.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActiveKeys {
    pub ed_dsa: Option<ActiveKey>,
    pub rs256: Option<ActiveKey>,
}

impl ActiveKeys {
    /// The one of this algorithm.
    #[must_use]
    pub fn of(&self, alg: Algorithm) -> Option<&ActiveKey> {
        match alg {
            Algorithm::EdDsa => self.ed_dsa.as_ref(),
            Algorithm::Rs256 => self.rs256.as_ref(),
        }
    }
}

/// What holds for a whole batch.
#[derive(Clone, Debug)]
pub struct BatchFacts {
    /// The database's clock, read after the batch held its locks.
    pub now: DateTime<Utc>,
    /// The key of each algorithm that may sign; none while minting with it is stopped.
    pub active_keys: ActiveKeys,
    /// The backends that were registered as verifying RS256; every other one verifies EdDSA.
    pub rs256_backends: Vec<String>,
    /// The newest key set; `None` before the first was published.
    pub key_set_version: Option<i64>,
    /// One entry for each uid asked for, in that order; `None` for an unknown one.
    pub instances: Vec<Option<InstanceFacts>>,
}

/// Reads what is recorded of one instance now, without its credentials' history or last sync.
///
/// # Errors
/// The database cannot be read.
pub async fn find_situation(
    connection: &mut PgConnection,
    uid: InstanceUid,
) -> Result<Option<Situation>, StorageError> {
    let row = sqlx::query(CURRENT).bind(uid.as_uuid()).fetch_optional(connection).await?;
    row.map(|row| situation(&row)).transpose()
}

/// Reads the instances of a subscription that may be affected by a change to it.
///
/// # Errors
/// The database cannot be read.
pub async fn list_situations_of_subscription(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
) -> Result<Vec<(InstanceUid, Situation)>, StorageError> {
    let rows = sqlx::query(OF_SUBSCRIPTION).bind(subscription.as_uuid()).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get::<Uuid, _>("uid")?.into(), situation(row)?))).collect()
}

/// At most `limit` instances after `after` that were not released, with their subscriptions, in the order in which
/// they were first activated.
///
/// # Errors
/// The database cannot be read.
pub async fn list_situations(
    connection: &mut PgConnection,
    after: Option<InstanceUid>,
    limit: i64,
) -> Result<Vec<(InstanceUid, SubscriptionId, Situation)>, StorageError> {
    let rows = sqlx::query(PAGE)
        .bind(after.map_or(Uuid::nil(), InstanceUid::as_uuid))
        .bind(limit)
        .fetch_all(connection)
        .await?;
    let read = |row: &PgRow| {
        let (uid, subscription): (Uuid, Uuid) = (row.try_get("uid")?, row.try_get("subscription_id")?);
        Ok((uid.into(), subscription.into(), situation(row)?))
    };
    rows.iter().map(read).collect()
}

/// Reads what was recorded of one instance at a past instant: each record in the
/// revision that held then. An instance that was not yet known is explained by
/// what is recorded now.
///
/// # Errors
/// The database cannot be read.
pub async fn find_situation_as_recorded(
    connection: &mut PgConnection,
    uid: InstanceUid,
    at: DateTime<Utc>,
) -> Result<Option<Situation>, StorageError> {
    let row = sqlx::query(AS_RECORDED).bind(uid.as_uuid()).bind(at).fetch_optional(&mut *connection).await?;
    match row {
        Some(row) => situation(&row).map(Some),
        None => find_situation(connection, uid).await,
    }
}

/// Whether a key may sign now, and the database's clock.
///
/// # Errors
/// The database cannot be read.
pub async fn find_key_and_clock(
    connection: &mut PgConnection,
    environment: &str,
    now: DateTime<Utc>,
) -> Result<(bool, DateTime<Utc>), StorageError> {
    let row = sqlx::query(
        "select exists (select from signing_keys where environment = $1 and purpose = 'access_tokens' \
                        and state = 'active' and not_after > $2) as has_key, \
                clock_timestamp() as now",
    )
    .bind(environment)
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok((row.try_get("has_key")?, row.try_get("now")?))
}

fn situation(row: &PgRow) -> Result<Situation, StorageError> {
    let deployment: Deployment = decode(row.try_get("deployment")?)?;
    Ok(Situation {
        license: LicenseStanding {
            kind: decode(row.try_get("license_kind")?)?,
            revoked_at: row.try_get("revoked_at")?,
        },
        subscription: SubscriptionStanding {
            license_type: decode(row.try_get("license_type")?)?,
            term: term(row.try_get("starts_at")?, row.try_get("ends_at")?)?,
            earlier_ends: row.try_get("earlier_ends")?,
            trial: row.try_get("trial")?,
            condition: decode(row.try_get("condition")?)?,
        },
        purchases: purchases(row)?,
        instance: InstanceStanding {
            state: decode(row.try_get("state")?)?,
            version: decode(row.try_get("version")?)?,
            realm: deployment.realm(),
            disabled_unit_primitives: names(row, "disabled_unit_primitives")?,
            disabled_backends: names(row, "disabled_backends")?,
        },
    })
}

fn purchases(row: &PgRow) -> Result<Vec<PurchaseStanding>, StorageError> {
    let Some(add_ons) = row.try_get::<Option<Vec<String>>, _>("add_ons")? else { return Ok(Vec::new()) };
    let quantities: Vec<i32> = row.try_get("quantities")?;
    let starts: Vec<DateTime<Utc>> = row.try_get("purchase_starts")?;
    let ends: Vec<DateTime<Utc>> = row.try_get("purchase_ends")?;
    let ended: Vec<Option<DateTime<Utc>>> = row.try_get("purchase_ended")?;
    let columns = add_ons.into_iter().zip(quantities).zip(starts).zip(ends).zip(ended);
    columns
        .map(|((((add_on, quantity), starts_at), ends_at), ended_at)| {
            Ok(PurchaseStanding {
                add_on: decode::<AddOnName>(&add_on)?,
                quantity: u32::try_from(quantity).map_err(StorageError::corrupt)?,
                term: term(starts_at, ends_at)?,
                ended_at,
            })
        })
        .collect()
}

fn names<T>(row: &PgRow, column: &str) -> Result<std::collections::BTreeSet<T>, StorageError>
where
    T: std::str::FromStr + Ord,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let names: Vec<String> = row.try_get(column)?;
    names.iter().map(|name| decode(name)).collect()
}

fn term(starts_at: DateTime<Utc>, ends_at: DateTime<Utc>) -> Result<Term, StorageError> {
    Term::new(starts_at, ends_at).ok_or_else(|| StorageError::corrupt("a term that ends before it starts"))
}

/// The columns that [`situation`] reads, from the records as they are now.
macro_rules! current {
    ($tail:literal) => {
        concat!(
            "select i.uid, l.subscription_id, i.state, i.version, i.deployment, i.disabled_unit_primitives, i.disabled_backends, \
             l.kind as license_kind, l.revoked_at, s.license_type, s.starts_at, s.ends_at, s.earlier_ends, s.trial, s.condition, \
             p.add_ons, p.quantities, p.purchase_starts, p.purchase_ends, p.purchase_ended \
             from instances i join licenses l on l.id = i.license_id join subscriptions s on s.id = l.subscription_id \
             left join lateral ( \
                select array_agg(add_on) as add_ons, array_agg(quantity) as quantities, array_agg(starts_at) as purchase_starts, \
                       array_agg(ends_at) as purchase_ends, array_agg(ended_at) as purchase_ended \
                from add_on_purchases where subscription_id = s.id and (ended_at is null or ended_at > starts_at)) p on true ",
            $tail
        )
    };
}

const CURRENT: &str = current!("where i.uid = $1");

/// Released instances are left out: nothing that is bought changes what they may use.
const OF_SUBSCRIPTION: &str =
    current!("where l.subscription_id = $1 and i.state <> 'released' order by i.uid limit 1000");

const PAGE: &str = current!("where i.uid > $1 and i.state <> 'released' order by i.uid limit $2");

/// Each record in the last revision that was recorded by then. No row where the instance was not recorded yet.
const AS_RECORDED: &str = "\
with revision as ( \
    select distinct on (kind, id) kind, id, record from record_revisions \
    where recorded_at <= $2 and (kind, id) in ( \
        select 'instances', i.uid from instances i where i.uid = $1 \
        union all select 'licenses', i.license_id from instances i where i.uid = $1 \
        union all select 'subscriptions', l.subscription_id from instances i join licenses l on l.id = i.license_id where i.uid = $1 \
        union all select 'add_on_purchases', p.id from instances i join licenses l on l.id = i.license_id \
            join add_on_purchases p on p.subscription_id = l.subscription_id where i.uid = $1) \
    order by kind, id, revision desc) \
select i.state, i.version, i.deployment, i.disabled_unit_primitives, i.disabled_backends, \
       l.kind as license_kind, l.revoked_at, s.license_type, s.starts_at, s.ends_at, s.earlier_ends, s.trial, s.condition, \
       p.add_ons, p.quantities, p.purchase_starts, p.purchase_ends, p.purchase_ended \
from (select (jsonb_populate_record(null::instances, record)).* from revision where kind = 'instances') i \
cross join (select (jsonb_populate_record(null::licenses, record)).* from revision where kind = 'licenses') l \
cross join (select (jsonb_populate_record(null::subscriptions, record)).* from revision where kind = 'subscriptions') s \
cross join ( \
    select array_agg(add_on) as add_ons, array_agg(quantity) as quantities, array_agg(starts_at) as purchase_starts, \
           array_agg(ends_at) as purchase_ends, array_agg(ended_at) as purchase_ended \
    from (select (jsonb_populate_record(null::add_on_purchases, record)).* from revision where kind = 'add_on_purchases') one \
    where ended_at is null or ended_at > starts_at) p";
