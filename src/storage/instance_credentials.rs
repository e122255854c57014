//! The secrets of instances, as keyed digests.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StorageError;
use crate::domain::credential::CredentialKind;
use crate::domain::ids::{InstanceCredentialId, InstanceUid};

/// What the use of a secret does, while two of them live.
#[derive(Clone, Copy, Debug)]
pub struct CredentialUse {
    pub id: InstanceCredentialId,
    pub at: DateTime<Utc>,
    pub first_use: bool,
    /// The older secret and its new end; `None` there means that it goes on.
    pub older_dies_at: Option<(InstanceCredentialId, Option<DateTime<Utc>>)>,
    /// Both secrets are in use: two installations share one identity.
    pub contested: bool,
}

/// How a secret came about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    Activation,
    Rotation,
}

/// A credential to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct NewCredential<'a> {
    pub id: InstanceCredentialId,
    pub uid: InstanceUid,
    pub digest: &'a [u8; 32],
    /// An instance secret or a license key.
    pub kind: CredentialKind,
    /// What the holder of a license key calls itself beside its `instance_id`.
    pub unique_instance_id: Option<&'a str>,
    pub origin: Origin,
}

/// Records a new secret. The schema refuses a third live one.
///
/// # Errors
/// The database refuses it, or cannot be reached.
pub async fn insert(
    connection: &mut PgConnection,
    new: &NewCredential<'_>,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let kind = if new.kind == CredentialKind::LicenseKey { "license_key" } else { "secret" };
    let origin = match new.origin {
        Origin::Activation => "activation",
        Origin::Rotation => "rotation",
    };
    sqlx::query(
        "insert into instance_credentials (id, instance_uid, digest, kind, unique_instance_id, origin, created_at) \
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(new.id.as_uuid())
    .bind(new.uid.as_uuid())
    .bind(new.digest)
    .bind(kind)
    .bind(new.unique_instance_id)
    .bind(origin)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose license key has this digest. `None` too where the caller calls itself neither by the instance's id nor by
/// the other one that it told when it was activated.
///
/// # Errors
/// The database cannot be read.
pub async fn find_by_license_key(
    connection: &mut PgConnection,
    digest: &[u8; 32],
    called: Option<&str>,
) -> Result<Option<InstanceUid>, StorageError> {
    let found: Option<Uuid> = sqlx::query_scalar(
        "select i.uid from instance_credentials c join instances i on i.uid = c.instance_uid \
         where c.digest = $1 and c.kind = 'license_key' \
           and ($2::text is null or lower($2) = i.instance_id::text or $2 = c.unique_instance_id)",
    )
    .bind(digest)
    .bind(called)
    .fetch_optional(connection)
    .await?;
    Ok(found.map(Into::into))
}

/// Makes room for one more secret: of two live ones the newer dies if it was never
/// used (its answer was lost), else the one that was used longest ago.
///
/// All but the one that stays die, whatever their end was: a request that read its clock
/// early and came late still sees what a faster one ended just now.
///
/// # Errors
/// The database cannot be written.
pub async fn update_to_make_room(
    connection: &mut PgConnection,
    instance: InstanceUid,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "with live as (select id, sequence, first_used_at, last_used_at, dies_at from instance_credentials \
                       where instance_uid = $1 and (dies_at is null or dies_at > $2)) \
         update instance_credentials set dies_at = $2 \
         where id in (select id from live) and id <> ( \
             select id from live \
             order by (first_used_at is null and sequence = (select max(sequence) from live where dies_at is null)), \
                      last_used_at desc nulls last, dies_at desc nulls first, sequence desc limit 1)",
    )
    .bind(instance.as_uuid())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends every live secret of an instance.
///
/// # Errors
/// The database cannot be written.
pub async fn update_all_to_die(
    connection: &mut PgConnection,
    instance: InstanceUid,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query("update instance_credentials set dies_at = $2 where instance_uid = $1 and (dies_at is null or dies_at > $2)")
        .bind(instance.as_uuid())
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends every live credential but the newest.
///
/// # Errors
/// The database cannot be written.
pub async fn update_all_but_newest_to_die(
    connection: &mut PgConnection,
    instance: InstanceUid,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "with live as (select id, sequence from instance_credentials \
                       where instance_uid = $1 and (dies_at is null or dies_at > $2)) \
         update instance_credentials set dies_at = $2 \
         where id in (select id from live) and id <> (select id from live order by sequence desc limit 1)",
    )
    .bind(instance.as_uuid())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends every live credential but the one that was used last, which then has no end.
///
/// # Errors
/// The database cannot be written.
pub async fn update_all_but_last_used_to_die(
    connection: &mut PgConnection,
    instance: InstanceUid,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "with live as (select id, last_used_at, sequence from instance_credentials \
                       where instance_uid = $1 and (dies_at is null or dies_at > $2)), \
              stays as (select id from live order by last_used_at desc nulls last, sequence desc limit 1) \
         update instance_credentials set dies_at = case when id in (select id from stays) then null else $2 end \
         where id in (select id from live)",
    )
    .bind(instance.as_uuid())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets the newest of two live credentials end at `ends_at`; a single one goes on.
///
/// # Errors
/// The database cannot be written.
pub async fn update_second_to_die(
    connection: &mut PgConnection,
    instance: InstanceUid,
    now: DateTime<Utc>,
    ends_at: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "with live as (select id, sequence from instance_credentials \
                       where instance_uid = $1 and (dies_at is null or dies_at > $2)) \
         update instance_credentials set dies_at = $3 \
         where (select count(*) from live) > 1 and id = (select id from live order by sequence desc limit 1)",
    )
    .bind(instance.as_uuid())
    .bind(now)
    .bind(ends_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the use of a secret.
///
/// # Errors
/// The database cannot be written.
pub async fn update_use(
    connection: &mut PgConnection,
    instance: InstanceUid,
    used: &CredentialUse,
) -> Result<(), StorageError> {
    sqlx::query(
        "update instance_credentials set last_used_at = $2, first_used_at = coalesce(first_used_at, $2) where id = $1",
    )
    .bind(used.id.as_uuid())
    .bind(used.at)
    .execute(&mut *connection)
    .await?;
    if let Some((older, dies_at)) = used.older_dies_at {
        sqlx::query("update instance_credentials set dies_at = $2 where id = $1")
            .bind(older.as_uuid())
            .bind(dies_at)
            .execute(&mut *connection)
            .await?;
    }
    if used.contested {
        sqlx::query(
            "update instances set identity_contested_at = $2, revision = revision + 1, updated_at = $2 \
             where uid = $1 and identity_contested_at is null",
        )
        .bind(instance.as_uuid())
        .bind(used.at)
        .execute(connection)
        .await?;
    }
    Ok(())
}
