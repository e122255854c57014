//! What people may see of the keys: never a private half.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use token_authority_verifier::KeySet;

use super::fleet_view::{FleetView, Holding};
use super::horizon::{self, Horizon};
use super::{JWKS_MAX_AGE, RotationError};
use crate::domain::key_ring::{Algorithm, Fleet, Key, KeyRing, KeyState, Kid, Purpose, Slot};
use crate::storage::signing_keys::{self, ListedKey};
use crate::storage::{StorageError, fleet, key_rings, key_sets};

/// Every key that ever was, in the order of birth.
///
/// # Errors
///
/// [`RotationError::NotInitialized`]; the database cannot be read.
pub async fn list_keys(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<ListedKey>, RotationError> {
    let keys = signing_keys::list(connection, environment).await?;
    if keys.is_empty() {
        return Err(RotationError::NotInitialized { environment: environment.to_owned() });
    }
    Ok(keys)
}

/// How the keys of an environment stand.
#[derive(Clone, Debug)]
pub struct Status {
    pub issuer: String,
    pub head: u32,
    /// When the newest key set was made.
    pub head_created_at: Option<DateTime<Utc>>,
    pub floor: u32,
    pub deny_list_serial: u64,
    /// One per purpose and algorithm in use.
    pub slots: Vec<SlotStatus>,
    /// Each backend against each key that it has to verify and that has not come to its end.
    pub holdings: Vec<Holding>,
    /// How long each backend would go on believing the keys that sign, were they revoked now.
    pub horizons: Vec<Horizon>,
    pub states: BTreeMap<Kid, KeyState>,
}

/// How one purpose and algorithm stands.
#[derive(Clone, Debug)]
pub struct SlotStatus {
    pub slot: Slot,
    /// The key that signs; none while minting is stopped.
    pub active: Option<Key>,
    /// Published keys that could follow, the one that lasts longest first.
    pub standbys: Vec<Key>,
    /// Those of them that could sign at once in an emergency.
    pub ready: BTreeSet<Kid>,
    /// Demoted keys whose tokens may still live.
    pub retiring: Vec<Key>,
}

/// Reads how the keys stand at `now`.
///
/// # Errors
///
/// [`RotationError::NotInitialized`]; the database cannot be read.
pub async fn status(
    connection: &mut PgConnection,
    environment: &str,
    now: DateTime<Utc>,
) -> Result<Status, RotationError> {
    let stored = key_rings::find(connection, environment).await?;
    let stored =
        stored.ok_or_else(|| RotationError::NotInitialized { environment: environment.to_owned() })?;
    let ring = stored.ring;
    let newest = key_sets::list(connection, environment).await?.pop();
    let mut slots: Vec<Slot> = ring.keys().map(Key::slot).collect();
    slots.sort_unstable();
    slots.dedup();
    let fleet = fleet::find(connection, environment, JWKS_MAX_AGE).await?;
    let view = FleetView::read(connection, environment).await?;
    let held: Vec<Key> = ring.keys().filter(|key| key.state.is_carried()).cloned().collect();
    let signing: Vec<Key> = held.iter().filter(|key| key.state == KeyState::Active).cloned().collect();
    Ok(Status {
        holdings: view.holdings(&held, now),
        horizons: horizon::of_keys(&view, &signing, now),
        states: held.iter().map(|key| (key.kid, key.state)).collect(),
        issuer: stored.issuer,
        head: ring.head_version(),
        head_created_at: newest.map(|summary| summary.created_at),
        floor: ring.floor(),
        deny_list_serial: ring.deny_list_serial(),
        slots: slots.into_iter().map(|slot| slot_status(&ring, slot, &fleet, now)).collect(),
    })
}

/// The access-token keys that verifiers should hold now, as plain JWKS (RFC 7517 §5).
///
/// For those that must discover: a key that was revoked is gone from here at once.
///
/// # Errors
///
/// The database cannot be read.
pub async fn published_now(connection: &mut PgConnection, environment: &str) -> Result<String, StorageError> {
    let keys = signing_keys::list(connection, environment).await?;
    let carried = keys
        .iter()
        .filter(|listed| listed.key.purpose == Purpose::AccessTokens && listed.key.state.is_carried());
    // A set without a key is no key set; here it says that nothing can be verified.
    Ok(KeySet::new(carried.map(|listed| listed.public_key.clone()))
        .map_or_else(|_| r#"{"keys":[]}"#.to_owned(), |jwks| jwks.to_canonical_json()))
}

/// The algorithms of the access-token keys that verifiers should hold now, sorted.
///
/// # Errors
///
/// The database cannot be read.
pub async fn published_algs(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<BTreeSet<Algorithm>, StorageError> {
    let keys = signing_keys::list(connection, environment).await?;
    let carried = keys
        .iter()
        .filter(|listed| listed.key.purpose == Purpose::AccessTokens && listed.key.state.is_carried());
    Ok(carried.map(|listed| listed.key.alg).collect())
}

fn slot_status(ring: &KeyRing, slot: Slot, fleet: &Fleet, now: DateTime<Utc>) -> SlotStatus {
    let in_state = |state| -> Vec<Key> {
        ring.keys().filter(|key| key.slot() == slot && key.state == state).cloned().collect()
    };
    let mut standbys = in_state(KeyState::Published);
    standbys.sort_by_key(|key| std::cmp::Reverse((key.not_after, key.kid)));
    SlotStatus {
        slot,
        active: ring.active(slot).cloned(),
        ready: ring.ready_standbys(slot, fleet, now).map(|key| key.kid).collect(),
        standbys,
        retiring: in_state(KeyState::Retiring),
    }
}
