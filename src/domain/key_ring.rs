//! The life of signing keys as one pure step, which the service, the command line
//! and the model check share.
//!
//! ```text
//! generated → published → active → retiring → retired
//!      ↘           ↘          ↘         ↘
//!    abandoned   abandoned     revoked (from published, active, retiring)
//! ```
//!
//! A key signs only after its verifiers have shown that they hold it: evidence and
//! ledger facts come in as data, and the ring decides on them. It knows no clock,
//! no database and no private half.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::command::{
    Activation, Command, Compromise, KeySetRecord, LastToken, NewKey, Waiver, WithoutStandby,
};
pub use self::event::{Event, Grounds};
pub use self::evidence::{
    Backend, Blocker, DISCOVERY_MARGIN, FORGET_AFTER, Fleet, Process, SilentProcess, Standing, Trust,
};
pub use self::key::{Denial, Key, KeyState, Publication, Slot};
pub use self::names::{Algorithm, Digest, Kid, PURPOSES, Purpose};
pub use self::recall::{Adopted, Recalled};
pub use self::refusal::KeyRefusal;
pub use self::step::step;

use self::evidence::Silence;

mod command;
mod event;
mod evidence;
mod guard;
mod key;
#[cfg(test)]
mod model;
mod names;
#[cfg(test)]
mod properties;
mod recall;
pub mod recovery;
mod refusal;
mod step;
#[cfg(test)]
mod stories;

/// Every key of one issuer and environment, the newest key set, and the floor.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct KeyRing {
    /// Final keys stay, so that no kid comes back.
    keys: BTreeMap<Kid, Key>,
    head: Option<Head>,
    floor: u32,
    deny_list_serial: u64,
    longest_token: TimeDelta,
}

/// The newest recorded key set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Head {
    pub version: u32,
    pub digest: Digest,
}

/// A key must have this much of its life left when it starts to sign: it has to
/// last until the rotation after this one.
pub const LEFT_AT_ACTIVATION: TimeDelta = TimeDelta::days(90);

/// Tolerated clock difference between us and a verifier. A key waits this much
/// longer than its last token before it leaves, or a token could outlive the key
/// that proves it.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(token_authority_verifier::LEEWAY.as_secs().cast_signed());

impl KeyRing {
    /// A ring as it was stored.
    #[must_use]
    pub fn restored(
        keys: impl IntoIterator<Item = Key>,
        head: Option<Head>,
        floor: u32,
        deny_list_serial: u64,
        longest_token: TimeDelta,
    ) -> Self {
        let keys = keys.into_iter().map(|key| (key.kid, key)).collect();
        Self { keys, head, floor, deny_list_serial, longest_token }
    }

    /// Every key that ever was, by kid.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    #[must_use]
    pub fn key(&self, kid: Kid) -> Option<&Key> {
        self.keys.get(&kid)
    }

    /// The key that signs for `slot`.
    #[must_use]
    pub fn active(&self, slot: Slot) -> Option<&Key> {
        self.keys().find(|key| key.slot() == slot && key.state == KeyState::Active)
    }

    /// The newest recorded key set.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The number of the newest recorded key set, 0 before the first.
    #[must_use]
    pub fn head_version(&self) -> u32 {
        self.head.map_or(0, |head| head.version)
    }

    /// The lowest key-set version with which a process may start.
    #[must_use]
    pub fn floor(&self) -> u32 {
        self.floor
    }

    /// Counts the changes of the deny list.
    #[must_use]
    pub fn deny_list_serial(&self) -> u64 {
        self.deny_list_serial
    }

    /// The longest life that any key set ever allowed a token.
    #[must_use]
    pub fn longest_token(&self) -> TimeDelta {
        self.longest_token
    }

    /// What the next key set has to carry when `adding` are published with it and
    /// `leaving` left out.
    #[must_use]
    pub fn next_carried(&self, adding: &BTreeSet<Kid>, leaving: &BTreeSet<Kid>) -> BTreeSet<Kid> {
        let carried = self.keys().filter(|key| key.state.is_carried()).map(|key| key.kid);
        carried.chain(adding.iter().copied()).filter(|kid| !leaving.contains(kid)).collect()
    }

    /// The published keys of `slot` that could sign at once in an emergency.
    pub fn ready_standbys<'a>(
        &'a self,
        slot: Slot,
        fleet: &'a Fleet,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = &'a Key> {
        self.standbys(slot).filter(move |key| {
            key.armed_at.is_some()
                && now < key.not_after
                && fleet.blockers(key, Silence::IsForgiven, now).is_empty()
        })
    }

    fn standbys(&self, slot: Slot) -> impl Iterator<Item = &Key> {
        self.keys().filter(move |key| key.slot() == slot && key.state == KeyState::Published)
    }

    fn find(&self, kid: Kid) -> Result<&Key, KeyRefusal> {
        self.key(kid).ok_or(KeyRefusal::UnknownKid { kid })
    }

    fn find_in(&self, kid: Kid, needed: KeyState) -> Result<&Key, KeyRefusal> {
        let key = self.find(kid)?;
        if key.state == needed {
            Ok(key)
        } else {
            Err(KeyRefusal::WrongState { kid, state: key.state, needed })
        }
    }
}
