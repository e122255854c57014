//! Licenses: made with an activation code that is shown once, given another code, revoked.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::effects::{Affected, Standing};
use super::subscriptions::refuse_canceled;
use super::{Changed, Circumstances, Expected, FulfillmentError, Patch, WrongValue, refusal};
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::{LicenseId, SubscriptionId};
use crate::domain::license::LicenseKind;
use crate::domain::words::words;
use crate::keystore;
use crate::storage::licenses::{self, LicenseRow, Revocation};
use crate::storage::{fences, subscriptions};

words! {
    /// Whether a license opens anything.
    LicenseState {
        Active => "active",
        Revoked => "revoked",
    }
}

impl LicenseState {
    /// The state of this license.
    #[must_use]
    pub fn of(row: &LicenseRow) -> Self {
        if row.revocation.is_some() { Self::Revoked } else { Self::Active }
    }
}

/// A license to be made.
#[derive(Clone, Debug)]
pub struct NewLicense {
    pub subscription_id: SubscriptionId,
    pub kind: LicenseKind,
    pub max_instances: i32,
    pub legacy_bearer: bool,
    pub external_ref: Option<String>,
}

/// What is to become of a license; `None`: as it is.
#[derive(Clone, Debug, Default)]
pub struct LicensePatch {
    pub max_instances: Option<i32>,
    pub external_ref: Patch<String>,
}

/// Makes a license, and the activation code that is shown this once.
///
/// # Errors
/// Its subscription is unknown or canceled, or its `external_ref` is another's.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    new: NewLicense,
) -> Result<(Changed<LicenseRow>, Credential), FulfillmentError> {
    claim_external_ref(connection, new.external_ref.as_deref(), None).await?;
    let subscription = subscriptions::find_for_update(connection, new.subscription_id).await?;
    let subscription = subscription.ok_or_else(|| unknown_subscription(new.subscription_id))?;
    refuse_canceled(&subscription)?;
    let now = circumstances.date(connection).await?;
    let row = LicenseRow {
        id: LicenseId::generate(now),
        subscription_id: subscription.id,
        kind: new.kind,
        max_instances: new.max_instances,
        legacy_bearer: new.legacy_bearer,
        external_ref: new.external_ref,
        revocation: None,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    let code = activation_code()?;
    licenses::insert(connection, &row, &circumstances.keystore.digest(&code)).await?;
    Ok((Changed::without_effects(now, None, row), code))
}

/// Amends a license. A lower cap takes no place away: it holds for the next activation.
///
/// # Errors
/// It is unknown, at another revision, or revoked, or the `external_ref` is another's.
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: LicenseId,
    expected: &Expected,
    patch: LicensePatch,
) -> Result<Changed<LicenseRow>, FulfillmentError> {
    if let Patch::Replace(external_ref) = &patch.external_ref {
        claim_external_ref(connection, Some(external_ref), Some(id)).await?;
    }
    let before = find_live(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let mut after = next_revision(&before, now);
    after.max_instances = patch.max_instances.unwrap_or(after.max_instances);
    patch.external_ref.apply(&mut after.external_ref);
    licenses::update(connection, &after).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Revokes a license, at once and for good.
///
/// # Errors
/// It is unknown, at another revision, or revoked already.
pub async fn revoke(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: LicenseId,
    expected: &Expected,
    reason: String,
) -> Result<Changed<LicenseRow>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let before = find_live(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let revocation = Revocation { at: now, reason };
    let after = LicenseRow { revocation: Some(revocation), ..next_revision(&before, now) };
    let standing = Standing::read(connection, Affected::Subscription(after.subscription_id)).await?;
    licenses::update(connection, &after).await?;
    let effects = standing.effects(connection, circumstances, now).await?;
    Ok(Changed { at: now, before: Some(before), after, effects })
}

/// Gives a license another activation code, shown this once. The one before opens nothing from now on;
/// instances that are active stay so.
///
/// # Errors
/// It is unknown, at another revision, or revoked.
pub async fn reissue(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: LicenseId,
    expected: &Expected,
) -> Result<(Changed<LicenseRow>, Credential), FulfillmentError> {
    let before = find_live(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let after = next_revision(&before, now);
    let code = activation_code()?;
    licenses::update_activation_code(connection, &after, &circumstances.keystore.digest(&code)).await?;
    Ok((Changed::without_effects(now, Some(before), after), code))
}

async fn find_live(
    connection: &mut PgConnection,
    id: LicenseId,
    expected: &Expected,
) -> Result<LicenseRow, FulfillmentError> {
    let found = licenses::find_for_update(connection, id).await?;
    let row = found.ok_or(FulfillmentError::NotFound("license"))?;
    expected.check(row.revision)?;
    match row.revocation {
        Some(_) => Err(FulfillmentError::conflict("The license was revoked, which is final.")),
        None => Ok(row),
    }
}

fn next_revision(before: &LicenseRow, now: DateTime<Utc>) -> LicenseRow {
    LicenseRow { revision: before.revision + 1, updated_at: now, ..before.clone() }
}

fn activation_code() -> Result<Credential, FulfillmentError> {
    Ok(Credential::from_random(CredentialKind::ActivationCode, &*keystore::random_bits()?))
}

fn unknown_subscription(id: SubscriptionId) -> FulfillmentError {
    let detail = format!("{id} is no subscription");
    FulfillmentError::Invalid(vec![WrongValue { member: "subscription_id", code: "unknown", detail }])
}

async fn claim_external_ref(
    connection: &mut PgConnection,
    external_ref: Option<&str>,
    own: Option<LicenseId>,
) -> Result<(), FulfillmentError> {
    let Some(external_ref) = external_ref else { return Ok(()) };
    fences::lock_external_ref(connection, "license", external_ref).await?;
    match licenses::find_id_by_external_ref(connection, external_ref).await? {
        Some(existing) if Some(existing) != own => Err(refusal::taken("license", existing)),
        Some(_) | None => Ok(()),
    }
}
