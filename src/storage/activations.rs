//! Instances as activation sees them: who holds a place under a license.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{StorageError, decode};
use crate::domain::ids::{InstanceId, InstanceUid, LicenseId};
use crate::domain::instance::{Deployment, InstanceKind, InstanceState};
use crate::domain::license::LicenseStanding;
use crate::domain::subscription::{SubscriptionStanding, Term};

/// What activation needs to know of an instance that it meets again.
#[derive(Clone, Debug)]
pub struct InstanceIdentity {
    pub uid: InstanceUid,
    pub state: InstanceState,
    pub kind: InstanceKind,
    pub public_key: Option<[u8; 32]>,
    pub reactivation_allowed: bool,
}

/// An instance to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct NewInstance<'a> {
    pub uid: InstanceUid,
    pub license_id: LicenseId,
    pub instance_id: InstanceId,
    pub hostname: &'a str,
    pub version: &'a str,
    pub deployment: Deployment,
    pub kind: InstanceKind,
    pub public_key: Option<[u8; 32]>,
}

/// The license and the subscription behind it, as a decision sees them.
///
/// # Errors
/// The database cannot be read.
pub async fn find_standing(
    connection: &mut PgConnection,
    license: LicenseId,
) -> Result<(LicenseStanding, SubscriptionStanding), StorageError> {
    let row = sqlx::query(
        "select l.kind, l.revoked_at, s.license_type, s.starts_at, s.ends_at, s.earlier_ends, s.trial, s.condition \
         from licenses l join subscriptions s on s.id = l.subscription_id where l.id = $1",
    )
    .bind(license.as_uuid())
    .fetch_one(connection)
    .await?;
    let term = Term::new(row.try_get("starts_at")?, row.try_get("ends_at")?);
    let license =
        LicenseStanding { kind: decode(row.try_get("kind")?)?, revoked_at: row.try_get("revoked_at")? };
    let subscription = SubscriptionStanding {
        license_type: decode(row.try_get("license_type")?)?,
        term: term.ok_or_else(|| StorageError::corrupt("a term that ends before it starts"))?,
        earlier_ends: row.try_get("earlier_ends")?,
        trial: row.try_get("trial")?,
        condition: decode(row.try_get("condition")?)?,
    };
    Ok((license, subscription))
}

/// The uid that this installation has under this license, which never changes.
///
/// # Errors
/// The database cannot be read.
pub async fn find_uid(
    connection: &mut PgConnection,
    license: LicenseId,
    instance_id: InstanceId,
) -> Result<Option<InstanceUid>, StorageError> {
    let uid: Option<Uuid> =
        sqlx::query_scalar("select uid from instances where license_id = $1 and instance_id = $2")
            .bind(license.as_uuid())
            .bind(instance_id.as_uuid())
            .fetch_optional(connection)
            .await?;
    Ok(uid.map(InstanceUid::from))
}

/// The instance that this installation is under this license, whatever its state.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    license: LicenseId,
    instance_id: InstanceId,
) -> Result<Option<InstanceIdentity>, StorageError> {
    let row = sqlx::query(
        "select uid, state, kind, public_key, reactivation_allowed from instances \
         where license_id = $1 and instance_id = $2 for no key update",
    )
    .bind(license.as_uuid())
    .bind(instance_id.as_uuid())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let public_key: Option<Vec<u8>> = row.try_get("public_key")?;
    let public_key = public_key.map(|key| {
        <[u8; 32]>::try_from(key).map_err(|_| StorageError::corrupt("a public key that is not 32 bytes long"))
    });
    Ok(Some(InstanceIdentity {
        uid: row.try_get::<Uuid, _>("uid")?.into(),
        state: decode(row.try_get("state")?)?,
        kind: decode(row.try_get("kind")?)?,
        public_key: public_key.transpose()?,
        reactivation_allowed: row.try_get("reactivation_allowed")?,
    }))
}

/// Whether an installation with this id holds a place under another license.
///
/// # Errors
/// The database cannot be read.
pub async fn is_held_elsewhere(
    connection: &mut PgConnection,
    license: LicenseId,
    instance_id: InstanceId,
) -> Result<bool, StorageError> {
    Ok(sqlx::query_scalar(
        "select exists (select from instances where instance_id = $2 and license_id <> $1 and state <> 'released')",
    )
    .bind(license.as_uuid())
    .bind(instance_id.as_uuid())
    .fetch_one(connection)
    .await?)
}

/// How many instances of a kind hold a place under a license, one of them apart.
///
/// # Errors
/// The database cannot be read.
pub async fn count_held(
    connection: &mut PgConnection,
    license: LicenseId,
    kind: InstanceKind,
    apart: Option<InstanceUid>,
    now: DateTime<Utc>,
) -> Result<i64, StorageError> {
    Ok(sqlx::query_scalar(
        "select count(*) from instances where license_id = $1 and kind = $2 and uid is distinct from $3 \
         and (state <> 'released' or place_held_until > $4)",
    )
    .bind(license.as_uuid())
    .bind(kind.as_str())
    .bind(apart.map(InstanceUid::as_uuid))
    .bind(now)
    .fetch_one(connection)
    .await?)
}

/// Records a new instance.
///
/// # Errors
/// The schema refuses it (`instances_cap`, `instances_held_instance_id_key`), or the database fails.
pub async fn insert(
    connection: &mut PgConnection,
    new: &NewInstance<'_>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into instances (uid, license_id, instance_id, hostname, version, deployment, kind, public_key, \
                                state_since, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)",
    )
    .bind(new.uid.as_uuid())
    .bind(new.license_id.as_uuid())
    .bind(new.instance_id.as_uuid())
    .bind(new.hostname)
    .bind(new.version)
    .bind(new.deployment.as_str())
    .bind(new.kind.as_str())
    .bind(new.public_key)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records what an instance says of itself when it activates again; it is active from then on.
///
/// # Errors
/// As [`insert`].
pub async fn update(
    connection: &mut PgConnection,
    new: &NewInstance<'_>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instances set hostname = $2, version = $3, deployment = $4, kind = $5, public_key = $6, \
                previous_public_key = case when public_key is not distinct from $6 and state <> 'released' then previous_public_key end, \
                previous_key_dies_at = case when public_key is not distinct from $6 and state <> 'released' then previous_key_dies_at end, \
                state_since = case when state = 'active' then state_since else $7 end, state = 'active', \
                state_reason = null, place_held_until = null, reactivation_allowed = false, \
                identity_contested_at = case when state = 'released' then null else identity_contested_at end, \
                revision = revision + 1, updated_at = $7 \
         where uid = $1 and state <> 'blocked'",
    )
    .bind(new.uid.as_uuid())
    .bind(new.hostname)
    .bind(new.version)
    .bind(new.deployment.as_str())
    .bind(new.kind.as_str())
    .bind(new.public_key)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Releases an instance. `false` when it was released already.
///
/// # Errors
/// The database cannot be written.
pub async fn update_released(
    connection: &mut PgConnection,
    uid: InstanceUid,
    place_held_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "update instances set state = 'released', state_since = $3, place_held_until = $2, \
                revision = revision + 1, updated_at = $3 \
         where uid = $1 and state <> 'released'",
    )
    .bind(uid.as_uuid())
    .bind(place_held_until)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Since when a released instance is released, and until when its place is held.
///
/// # Errors
/// The database cannot be read, or the instance is not released.
pub async fn find_release(
    connection: &mut PgConnection,
    uid: InstanceUid,
) -> Result<(DateTime<Utc>, Option<DateTime<Utc>>), StorageError> {
    let row = sqlx::query(
        "select state_since, place_held_until from instances where uid = $1 and state = 'released'",
    )
    .bind(uid.as_uuid())
    .fetch_one(connection)
    .await?;
    Ok((row.try_get("state_since")?, row.try_get("place_held_until")?))
}

/// Registers the raw Ed25519 point with which the instance authenticates from now on. `previous`, if there is one, goes on
/// beside it until [`update_previous_key_to_die`] says when it ends.
///
/// # Errors
/// The database cannot be written.
pub async fn update_public_key(
    connection: &mut PgConnection,
    uid: InstanceUid,
    public_key: &[u8; 32],
    previous: Option<&[u8]>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instances set public_key = $2, previous_public_key = $3, previous_key_dies_at = null, \
                reactivation_allowed = false, revision = revision + 1, updated_at = $4 \
         where uid = $1",
    )
    .bind(uid.as_uuid())
    .bind(public_key)
    .bind(previous)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Says when the key ends that another one took the place of; nothing where there is none.
///
/// # Errors
/// The database cannot be written.
pub async fn update_previous_key_to_die(
    connection: &mut PgConnection,
    uid: InstanceUid,
    dies_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instances set previous_key_dies_at = least(previous_key_dies_at, $2), \
                revision = revision + 1, updated_at = $3 \
         where uid = $1 and previous_public_key is not null",
    )
    .bind(uid.as_uuid())
    .bind(dies_at)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces what the instance's administrator switched off.
///
/// # Errors
/// The database cannot be written.
pub async fn update_switched_off(
    connection: &mut PgConnection,
    uid: InstanceUid,
    unit_primitives: &[String],
    backends: &[String],
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instances set disabled_unit_primitives = $2, disabled_backends = $3, \
                revision = revision + 1, updated_at = $4 where uid = $1",
    )
    .bind(uid.as_uuid())
    .bind(unit_primitives)
    .bind(backends)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
