//! The ledger as an administrator reads it: which tokens left, for whom, with what in them.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StorageError;
use crate::domain::ids::{InstanceUid, Jti};

/// One token that left. What it granted is told; the token itself is kept nowhere.
#[derive(Clone, Debug)]
pub struct IssuedTokenRow {
    pub jti: Jti,
    pub instance_uid: InstanceUid,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub backend: String,
    pub audience: String,
    pub scopes: Vec<String>,
    pub seats: Option<i64>,
    pub kid: String,
    pub catalog_digest: String,
}

/// At most `limit` tokens of an instance that were issued before the token `before`, latest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_of_instance(
    connection: &mut PgConnection,
    uid: InstanceUid,
    before: Option<Jti>,
    limit: i64,
) -> Result<Vec<IssuedTokenRow>, StorageError> {
    let rows = sqlx::query(
        "select t.jti, i.uid, t.issued_at, t.expires_at, g.backend, g.audience, g.scopes, t.seats, k.kid, \
                c.digest as catalog_digest \
         from instances i join issuances t on t.instance_number = i.number and t.jti < $2 \
         join scope_sets g on g.number = t.scope_set \
         join signing_keys k on k.number = t.key_number \
         join catalogs c on c.number = t.catalog_number \
         where i.uid = $1 order by t.jti desc limit $3",
    )
    .bind(uid.as_uuid())
    .bind(before.map_or(Uuid::max(), Jti::as_uuid))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(IssuedTokenRow {
                jti: row.try_get::<Uuid, _>("jti")?.into(),
                instance_uid: row.try_get::<Uuid, _>("uid")?.into(),
                issued_at: row.try_get("issued_at")?,
                expires_at: row.try_get("expires_at")?,
                backend: row.try_get("backend")?,
                audience: row.try_get("audience")?,
                scopes: row.try_get("scopes")?,
                seats: row.try_get("seats")?,
                kid: row.try_get("kid")?,
                catalog_digest: row.try_get("catalog_digest")?,
            })
        })
        .collect()
}
