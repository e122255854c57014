//! How an installation becomes an instance: activation, the rotation of its credential, release, and what its
//! administrator switches off.

mod audit;
mod proof;
mod receipt;
mod release;
mod secret;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

pub use proof::{ActivationProof, ProofError, PublicKeyJwk};
pub use receipt::sign_receipt;
pub use release::{Receipt, release};
pub use secret::{SwitchedOff, register_key, rotate, switch_off};

use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::entitlement::{Obstacle, obstacle_of_purchase};
use crate::domain::ids::{InstanceCredentialId, InstanceId, InstanceUid};
use crate::domain::instance::{Deployment, InstanceKind, InstanceState};
use crate::domain::version::Version;
use crate::keystore::{self, Keystore, KeystoreError};
use crate::storage::activations::{self, NewInstance};
use crate::storage::instance_credentials::{self, NewCredential, Origin};
use crate::storage::{StorageError, assertion_uses, fences, licenses};

/// What an installation sends to be activated, parsed.
#[derive(Debug)]
pub struct Activation {
    pub code: Credential,
    pub instance_id: InstanceId,
    pub hostname: String,
    pub version: Version,
    pub deployment: Deployment,
    /// `None` for what is recorded already, and for a new instance `production`.
    pub kind: Option<InstanceKind>,
    /// Of an installation that authenticates by assertion; proved to be its own.
    pub key: Option<ActivationProof>,
    /// What it is given to authenticate with, where it has no key.
    pub bearer: Bearer,
}

/// What an installation without a key is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bearer {
    /// A credential that works alone, for older installations.
    LicenseKey {
        /// What it calls itself beside its `instance_id`.
        unique_instance_id: Option<String>,
    },
    /// A secret that works with the instance's uid.
    Secret,
}

/// What activation answers.
#[derive(Debug)]
pub struct Activated {
    pub uid: InstanceUid,
    /// Shown this once. `None` for an installation with a key.
    pub secret: Option<Credential>,
    /// Whether the instance is new.
    pub is_new: bool,
    pub license: licenses::LicenseRow,
}

/// Why an installation is not activated.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("as many instances of this kind are active as the license allows")]
    CapReached { cap: i32 },
    #[error("an instance with this id is active under another license")]
    Mismatch,
    /// A license key alone would open it, and the license was not made for that.
    #[error("the license gives no license keys")]
    NoLicenseKeys,
    /// Its `jti` came before, with another request.
    #[error("the proof was used before")]
    ProofUsed,
    #[error("refused: {}", .0.code())]
    Refused(Obstacle),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No license has this activation code.
    #[error("unknown activation code")]
    UnknownCode,
    /// The instance has a registered key, and this activation is not by it.
    #[error("the instance activates with its registered key only")]
    WrongKey,
    #[error("could not make a secret")]
    Keystore(#[from] KeystoreError),
}

/// Who asks, for the audit.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub now: DateTime<Utc>,
    pub grace: TimeDelta,
    pub request_id: &'a str,
}

/// Activates an installation, or activates it again.
///
/// The license's row is locked, so that two installations cannot take one last place.
///
/// # Errors
/// See [`ActivationError`].
pub async fn activate(
    connection: &mut PgConnection,
    keystore: &Keystore,
    asked: Activation,
    circumstances: Circumstances<'_>,
) -> Result<Activated, ActivationError> {
    let Circumstances { now, grace, .. } = circumstances;

    // 1. The code names the license; an unknown one is told like a wrong one.
    let digest = keystore.digest(&asked.code);
    let license = licenses::find_by_activation_code_for_update(connection, &digest).await?;
    let license = license.ok_or(ActivationError::UnknownCode)?;

    if matches!(asked.bearer, Bearer::LicenseKey { .. }) && !license.legacy_bearer {
        return Err(ActivationError::NoLicenseKeys);
    }

    // 2. What was bought must allow it now.
    let standing = activations::find_standing(connection, license.id).await?;
    if let Some(obstacle) = obstacle_of_purchase(&standing.0, &standing.1, grace, now) {
        return Err(ActivationError::Refused(obstacle));
    }

    // 3. The same installation again, or a new one. Its lock comes before its row, as everywhere: a sync of it,
    //    which writes to that row, would else be waited for in a ring.
    if let Some(uid) = activations::find_uid(connection, license.id, asked.instance_id).await? {
        fences::lock_instance(connection, uid).await?;
    }
    let known = activations::find(connection, license.id, asked.instance_id).await?;
    let kind = asked.kind.or(known.as_ref().map(|known| known.kind)).unwrap_or(InstanceKind::Production);
    if let Some(known) = &known {
        if known.state == InstanceState::Blocked {
            return Err(ActivationError::Refused(Obstacle::InstanceBlocked));
        }
        let by_its_key = match (&known.public_key, &asked.key) {
            (None, _) => true,
            (Some(registered), Some(given)) => *registered == given.public_key(),
            (Some(_), None) => false,
        };
        if !by_its_key && !known.reactivation_allowed {
            return Err(ActivationError::WrongKey);
        }
    }

    // 4. A place under the license's cap, and no place under another license.
    let takes_place =
        known.as_ref().is_none_or(|known| known.state == InstanceState::Released || known.kind != kind);
    if takes_place {
        if activations::is_held_elsewhere(connection, license.id, asked.instance_id).await? {
            return Err(ActivationError::Mismatch);
        }
        let uid = known.as_ref().map(|known| known.uid);
        let held = activations::count_held(connection, license.id, kind, uid, now).await?;
        if held >= i64::from(license.max_instances) {
            return Err(ActivationError::CapReached { cap: license.max_instances });
        }
    }

    // 5. Record it, with its credential and the audit.
    let uid = known.as_ref().map_or_else(|| InstanceUid::generate(now), |known| known.uid);
    let public_key = asked.key.as_ref().map(ActivationProof::public_key);
    let version = asked.version.to_string();
    let recorded = NewInstance {
        uid,
        license_id: license.id,
        instance_id: asked.instance_id,
        hostname: &asked.hostname,
        version: &version,
        deployment: asked.deployment,
        kind,
        public_key,
    };
    record(connection, &recorded, known.is_some(), now).await?;
    if let Some(key) = &asked.key
        && !assertion_uses::insert_once(connection, &key.usage(uid)).await?
    {
        return Err(ActivationError::ProofUsed);
    }
    if public_key.is_some() || known.as_ref().is_some_and(|known| known.state == InstanceState::Released) {
        // A key takes the place of every secret, and whoever held one before the release has given it back.
        instance_credentials::update_all_to_die(connection, uid, now).await?;
    }
    let secret = match public_key {
        Some(_) => None,
        None => Some(add_secret(connection, keystore, uid, &asked.bearer, Origin::Activation, now).await?),
    };
    let action = if known.is_some() { "instance.activate_again" } else { "instance.activate" };
    audit::record(connection, action, uid, None, Some(told(&recorded)), circumstances).await?;
    Ok(Activated { uid, secret, is_new: known.is_none(), license })
}

/// Adds a secret; of two that live already one makes room.
async fn add_secret(
    connection: &mut PgConnection,
    keystore: &Keystore,
    uid: InstanceUid,
    bearer: &Bearer,
    origin: Origin,
    now: DateTime<Utc>,
) -> Result<Credential, ActivationError> {
    let (kind, unique_instance_id) = match bearer {
        Bearer::LicenseKey { unique_instance_id } => {
            (CredentialKind::LicenseKey, unique_instance_id.as_deref())
        }
        Bearer::Secret => (CredentialKind::InstanceSecret, None),
    };
    let secret = Credential::from_random(kind, &*keystore::random_bits()?);
    instance_credentials::update_to_make_room(connection, uid, now).await?;
    let id = InstanceCredentialId::generate(now);
    let new = NewCredential { id, uid, digest: &keystore.digest(&secret), kind, unique_instance_id, origin };
    instance_credentials::insert(connection, &new, now).await?;
    Ok(secret)
}

async fn record(
    connection: &mut PgConnection,
    instance: &NewInstance<'_>,
    is_known: bool,
    now: DateTime<Utc>,
) -> Result<(), ActivationError> {
    let recorded = if is_known {
        activations::update(connection, instance, now).await
    } else {
        activations::insert(connection, instance, now).await
    };
    // The schema keeps both rules too: it answers where another transaction was faster.
    recorded.map_err(|error| match error.constraint() {
        Some("instances_held_instance_id_key") => ActivationError::Mismatch,
        Some("instances_cap") => ActivationError::CapReached { cap: 0 },
        _ => ActivationError::Storage(error),
    })
}

/// What the audit keeps of an activation.
fn told(instance: &NewInstance<'_>) -> serde_json::Value {
    serde_json::json!({
        "license_id": instance.license_id,
        "instance_id": instance.instance_id,
        "hostname": instance.hostname,
        "version": instance.version,
        "deployment": instance.deployment.as_str(),
        "kind": instance.kind.as_str(),
        "by_key": instance.public_key.is_some(),
    })
}
