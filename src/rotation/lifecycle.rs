//! `keys arm`, `keys activate` and `keys abandon`: the steps of a key between its key set and its end.

use super::RotationError;
use super::site::Site;
use crate::domain::key_ring::{Activation, Command, Fleet, Key, KeyRefusal, KeyState, Kid, Waiver};
use crate::rotation::JWKS_MAX_AGE;
use crate::storage::{fleet, key_rings};

/// What arming a key did.
#[derive(Clone, Debug)]
pub struct Armed {
    pub key: Key,
    /// Whether it was armed just now.
    pub is_new: bool,
    pub floor: u32,
    /// Who has not proved it yet, as sentences.
    pub blockers: Vec<String>,
}

/// From now on evidence counts for this key, and no process may start without it.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn arm(site: &Site<'_>, kid: Kid) -> Result<Armed, RotationError> {
    let mut change = site.begin().await?;
    let was_armed = change.stored.ring.key(kid).is_some_and(|key| key.armed_at.is_some());
    let fleet = fleet::find(change.connection(), site.environment, JWKS_MAX_AGE).await?;
    let now = change.now;
    let mut transition = change.transition(None);
    transition.carry_out(Command::Arm { kid }).await?;
    let ring = transition.ring;
    change.commit().await?;
    let key = ring.key(kid).ok_or(KeyRefusal::UnknownKid { kid })?.clone();
    let blockers = fleet.blocking(&key, now).iter().map(ToString::to_string).collect();
    Ok(Armed { key, is_new: !was_armed, floor: ring.floor(), blockers })
}

/// What activating a key did.
#[derive(Clone, Debug)]
pub struct Activated {
    pub key: Key,
    /// Whether it began to sign just now.
    pub is_new: bool,
    /// The key that signed before, whose private half is gone.
    pub demoted: Option<Kid>,
    /// Who was passed over, as sentences.
    pub passed_over: Vec<String>,
    /// Processes that never proved it and counted as gone, since they had been silent for an hour; as sentences.
    pub silent: Vec<String>,
    /// Whether a key is left that could follow at once.
    pub has_ready_standby: bool,
    pub deny_list_serial: u64,
}

/// Lets a key sign instead of the one that does, if every running backend has proved it since it was armed.
///
/// `head` is the newest key set that whoever decided this has seen; `waiver` names whom to pass over.
///
/// # Errors
///
/// The refusals of [`RotationError`], [`KeyRefusal::NotReady`] with everyone who blocks among them; nothing
/// was changed then.
pub async fn activate(
    site: &Site<'_>,
    kid: Kid,
    head: u32,
    waiver: Option<Waiver>,
) -> Result<Activated, RotationError> {
    let mut change = site.begin().await?;
    let before = change.stored.ring.clone();
    let fleet: Fleet = fleet::find(change.connection(), site.environment, JWKS_MAX_AGE).await?;
    let now = change.now;
    let slot = before.key(kid).map(Key::slot);
    let demoted =
        slot.and_then(|slot| before.active(slot)).map(|key| key.kid).filter(|active| *active != kid);
    let silent = match before.key(kid) {
        Some(key) if key.state == KeyState::Published => {
            fleet.silent(key, now).iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    let passed_over = match before.key(kid) {
        Some(key) if key.state == KeyState::Published => {
            fleet.blocking(key, now).iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    let reason = waiver.as_ref().map(|waiver| waiver.reason.clone());
    let mut transition = change.transition(reason.as_deref().filter(|_| !passed_over.is_empty()));
    let command = Activation { kid, head, fleet: fleet.clone(), waiver };
    transition.carry_out(Command::Activate(command)).await?;
    let ring = transition.ring;
    change.commit().await?;

    if !passed_over.is_empty() {
        tracing::warn!(key.kid = %kid, passed_over = passed_over.join("; "), "{kid} was activated past its gate");
    }
    if !silent.is_empty() {
        tracing::warn!(key.kid = %kid, silent = silent.join("; "), "{kid} was activated without proof of silent processes");
    }
    let key = ring.key(kid).ok_or(KeyRefusal::UnknownKid { kid })?.clone();
    let is_new = before.key(kid).is_some_and(|was| was.state != KeyState::Active);
    Ok(Activated {
        is_new,
        demoted: demoted.filter(|_| is_new),
        passed_over,
        silent,
        has_ready_standby: ring.ready_standbys(key.slot(), &fleet, now).next().is_some(),
        deny_list_serial: ring.deny_list_serial(),
        key,
    })
}

/// What giving a key up did.
#[derive(Clone, Debug)]
pub struct Abandoned {
    pub key: Key,
    /// Whether it was given up just now.
    pub is_new: bool,
    /// Whether its slot has a standby left.
    pub has_standby: bool,
}

/// Gives a key up that never signed. Backends may hold it, so that it goes onto the deny list.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn abandon(site: &Site<'_>, kid: Kid, reason: Option<&str>) -> Result<Abandoned, RotationError> {
    let mut change = site.begin().await?;
    let was_abandoned = change.stored.ring.key(kid).is_some_and(|key| key.state == KeyState::Abandoned);
    let mut transition = change.transition(reason);
    transition.carry_out(Command::Abandon { kid }).await?;
    let ring = transition.ring;
    change.commit().await?;
    let key = ring.key(kid).ok_or(KeyRefusal::UnknownKid { kid })?.clone();
    let has_standby =
        ring.keys().any(|other| other.slot() == key.slot() && other.state == KeyState::Published);
    Ok(Abandoned { key, is_new: !was_abandoned, has_standby })
}

/// The number of the newest key set: what an activation is decided on.
///
/// # Errors
///
/// [`RotationError::NotInitialized`]; the database cannot be read.
pub async fn head(site: &Site<'_>) -> Result<u32, RotationError> {
    let mut connection = site.database.begin().await?;
    let stored = key_rings::find(&mut connection, site.environment).await?;
    Ok(stored.ok_or_else(|| site.not_initialized())?.ring.head_version())
}
