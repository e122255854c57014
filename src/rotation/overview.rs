//! What people may see of the keys: never a private half.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::RotationError;
use crate::domain::key_ring::{Key, KeyRing, KeyState, Slot};
use crate::storage::signing_keys::{self, ListedKey};
use crate::storage::{key_rings, key_sets};

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
}

/// How one purpose and algorithm stands.
#[derive(Clone, Debug)]
pub struct SlotStatus {
    pub slot: Slot,
    /// The key that signs; none while minting is stopped.
    pub active: Option<Key>,
    /// Published keys that could follow, the one that lasts longest first.
    pub standbys: Vec<Key>,
    /// Demoted keys whose tokens may still live.
    pub retiring: Vec<Key>,
}

/// Reads how the keys stand.
///
/// # Errors
///
/// [`RotationError::NotInitialized`]; the database cannot be read.
pub async fn status(connection: &mut PgConnection, environment: &str) -> Result<Status, RotationError> {
    let stored = key_rings::find(connection, environment).await?;
    let stored =
        stored.ok_or_else(|| RotationError::NotInitialized { environment: environment.to_owned() })?;
    let ring = stored.ring;
    let newest = key_sets::list(connection, environment).await?.pop();
    let mut slots: Vec<Slot> = ring.keys().map(Key::slot).collect();
    slots.sort_unstable();
    slots.dedup();
    Ok(Status {
        issuer: stored.issuer,
        head: ring.head_version(),
        head_created_at: newest.map(|summary| summary.created_at),
        floor: ring.floor(),
        deny_list_serial: ring.deny_list_serial(),
        slots: slots.into_iter().map(|slot| slot_status(&ring, slot)).collect(),
    })
}

fn slot_status(ring: &KeyRing, slot: Slot) -> SlotStatus {
    let in_state = |state| -> Vec<Key> {
        ring.keys().filter(|key| key.slot() == slot && key.state == state).cloned().collect()
    };
    let mut standbys = in_state(KeyState::Published);
    standbys.sort_by_key(|key| std::cmp::Reverse((key.not_after, key.kid)));
    SlotStatus { slot, active: ring.active(slot).cloned(), standbys, retiring: in_state(KeyState::Retiring) }
}
