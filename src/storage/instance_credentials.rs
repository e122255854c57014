//! The secrets of instances, as keyed digests.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::StorageError;
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

/// Records a new secret. The schema refuses a third live one.
///
/// # Errors
/// The database refuses it, or cannot be reached.
pub async fn insert(
    connection: &mut PgConnection,
    id: InstanceCredentialId,
    instance: InstanceUid,
    digest: &[u8; 32],
    origin: Origin,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let origin = match origin {
        Origin::Activation => "activation",
        Origin::Rotation => "rotation",
    };
    sqlx::query(
        "insert into instance_credentials (id, instance_uid, digest, origin, created_at) values ($1, $2, $3, $4, $5)",
    )
    .bind(id.as_uuid())
    .bind(instance.as_uuid())
    .bind(digest)
    .bind(origin)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
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
