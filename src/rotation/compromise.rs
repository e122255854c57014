//! `keys compromise`: what it would do, told before it is done, and the doing.

use std::collections::BTreeSet;

use token_authority_verifier::Purpose;

use super::RotationError;
use super::draining::live_tokens;
use super::fleet_view::FleetView;
use super::horizon::{self, Horizon};
use super::site::Site;
use crate::domain::key_ring::{
    Command, Compromise, Event, Key, KeyRefusal, KeyState, Kid, Slot, WithoutStandby, step,
};
use crate::rotation::JWKS_MAX_AGE;
use crate::storage::issuances::LiveTokens;
use crate::storage::{fences, fleet, key_rings, signing_keys};

/// What a compromise would do now, and what is at stake.
#[derive(Clone, Debug)]
pub struct Assessment {
    pub endangered: Vec<Endangered>,
    pub successions: Vec<Succession>,
    /// How long it takes at the worst until each backend refuses the keys.
    pub horizons: Vec<Horizon>,
    /// Whether a deny list can be signed afterwards.
    pub can_deny: bool,
}

/// A key that is to end, and what lives of it.
#[derive(Clone, Debug)]
pub struct Endangered {
    pub key: Key,
    /// The tokens that will be refused.
    pub live: LiveTokens,
}

/// Who signs where a key that is to end did.
#[derive(Clone, Debug)]
pub struct Succession {
    pub slot: Slot,
    /// `None`: nothing signs any more.
    pub successor: Option<Kid>,
    /// Why no other standby is ready, as sentences.
    pub not_ready: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Ended {
    pub keys: Vec<Key>,
    /// Whether anything changed just now.
    pub is_new: bool,
    pub successors: Vec<(Slot, Kid)>,
    /// Where nothing signs any more.
    pub silenced: Vec<Slot>,
    pub deny_list_serial: u64,
    /// Connections that held mints in the way and were ended.
    pub ended_connections: i64,
}

/// Tells what [`compromise`] would do now. Changes nothing.
///
/// # Errors
///
/// The same refusals.
pub async fn assess(
    site: &Site<'_>,
    kids: &BTreeSet<Kid>,
    without_standby: &WithoutStandby,
) -> Result<Assessment, RotationError> {
    let mut connection = site.database.begin().await?;
    let now = site.clock.settle(fences::find_now(&mut connection).await?);
    let stored = key_rings::find(&mut connection, site.environment).await?;
    let ring = stored.ok_or_else(|| site.not_initialized())?.ring;
    let fleet = fleet::find(&mut connection, site.environment, JWKS_MAX_AGE).await?;
    let command =
        Compromise { kids: kids.clone(), fleet: fleet.clone(), without_standby: without_standby.clone() };
    let (after, events) = step(&ring, Command::Compromise(command), now)?;

    let listed = signing_keys::list(&mut connection, site.environment).await?;
    let mut endangered = Vec::new();
    for one in listed.iter().filter(|one| kids.contains(&one.key.kid)) {
        let live = match one.key.purpose {
            Purpose::AccessTokens => live_tokens(&mut connection, &ring, one, now).await?,
            _ => LiveTokens::default(),
        };
        endangered.push(Endangered { key: one.key.clone(), live });
    }
    let silenced = ring.keys().filter(|key| kids.contains(&key.kid) && key.state == KeyState::Active);
    let successions = silenced.map(|key| {
        let slot = key.slot();
        let standbys = ring.keys().filter(|key| key.slot() == slot && key.state == KeyState::Published);
        let not_ready = standbys.filter(|key| !kids.contains(&key.kid)).flat_map(|key| {
            if key.armed_at.is_none() {
                return vec![format!("{} is not armed", key.kid)];
            }
            let lacking = fleet.lacking(key, now);
            lacking.iter().map(|blocker| format!("{}: {blocker}", key.kid)).collect()
        });
        Succession { slot, successor: successor(&events, &after, slot), not_ready: not_ready.collect() }
    });
    let view = FleetView::read(&mut connection, site.environment).await?;
    let keys: Vec<Key> = endangered.iter().map(|one| one.key.clone()).collect();
    let lists = Slot { purpose: Purpose::DenyList, alg: crate::domain::key_ring::Algorithm::EdDsa };
    Ok(Assessment {
        successions: successions.collect(),
        horizons: horizon::of_keys(&view, &keys, now),
        can_deny: after.active(lists).is_some(),
        endangered,
    })
}

/// Ends keys whose private half may be in other hands, whatever state they are in: nothing is signed
/// under them once this returns, the ready standby signs instead, and the deny list says so.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn compromise(
    site: &Site<'_>,
    kids: &BTreeSet<Kid>,
    without_standby: WithoutStandby,
    reason: Option<&str>,
) -> Result<Ended, RotationError> {
    let (mut change, ended_connections) = site.begin_at_once().await?;
    let before = change.stored.ring.clone();
    let fleet = fleet::find(change.connection(), site.environment, JWKS_MAX_AGE).await?;
    let mut transition = change.transition(reason);
    let command = Compromise { kids: kids.clone(), fleet, without_standby };
    let events = transition.carry_out(Command::Compromise(command)).await?;
    let ring = transition.ring;
    change.commit().await?;

    let keys = kids.iter().map(|kid| ring.key(*kid).cloned().ok_or(KeyRefusal::UnknownKid { kid: *kid }));
    let slots = before.keys().filter(|key| kids.contains(&key.kid)).map(Key::slot);
    let slots: BTreeSet<Slot> = slots.collect();
    let successors = slots.iter().filter_map(|slot| Some((*slot, successor(&events, &ring, *slot)?)));
    let silenced = events.iter().filter_map(|event| match event {
        Event::MintingStopped { slot } => Some(*slot),
        _ => None,
    });
    Ok(Ended {
        keys: keys.collect::<Result<_, _>>()?,
        is_new: !events.is_empty(),
        successors: successors.collect(),
        silenced: silenced.collect(),
        deny_list_serial: ring.deny_list_serial(),
        ended_connections,
    })
}

/// The key of the slot that began to sign.
fn successor(events: &[Event], after: &crate::domain::key_ring::KeyRing, slot: Slot) -> Option<Kid> {
    events.iter().find_map(|event| match event {
        Event::Activated { kid, .. } => after.key(*kid).filter(|key| key.slot() == slot).map(|key| key.kid),
        _ => None,
    })
}
