//! What a database that was restored from an old copy is told of the time that it lost: remembered, not decided.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::step::Step;
use super::{Denial, Event, Grounds, Head, Key, KeyRefusal, KeyState, Kid, NewKey, Publication};

/// One change of one key that happened, as the audit or a signed document tells it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Recalled {
    /// What the key was born with; a key that the ring does not know begins with it.
    pub key: NewKey,
    /// The state that it entered, or the one that it is in.
    pub to: KeyState,
    /// When.
    pub at: DateTime<Utc>,
    pub published_in: Option<u32>,
    pub armed_at: Option<DateTime<Utc>>,
    pub denial: Option<Denial>,
}

/// A key set that was signed and published in the lost time.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Adopted {
    pub version: u32,
    pub digest: super::Digest,
    pub prev: Option<super::Digest>,
    pub carried: BTreeSet<Kid>,
    pub max_token_ttl: chrono::TimeDelta,
    pub at: DateTime<Utc>,
    /// The lowest version with which a process may start.
    pub floor: u32,
}

impl Step {
    /// Moves a key along one edge of its life, as it has moved before.
    pub(super) fn recall(&mut self, recalled: Recalled) -> Result<(), KeyRefusal> {
        let Recalled { key: new, to, at, published_in, armed_at, denial } = recalled;
        let kid = new.kid;
        let Some(key) = self.ring.key(kid).cloned() else {
            if to != KeyState::Generated {
                return Err(KeyRefusal::UnknownKid { kid });
            }
            let NewKey { purpose, alg, not_after, .. } = new;
            let key = Key {
                kid,
                purpose,
                alg,
                state: to,
                not_after,
                published: None,
                armed_at: None,
                activated_at: None,
                demoted_at: None,
                denial: None,
            };
            self.ring.keys.insert(kid, key);
            self.events.push(Event::Generated { kid });
            return Ok(());
        };
        if key.state != to {
            self.recall_edge(&key, to, at, published_in)?;
        }
        if let Some(armed_at) = armed_at
            && key.armed_at.is_none()
            && self.ring.key(kid).is_some_and(|key| key.published.is_some())
        {
            self.change(kid, |key| key.armed_at = Some(armed_at));
            self.events.push(Event::Armed { kid });
        }
        if let Some(denial) = denial {
            self.deny(kid, denial);
        }
        Ok(())
    }

    fn recall_edge(
        &mut self,
        key: &Key,
        to: KeyState,
        at: DateTime<Utc>,
        published_in: Option<u32>,
    ) -> Result<(), KeyRefusal> {
        let (kid, slot) = (key.kid, key.slot());
        if !key.state.may_become(to) {
            return Err(KeyRefusal::WrongState { kid, state: key.state, needed: to });
        }
        match to {
            KeyState::Generated => {}
            KeyState::Published => {
                let version = published_in.unwrap_or(self.ring.head_version());
                self.enter(kid, to, |key| key.published = Some(Publication { version, at }));
                self.events.push(Event::Published { kid, version });
            }
            KeyState::Active => {
                if let Some(active) = self.ring.active(slot) {
                    return Err(KeyRefusal::AlreadyActive { slot, kid: active.kid });
                }
                self.enter(kid, to, |key| key.activated_at = Some(at));
                self.events.push(Event::Activated { kid, grounds: Grounds::Recovered });
            }
            KeyState::Retiring => {
                self.enter(kid, to, |key| key.demoted_at = Some(at));
                self.events.push(Event::Demoted { kid });
                self.deny(kid, Denial::IssuedAfter(at));
            }
            KeyState::Retired => {
                self.enter(kid, to, |_| {});
                self.events.push(Event::Retired { kid });
                self.deny(kid, Denial::Always);
            }
            KeyState::Revoked => {
                self.enter(kid, to, |_| {});
                self.events.push(Event::Revoked { kid });
                self.deny(kid, Denial::Always);
            }
            KeyState::Abandoned => {
                self.enter(kid, to, |_| {});
                self.events.push(Event::Abandoned { kid });
                if key.published.is_some() {
                    self.deny(kid, Denial::Always);
                }
            }
        }
        Ok(())
    }

    /// Takes over the next key set of the chain. What it carries of what the ring knows as generated was published.
    pub(super) fn adopt(&mut self, adopted: Adopted) -> Result<(), KeyRefusal> {
        let Adopted { version, digest, prev, carried, max_token_ttl, at, floor } = adopted;
        if self.ring.head == Some(Head { version, digest }) {
            return Ok(());
        }
        let expected = self.ring.head_version() + 1;
        if version != expected {
            return Err(KeyRefusal::VersionOutOfOrder { expected, given: version });
        }
        if prev != self.ring.head.map(|head| head.digest) {
            return Err(KeyRefusal::BrokenChain { version });
        }
        self.ring.head = Some(Head { version, digest });
        self.ring.longest_token = self.ring.longest_token.max(max_token_ttl);
        self.events.push(Event::KeySetRecorded { version });
        for kid in carried {
            if self.ring.key(kid).is_some_and(|key| key.state == KeyState::Generated) {
                self.enter(kid, KeyState::Published, |key| key.published = Some(Publication { version, at }));
                self.events.push(Event::Published { kid, version });
            }
        }
        let floor = floor.min(version);
        if floor > self.ring.floor {
            self.ring.floor = floor;
            self.events.push(Event::FloorRaised { to: floor });
        }
        Ok(())
    }

    /// Raises the numbers that only grow to where they had been.
    pub(super) fn catch_up(&mut self, floor: u32, deny_list_serial: u64) {
        let floor = floor.min(self.ring.head_version());
        if floor > self.ring.floor {
            self.ring.floor = floor;
            self.events.push(Event::FloorRaised { to: floor });
        }
        self.ring.deny_list_serial = self.ring.deny_list_serial.max(deny_list_serial);
    }
}
