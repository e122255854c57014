//! What an instance changes of itself: its secret, and what its administrator switches off.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::{ActivationError, ActivationProof, Bearer, Circumstances, add_secret, audit};
use crate::domain::catalog::{BackendName, UnitPrimitiveName};
use crate::domain::credential::Credential;
use crate::domain::ids::InstanceUid;
use crate::keystore::Keystore;
use crate::storage::instance_credentials::{self, Origin};
use crate::storage::{activations, assertion_uses};

/// Gives the instance a new secret. The old one goes on until 7 days after the first use of the new one.
///
/// # Errors
/// The database or the source of randomness fails.
pub async fn rotate(
    connection: &mut PgConnection,
    keystore: &Keystore,
    uid: InstanceUid,
    circumstances: Circumstances<'_>,
) -> Result<Credential, ActivationError> {
    let secret =
        add_secret(connection, keystore, uid, &Bearer::Secret, Origin::Rotation, circumstances.now).await?;
    audit::record(connection, "instance.rotate_credential", uid, None, None, circumstances).await?;
    Ok(secret)
}

/// Registers a key. In the place of every secret it counts from now on alone; the key that it follows goes on until 7 days
/// after the first use of the new one. `held` is the registered key by which the instance proved to be itself, if it
/// has one: a newer one that was never used, perhaps since its answer was lost, makes room.
///
/// # Errors
/// The proof was used before with another request, or the database fails.
pub async fn register_key(
    connection: &mut PgConnection,
    uid: InstanceUid,
    key: &ActivationProof,
    held: Option<&[u8]>,
    circumstances: Circumstances<'_>,
) -> Result<(), ActivationError> {
    if !assertion_uses::insert_once(connection, &key.usage(uid)).await? {
        return Err(ActivationError::ProofUsed);
    }
    let public_key = key.public_key();
    if held == Some(public_key.as_slice()) {
        return Ok(());
    }
    activations::update_public_key(connection, uid, &public_key, held, circumstances.now).await?;
    instance_credentials::update_all_to_die(connection, uid, circumstances.now).await?;
    audit::record(connection, "instance.register_key", uid, None, None, circumstances).await?;
    Ok(())
}

/// What an instance's administrator switched off.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SwitchedOff {
    pub unit_primitives: BTreeSet<UnitPrimitiveName>,
    pub backends: BTreeSet<BackendName>,
}

/// Replaces what is switched off. It never grants anything that was not bought.
///
/// # Errors
/// The database cannot be written.
pub async fn switch_off(
    connection: &mut PgConnection,
    uid: InstanceUid,
    before: &SwitchedOff,
    after: &SwitchedOff,
    circumstances: Circumstances<'_>,
) -> Result<(), ActivationError> {
    if before == after {
        return Ok(());
    }
    let names = |off: &SwitchedOff| {
        let primitives: Vec<String> = off.unit_primitives.iter().map(ToString::to_string).collect();
        let backends: Vec<String> = off.backends.iter().map(ToString::to_string).collect();
        (primitives, backends)
    };
    let (primitives, backends) = names(after);
    activations::update_switched_off(connection, uid, &primitives, &backends, circumstances.now).await?;
    let json = |off: &SwitchedOff| {
        let (primitives, backends) = names(off);
        serde_json::json!({ "disabled_unit_primitives": primitives, "disabled_backends": backends })
    };
    let (before, after) = (Some(json(before)), Some(json(after)));
    audit::record(connection, "instance.switch_off", uid, before, after, circumstances).await?;
    Ok(())
}
