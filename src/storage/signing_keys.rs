//! Signing keys: where each stands, its public half, and its private half under seal.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use token_authority_verifier::Jwk;

use super::{StorageError, decode};
use crate::domain::key_ring::{Algorithm, Denial, Key, KeyState, Kid, Publication, Purpose};
use crate::domain::sealed::{Sealed, SealedKey};

/// A key on its first day.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    pub key: SealedKey,
    pub public_key: Jwk,
    pub generated_at: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
}

/// A key as people and programs may see it.
#[derive(Clone, Debug)]
pub struct ListedKey {
    pub key: Key,
    /// What the ledger calls it.
    pub number: i16,
    pub public_key: Jwk,
    pub generated_at: DateTime<Utc>,
}

/// A key that signs now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveKey {
    pub kid: Kid,
    pub number: i16,
    pub purpose: Purpose,
    pub alg: Algorithm,
    pub not_after: DateTime<Utc>,
}

/// Every key of an environment that ever was, in the order of birth.
///
/// # Errors
/// The database cannot be read.
pub async fn list(connection: &mut PgConnection, environment: &str) -> Result<Vec<ListedKey>, StorageError> {
    let rows = sqlx::query(
        "select kid, number, purpose, alg, state, public_jwk, generated_at, not_after, published_in, published_at, \
                armed_at, activated_at, demoted_at, denial, denied_after \
         from signing_keys where environment = $1 order by number",
    )
    .bind(environment)
    .fetch_all(connection)
    .await?;
    rows.iter().map(listed).collect()
}

/// The keys that sign now, at most one per purpose and algorithm.
///
/// Which they are is for the transaction to know that reads it: nobody may remember it.
///
/// # Errors
/// The database cannot be read.
pub async fn list_active(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<ActiveKey>, StorageError> {
    let rows = sqlx::query(
        "select kid, number, purpose, alg, not_after from signing_keys \
         where environment = $1 and state = 'active' order by purpose, alg",
    )
    .bind(environment)
    .fetch_all(connection)
    .await?;
    let active = rows.iter().map(|row| {
        Ok(ActiveKey {
            kid: decode(row.try_get("kid")?)?,
            number: row.try_get("number")?,
            purpose: decode(row.try_get("purpose")?)?,
            alg: decode(row.try_get("alg")?)?,
            not_after: row.try_get("not_after")?,
        })
    });
    active.collect()
}

/// The kids of the access-token keys that verifiers should hold now.
///
/// # Errors
/// The database cannot be read.
pub async fn list_published_kids(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<String>, StorageError> {
    let keys = list(connection, environment).await?.into_iter().map(|listed| listed.key);
    let carried = keys.filter(|key| key.purpose == Purpose::AccessTokens && key.state.is_carried());
    Ok(carried.map(|key| key.kid.to_string()).collect())
}

/// Whether a token was ever issued under a key of this algorithm.
///
/// # Errors
/// The database cannot be read.
pub async fn has_issued(
    connection: &mut PgConnection,
    environment: &str,
    alg: Algorithm,
) -> Result<bool, StorageError> {
    let has_issued = sqlx::query_scalar(
        "select exists (select from issuances t join signing_keys k on k.number = t.key_number \
                        where k.environment = $1 and k.alg = $2)",
    )
    .bind(environment)
    .bind(alg.as_str())
    .fetch_one(connection)
    .await?;
    Ok(has_issued)
}

/// A key with its private half. `None` for an unknown key and for one whose private
/// half is gone.
///
/// # Errors
/// The database cannot be read.
pub async fn find_sealed(
    connection: &mut PgConnection,
    environment: &str,
    kid: &str,
) -> Result<Option<SealedKey>, StorageError> {
    let row = sqlx::query(
        "select kid, environment, purpose, alg, sealed, sealed_by, sealed_version from signing_keys \
         where environment = $1 and kid = $2 and sealed is not null",
    )
    .bind(environment)
    .bind(kid)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(SealedKey {
            kid: decode(row.try_get("kid")?)?,
            environment: row.try_get("environment")?,
            purpose: decode(row.try_get("purpose")?)?,
            alg: decode(row.try_get("alg")?)?,
            private_half: Sealed {
                sealed_by: row.try_get("sealed_by")?,
                bytes: row.try_get("sealed")?,
                row_version: row.try_get("sealed_version")?,
            },
        })
    })
    .transpose()
}

/// The keys whose private half is here.
///
/// # Errors
/// The database cannot be read.
pub async fn list_sealed(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<BTreeSet<Kid>, StorageError> {
    let kids: Vec<String> =
        sqlx::query_scalar("select kid from signing_keys where environment = $1 and sealed is not null")
            .bind(environment)
            .fetch_all(connection)
            .await?;
    kids.iter().map(|kid| decode(kid)).collect()
}

/// Takes a key in, as generated.
///
/// # Errors
/// The kid is known already, or the database cannot be written.
pub async fn insert(connection: &mut PgConnection, new: &NewSigningKey) -> Result<(), StorageError> {
    let SealedKey { kid, environment, purpose, alg, private_half } = &new.key;
    sqlx::query(
        "insert into signing_keys (kid, environment, purpose, alg, state, public_jwk, generated_at, not_after, \
                                   sealed, sealed_by, sealed_version) \
         values ($1, $2, $3, $4, 'generated', $5, $6, $7, $8, $9, $10)",
    )
    .bind(kid.to_string())
    .bind(environment)
    .bind(purpose.name())
    .bind(alg.as_str())
    .bind(Json(&new.public_key))
    .bind(new.generated_at)
    .bind(new.not_after)
    .bind(&private_half.bytes)
    .bind(&private_half.sealed_by)
    .bind(private_half.row_version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves a key from where it was to where it is now. A key that signs no more loses
/// its private half here, in the same statement.
///
/// Returns whether it still was where `before` says; if not, nothing changed.
///
/// # Errors
/// The schema allows no such change, or the database cannot be written.
pub async fn update(
    connection: &mut PgConnection,
    before: &Key,
    after: &Key,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let (denial, denied_after) = match after.denial {
        None => (None, None),
        Some(Denial::Always) => (Some(DENIED_ALWAYS), None),
        Some(Denial::IssuedAfter(at)) => (Some(DENIED_AFTER), Some(at)),
    };
    let keeps_private_half =
        matches!(after.state, KeyState::Generated | KeyState::Published | KeyState::Active);
    let updated = sqlx::query(
        "update signing_keys set state = $3, published_in = $4, published_at = $5, armed_at = $6, \
                activated_at = $7, demoted_at = $8, denial = $9, denied_after = $10, \
                ended_at = case when $11 then coalesce(ended_at, $12) end, \
                sealed = case when $13 then sealed end, sealed_by = case when $13 then sealed_by end, \
                sealed_version = case when $13 then sealed_version end \
         where kid = $1 and state = $2",
    )
    .bind(before.kid.to_string())
    .bind(before.state.as_str())
    .bind(after.state.as_str())
    .bind(after.published.map(|published| i64::from(published.version)))
    .bind(after.published.map(|published| published.at))
    .bind(after.armed_at)
    .bind(after.activated_at)
    .bind(after.demoted_at)
    .bind(denial)
    .bind(denied_after)
    .bind(after.state.is_final())
    .bind(now)
    .bind(keeps_private_half)
    .execute(connection)
    .await?;
    Ok(updated.rows_affected() == 1)
}

fn listed(row: &PgRow) -> Result<ListedKey, StorageError> {
    let version: Option<i64> = row.try_get("published_in")?;
    let published_at: Option<DateTime<Utc>> = row.try_get("published_at")?;
    let published = match version.zip(published_at) {
        None => None,
        Some((version, at)) => {
            Some(Publication { version: u32::try_from(version).map_err(StorageError::corrupt)?, at })
        }
    };
    let denial = match row.try_get::<Option<&str>, _>("denial")? {
        None => None,
        Some(DENIED_AFTER) => Some(Denial::IssuedAfter(row.try_get("denied_after")?)),
        Some(_) => Some(Denial::Always),
    };
    let key = Key {
        kid: decode(row.try_get("kid")?)?,
        purpose: decode(row.try_get("purpose")?)?,
        alg: decode(row.try_get("alg")?)?,
        state: decode(row.try_get("state")?)?,
        not_after: row.try_get("not_after")?,
        published,
        armed_at: row.try_get("armed_at")?,
        activated_at: row.try_get("activated_at")?,
        demoted_at: row.try_get("demoted_at")?,
        denial,
    };
    Ok(ListedKey {
        key,
        number: row.try_get("number")?,
        public_key: row.try_get::<Json<Jwk>, _>("public_jwk")?.0,
        generated_at: row.try_get("generated_at")?,
    })
}

const DENIED_AFTER: &str = "issued_after";
const DENIED_ALWAYS: &str = "always";
