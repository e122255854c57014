//! The last syncs of many instances, from the ledger, for reports.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StorageError;
use super::issuances::first_jti_of;
use crate::domain::ids::{CustomerId, InstanceUid, LicenseId, SubscriptionId};

/// What an active instance, which may have tokens, did of late.
#[derive(Clone, Debug)]
pub struct SyncHistory {
    pub uid: InstanceUid,
    pub license_id: LicenseId,
    pub subscription_id: SubscriptionId,
    pub customer_id: CustomerId,
    pub hostname: String,
    pub version: String,
    /// When it got tokens, latest first; none where it got none of late.
    pub syncs: Vec<DateTime<Utc>>,
    /// When the first of the last sync's tokens dies that another sync would have kept alive.
    pub first_expiry: Option<DateTime<Utc>>,
}

/// The histories of at most `limit` active instances after `after`, in the order of their uids.
///
/// Of each instance a bounded number of its latest tokens is read, so that the cost is that of `limit` look-ups
/// whatever the ledger holds. `offset 0` keeps the planner from reading all licenses at once instead.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    after: Option<InstanceUid>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<SyncHistory>, StorageError> {
    let rows = sqlx::query(
        "with scanned as ( \
             select uid, number, license_id, hostname, version from instances \
             where state = 'active' and uid > $1 order by uid limit $2) \
         select i.uid, i.license_id, o.subscription_id, o.customer_id, i.hostname, i.version, t.syncs, t.first_expiry, \
                o.is_served \
         from scanned i \
         cross join lateral ( \
             select l.subscription_id, s.customer_id, (l.revoked_at is null and s.condition = 'active') as is_served \
             from licenses l join subscriptions s on s.id = l.subscription_id where l.id = i.license_id offset 0) o \
         cross join lateral ( \
             select array_agg(distinct issued_at order by issued_at desc) as syncs, \
                    min(expires_at) filter (where issued_at = last_issued_at and not ends_with_grant) as first_expiry \
             from (select issued_at, expires_at, ends_with_grant, max(issued_at) over () as last_issued_at \
                   from (select issued_at, expires_at, ends_with_grant from issuances \
                         where instance_number = i.number and jti >= $3 order by jti desc limit $4) latest) dated) t \
         order by i.uid",
    )
    .bind(after.map_or(Uuid::nil(), InstanceUid::as_uuid))
    .bind(limit)
    .bind(first_jti_of(now - LOOKED_BACK))
    .bind(TOKENS_LOOKED_AT)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let is_served: bool = row.try_get("is_served")?;
            let syncs: Option<Vec<DateTime<Utc>>> = row.try_get("syncs")?;
            Ok(SyncHistory {
                uid: row.try_get::<Uuid, _>("uid")?.into(),
                license_id: row.try_get::<Uuid, _>("license_id")?.into(),
                subscription_id: row.try_get::<Uuid, _>("subscription_id")?.into(),
                customer_id: row.try_get::<Uuid, _>("customer_id")?.into(),
                hostname: row.try_get("hostname")?,
                version: row.try_get("version")?,
                // No sync would help one whose license or subscription stands in the way.
                syncs: syncs.filter(|_| is_served).unwrap_or_default(),
                first_expiry: row.try_get("first_expiry")?,
            })
        })
        .collect()
}

/// A rhythm is that of the last weeks.
const LOOKED_BACK: TimeDelta = TimeDelta::days(30);
/// Some ten syncs of a few tokens each.
const TOKENS_LOOKED_AT: i64 = 48;
