//! Backends: registered under their catalog name, amended, given a token to report with.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Changed, Circumstances, Expected, FulfillmentError, WrongValue, refusal};
use crate::domain::backend::{KeyTrust, ProcessId};
use crate::domain::catalog::BackendName;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::key_ring::{Algorithm, Purpose, Standing};
use crate::keystore;
use crate::storage::backends::{self, BackendRow};
use crate::storage::deployments::{self, DeploymentRow};
use crate::storage::signing_keys;

/// A backend to be registered.
#[derive(Clone, Debug)]
pub struct NewBackend {
    pub name: BackendName,
    pub alg: Algorithm,
    pub trust: KeyTrust,
    pub min_live: i32,
}

/// What is to become of a backend; `None`: as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackendPatch {
    pub alg: Option<Algorithm>,
    pub trust: Option<KeyTrust>,
    pub min_live: Option<i32>,
}

/// Registers a backend.
///
/// # Errors
/// The catalog does not know it, no key of its algorithm is active, or it is registered already.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    new: NewBackend,
) -> Result<Changed<BackendRow>, FulfillmentError> {
    let catalog = circumstances.catalog;
    if catalog.backend(&new.name).is_none() {
        let known = catalog.backends().iter().map(|backend| backend.name.as_str());
        let wrong = refusal::unknown_name("name", new.name.as_str(), known);
        return Err(FulfillmentError::Invalid(vec![wrong]));
    }
    refuse_without_key(connection, circumstances, new.alg).await?;
    let now = circumstances.date(connection).await?;
    let row = BackendRow {
        name: new.name,
        alg: new.alg,
        trust: new.trust,
        min_live: new.min_live,
        has_token: false,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    if !backends::insert(connection, &row).await? {
        let what = "The backend is registered already.".to_owned();
        return Err(FulfillmentError::Conflict { what, existing: Some(row.name.to_string()) });
    }
    Ok(Changed::without_effects(now, None, row))
}

/// Amends a backend.
///
/// # Errors
/// It is not registered, or at another revision, or no key of its new algorithm is active.
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    name: &BackendName,
    expected: &Expected,
    patch: BackendPatch,
) -> Result<Changed<BackendRow>, FulfillmentError> {
    let before = find(connection, name, expected).await?;
    if let Some(alg) = patch.alg.filter(|alg| *alg != before.alg) {
        refuse_without_key(connection, circumstances, alg).await?;
    }
    let now = circumstances.date(connection).await?;
    let mut after = next_revision(&before, now);
    after.alg = patch.alg.unwrap_or(after.alg);
    after.trust = patch.trust.unwrap_or(after.trust);
    after.min_live = patch.min_live.unwrap_or(after.min_live);
    backends::update(connection, &after).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Gives a backend another token, shown this once. The one before opens nothing from now on.
///
/// # Errors
/// It is not registered, or at another revision.
pub async fn rotate_token(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    name: &BackendName,
    expected: &Expected,
) -> Result<(Changed<BackendRow>, Credential), FulfillmentError> {
    let before = find(connection, name, expected).await?;
    let now = circumstances.date(connection).await?;
    let after = BackendRow { has_token: true, ..next_revision(&before, now) };
    let token = Credential::from_random(CredentialKind::BackendToken, &*keystore::random_bits()?);
    backends::update_token(connection, &after, &circumstances.keystore.digest(&token)).await?;
    Ok((Changed::without_effects(now, Some(before), after), token))
}

/// Says of a process that it is gone for good, with a reason. If it reports itself again, it counts again.
///
/// # Errors
/// It never reported itself.
pub async fn forget_deployment(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    name: &BackendName,
    process_id: &ProcessId,
    reason: &str,
) -> Result<Changed<DeploymentRow>, FulfillmentError> {
    let found = deployments::find_for_update(connection, name, process_id).await?;
    let before = found.ok_or(FulfillmentError::NotFound("deployment"))?;
    let now = circumstances.date(connection).await?;
    deployments::update_standing(connection, &before, Standing::Forgotten, Some(reason)).await?;
    let after = DeploymentRow {
        standing: Standing::Forgotten,
        forgotten_because: Some(reason.to_owned()),
        ..before.clone()
    };
    Ok(Changed::without_effects(now, Some(before), after))
}

/// A backend of an algorithm without an active key would get no tokens at all.
async fn refuse_without_key(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    alg: Algorithm,
) -> Result<(), FulfillmentError> {
    let active = signing_keys::list_active(connection, circumstances.environment).await?;
    if active.iter().any(|key| key.alg == alg && key.purpose == Purpose::AccessTokens) {
        return Ok(());
    }
    let detail = format!("no {alg} key is active, so that its syncs would get no tokens; activate one first");
    Err(FulfillmentError::Invalid(vec![WrongValue { member: "alg", code: "no_active_key", detail }]))
}

async fn find(
    connection: &mut PgConnection,
    name: &BackendName,
    expected: &Expected,
) -> Result<BackendRow, FulfillmentError> {
    let found = backends::find_for_update(connection, name).await?;
    let row = found.ok_or(FulfillmentError::NotFound("backend"))?;
    expected.check(row.revision)?;
    Ok(row)
}

fn next_revision(before: &BackendRow, now: DateTime<Utc>) -> BackendRow {
    BackendRow { revision: before.revision + 1, updated_at: now, ..before.clone() }
}
