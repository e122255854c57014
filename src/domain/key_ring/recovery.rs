//! The way out of safe mode: what a restored ring has to go through until it knows again what it forgot.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::recall::{Adopted, Recalled};
use super::{Command, Denial, Digest, Event, Key, KeyRefusal, KeyRing, KeyState, Kid, NewKey, Slot, step};

/// What is known outside of the database. All of it is proved: signed by the root, or by a key that the root vouches for.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What the audit tells of keys and key sets, in its order.
    pub audit: Vec<Remembered>,
    /// The key sets after the ring's head, oldest first, each chained to the one before.
    pub key_sets: Vec<PublishedSet>,
    /// What the newest signed deny list denies.
    pub denied: BTreeMap<Kid, Denial>,
    pub deny_list_serial: u64,
    /// The keys whose private half the database still has.
    pub private_halves: BTreeSet<Kid>,
}

/// How far signed documents outside of the database go. A claim that nobody signed is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outside {
    /// The newest key set that the root has signed.
    pub key_set: Option<u32>,
    /// The serial of the newest signed deny list.
    pub deny_list_serial: Option<u64>,
    /// The last event of the newest signed audit checkpoint.
    pub audit_sequence: Option<u64>,
}

/// In which way a database is an old copy of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Behind {
    #[error("the root has signed key set {signed}; this database knows no later one than {known}")]
    KeySet { signed: u32, known: u32 },
    #[error("deny list {signed} was signed; this database knows no later one than {known}")]
    DenyList { signed: u64, known: u64 },
    #[error("the audit was signed up to event {signed}; this database knows no later one than {known}")]
    Audit { signed: u64, known: u64 },
}

impl Outside {
    /// What a database with this ring, whose last audit event is `audit_sequence`, is behind; `None` when nothing
    /// outside goes further.
    #[must_use]
    pub fn is_ahead_of(&self, ring: &KeyRing, audit_sequence: u64) -> Option<Behind> {
        let (head, serial) = (ring.head_version(), ring.deny_list_serial());
        let key_set = self.key_set.filter(|signed| *signed > head);
        let deny_list = self.deny_list_serial.filter(|signed| *signed > serial);
        let audit = self.audit_sequence.filter(|signed| *signed > audit_sequence);
        key_set
            .map(|signed| Behind::KeySet { signed, known: head })
            .or(deny_list.map(|signed| Behind::DenyList { signed, known: serial }))
            .or(audit.map(|signed| Behind::Audit { signed, known: audit_sequence }))
    }
}

/// One line of the audit that says something about the ring.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Remembered {
    Floor(u32),
    Key(Recalled),
    KeySet { version: u32, digest: Option<Digest> },
}

/// A key set as its manifest tells it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PublishedSet {
    pub set: Adopted,
    pub keys: BTreeMap<Kid, NewKey>,
    pub denied: BTreeMap<Kid, Denial>,
}

/// Why the evidence does not suffice.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecoveryRefusal {
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    #[error("key set {version} was recorded, but what was published does not hold it, or holds another")]
    KeySetMissing { version: u32 },
}

/// The commands that bring `ring` to where it had been, and the ring that they lead to. Each is to be carried out in
/// this order, in one transaction.
///
/// A key that was made after the copy has no private half any more: whatever it was, it will not sign again. Where that
/// leaves a slot without a key that signs, a standby that every running process holds takes over.
///
/// # Errors
///
/// The evidence does not fit together; nothing is to be changed then.
pub fn recover(
    ring: &KeyRing,
    evidence: &Evidence,
    now: DateTime<Utc>,
) -> Result<(KeyRing, Vec<Command>), RecoveryRefusal> {
    let mut recovery = Recovery { ring: ring.clone(), commands: vec![], now, floor: 0 };
    let mut ahead = evidence.key_sets.iter().peekable();

    // 1. What the audit tells, as it happened.
    for remembered in &evidence.audit {
        match remembered {
            Remembered::Floor(floor) => recovery.floor = recovery.floor.max(*floor),
            Remembered::Key(recalled) => recovery.recall(recalled)?,
            Remembered::KeySet { version, .. } if *version <= recovery.ring.head_version() => {}
            Remembered::KeySet { version, digest } => {
                let is_it = |set: &&PublishedSet| {
                    set.set.version == *version && digest.is_none_or(|digest| digest == set.set.digest)
                };
                let next = ahead.next_if(is_it);
                recovery.adopt(next.ok_or(RecoveryRefusal::KeySetMissing { version: *version })?)?;
            }
        }
    }

    // 2. What was published after the audit was exported.
    for set in ahead {
        for (kid, key) in &set.keys {
            if recovery.ring.key(*kid).is_none() {
                recovery.move_to(key, KeyState::Generated, set.set.at)?;
            }
        }
        recovery.adopt(set)?;
        recovery.leave_out(set)?;
    }

    // 3. Whatever is denied, by whomever: denials only grow.
    let by_sets = evidence.key_sets.iter().flat_map(|set| &set.denied);
    for (kid, denial) in by_sets.chain(&evidence.denied) {
        recovery.deny(*kid, *denial)?;
    }

    // 4. Private halves that are gone.
    for key in recovery.ring.clone().keys().filter(|key| !evidence.private_halves.contains(&key.kid)) {
        let to = match key.state {
            KeyState::Generated | KeyState::Published => KeyState::Abandoned,
            KeyState::Active => KeyState::Retiring,
            _ => continue,
        };
        recovery.move_to(&born(key), to, now)?;
    }

    // 5. The numbers, and who signs from now on.
    let floor = recovery.floor;
    recovery.run(Command::CatchUp { floor, deny_list_serial: evidence.deny_list_serial })?;
    for slot in recovery.silent_slots() {
        if let Some(successor) = recovery.successor(slot) {
            recovery.move_to(&successor, KeyState::Active, now)?;
        }
    }
    Ok((recovery.ring, recovery.commands))
}

struct Recovery {
    ring: KeyRing,
    commands: Vec<Command>,
    now: DateTime<Utc>,
    floor: u32,
}

impl Recovery {
    /// Notes a command that changes something.
    fn run(&mut self, command: Command) -> Result<(), KeyRefusal> {
        let (ring, events): (KeyRing, Vec<Event>) = step(&self.ring, command.clone(), self.now)?;
        if ring != self.ring || !events.is_empty() {
            self.commands.push(command);
            self.ring = ring;
        }
        Ok(())
    }

    /// A key that got further than it is remembered stays where it is.
    fn recall(&mut self, recalled: &Recalled) -> Result<(), KeyRefusal> {
        let mut recalled = recalled.clone();
        match self.ring.key(recalled.key.kid) {
            Some(known) if !known.state.may_become(recalled.to) => recalled.to = known.state,
            None if recalled.to != KeyState::Generated => {
                self.move_to(&recalled.key.clone(), KeyState::Generated, recalled.at)?;
            }
            _ => {}
        }
        self.run(Command::Recall(recalled))
    }

    fn move_to(&mut self, key: &NewKey, to: KeyState, at: DateTime<Utc>) -> Result<(), KeyRefusal> {
        let (key, published_in) = (key.clone(), None);
        self.run(Command::Recall(Recalled { key, to, at, published_in, armed_at: None, denial: None }))
    }

    fn adopt(&mut self, set: &PublishedSet) -> Result<(), KeyRefusal> {
        self.run(Command::Adopt(set.set.clone()))
    }

    /// Only a key that had come to its end is left out of a key set.
    fn leave_out(&mut self, set: &PublishedSet) -> Result<(), KeyRefusal> {
        let carried = &set.set.carried;
        let left_out: Vec<Key> = self.ring.keys().filter(|key| key.state.is_carried()).cloned().collect();
        for key in left_out.iter().filter(|key| !carried.contains(&key.kid)) {
            let to = match key.state {
                KeyState::Retiring => KeyState::Retired,
                KeyState::Published => KeyState::Abandoned,
                // Nothing tells how: the stricter end is the safe one.
                _ => KeyState::Revoked,
            };
            self.move_to(&born(key), to, set.set.at)?;
        }
        Ok(())
    }

    fn deny(&mut self, kid: Kid, denial: Denial) -> Result<(), KeyRefusal> {
        let Some(key) = self.ring.key(kid).cloned() else { return Ok(()) };
        let (to, at) = match (denial, key.state) {
            (Denial::Always, KeyState::Generated) => (KeyState::Abandoned, self.now),
            (Denial::Always, KeyState::Published | KeyState::Active | KeyState::Retiring) => {
                (KeyState::Revoked, self.now)
            }
            (Denial::IssuedAfter(at), KeyState::Active) => (KeyState::Retiring, at),
            (_, state) => (state, self.now),
        };
        let denial = match (denial, to) {
            // A key that may still sign is not denied, whatever an old list says.
            (Denial::IssuedAfter(_), KeyState::Generated | KeyState::Published) => None,
            (denial, _) => Some(denial),
        };
        let key = born(&key);
        self.run(Command::Recall(Recalled { key, to, at, published_in: None, armed_at: None, denial }))
    }

    /// Where a key had signed, and none does.
    fn silent_slots(&self) -> BTreeSet<Slot> {
        let had = self.ring.keys().filter(|key| key.activated_at.is_some()).map(Key::slot);
        had.filter(|slot| self.ring.active(*slot).is_none()).collect()
    }

    /// A standby that no running process can lack: armed, or brought by a key set that nobody starts below.
    fn successor(&self, slot: Slot) -> Option<NewKey> {
        let floor = self.ring.floor();
        let held = |key: &&Key| {
            key.armed_at.is_some() || key.published.is_some_and(|published| published.version <= floor)
        };
        let standbys = self.ring.standbys(slot).filter(held).filter(|key| self.now < key.not_after);
        standbys.max_by_key(|key| (key.not_after, key.kid)).map(born)
    }
}

fn born(key: &Key) -> NewKey {
    NewKey { kid: key.kid, purpose: key.purpose, alg: key.alg, not_after: key.not_after }
}

/// What the audit keeps of one event, in tests.
#[cfg(test)]
pub(super) fn remembered(event: &Event, after: &KeyRing) -> Option<Remembered> {
    match event {
        Event::KeySetRecorded { version } => Some(Remembered::KeySet { version: *version, digest: None }),
        Event::FloorRaised { to } => Some(Remembered::Floor(*to)),
        event => {
            let key = after.key(event.kid()?)?;
            let at = key.demoted_at.or(key.activated_at).unwrap_or_default();
            Some(Remembered::Key(Recalled {
                key: born(key),
                to: key.state,
                at,
                published_in: key.published.map(|published| published.version),
                armed_at: key.armed_at,
                denial: key.denial,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::stories::{SLOT, T0, activate, at, digest, generate, kid, publish, run};
    use super::super::{Compromise, Fleet, WithoutStandby};
    use super::*;

    /// Two keys, of which the first signs, and the copy that is made now.
    fn copied() -> KeyRing {
        let ring = run(&run(&KeyRing::default(), generate(1), T0).0, generate(2), T0).0;
        let ring = run(&ring, publish(&ring, [1, 2], []), T0).0;
        let ring = run(&ring, Command::Birth { kid: kid(1), ever_issued: false }, T0).0;
        run(&ring, Command::Arm { kid: kid(2) }, T0).0
    }

    /// What the audit and the publisher keep of a life.
    fn live(ring: &KeyRing, commands: Vec<Command>) -> (KeyRing, Evidence) {
        let mut ring = ring.clone();
        let mut evidence = Evidence { private_halves: [kid(1), kid(2)].into(), ..Evidence::default() };
        for command in commands {
            let (after, events) = run(&ring, command.clone(), at(1));
            for event in &events {
                evidence.audit.extend(remembered(event, &after));
            }
            if let Command::Publish(set) = command {
                let keys = set.carried.iter().map(|kid| (*kid, born(after.key(*kid).unwrap()))).collect();
                let set = Adopted {
                    version: set.version,
                    digest: set.digest,
                    prev: set.prev,
                    carried: set.carried,
                    max_token_ttl: set.max_token_ttl,
                    at: at(1),
                    floor: ring.floor(),
                };
                evidence.key_sets.push(PublishedSet { set, keys, denied: BTreeMap::new() });
            }
            ring = after;
        }
        evidence.denied = ring.keys().filter_map(|key| Some((key.kid, key.denial?))).collect();
        evidence.deny_list_serial = ring.deny_list_serial();
        (ring, evidence)
    }

    fn compromise(n: u8) -> Command {
        let (kids, fleet) = ([kid(n)].into(), Fleet::default());
        Command::Compromise(Compromise { kids, fleet, without_standby: WithoutStandby::StopMinting })
    }

    fn states(ring: &KeyRing) -> Vec<(u8, KeyState)> {
        ring.keys().map(|key| (key.kid.as_bytes()[0], key.state)).collect()
    }

    #[test]
    fn a_rotation_and_a_revocation_are_remembered_and_the_standby_signs() {
        let copy = copied();
        let (lost, evidence) =
            live(&copy, vec![activate(2, 1, Fleet::default(), None), compromise(1), generate(3)]);
        let (ring, _) = recover(&copy, &evidence, at(2)).unwrap();
        assert_eq!(states(&ring)[..2], states(&lost)[..2]);
        assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(2)));
        assert_eq!(
            ring.key(kid(3)).map(|key| key.state),
            Some(KeyState::Abandoned),
            "its private half is gone"
        );
        assert_eq!(ring.key(kid(1)).and_then(|key| key.denial), Some(Denial::Always));
        assert!(ring.deny_list_serial() >= lost.deny_list_serial());
    }

    #[test]
    fn a_key_from_the_lost_time_never_signs_again_and_its_tokens_live_on() {
        let copy = copied();
        let (mut ring, _) = live(&copy, vec![generate(3)]);
        let mut commands = vec![generate(3), publish(&ring, [3], [])];
        ring = live(&copy, commands.clone()).0;
        commands
            .extend([Command::Arm { kid: kid(3) }, activate(3, ring.head_version(), Fleet::default(), None)]);
        let (lost, evidence) = live(&copy, commands);
        assert_eq!(lost.active(SLOT).map(|key| key.kid), Some(kid(3)));

        let (ring, _) = recover(&copy, &evidence, at(2)).unwrap();
        assert_eq!(ring.key(kid(3)).map(|key| key.state), Some(KeyState::Retiring));
        assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(2)), "the standby takes over");
        assert_eq!((ring.head(), ring.floor()), (lost.head(), lost.floor()));
        assert_eq!(ring.key(kid(3)).and_then(|key| key.denial), Some(Denial::IssuedAfter(at(2))));
    }

    #[test]
    fn without_the_audit_the_signed_documents_still_take_trust_away() {
        let copy = copied();
        let (_, evidence) = live(&copy, vec![compromise(1), generate(3)]);
        let evidence = Evidence { audit: vec![], ..evidence };
        let (ring, _) = recover(&copy, &evidence, at(2)).unwrap();
        assert_eq!(ring.key(kid(1)).map(|key| key.state), Some(KeyState::Revoked));
        assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(2)));
    }

    #[test]
    fn recovering_again_changes_nothing() {
        let copy = copied();
        let (_, evidence) =
            live(&copy, vec![activate(2, 1, Fleet::default(), None), compromise(1), generate(3)]);
        let (ring, _) = recover(&copy, &evidence, at(2)).unwrap();
        let (again, commands) = recover(&ring, &Evidence { key_sets: vec![], ..evidence }, at(3)).unwrap();
        assert_eq!((again, commands), (ring, vec![]));
    }

    #[test]
    fn a_key_set_that_was_recorded_has_to_be_shown() {
        let copy = copied();
        let (_, evidence) = live(&copy, vec![publish(&copy, [], [])]);
        let hidden = Evidence { key_sets: vec![], ..evidence.clone() };
        let refusal = recover(&copy, &hidden, at(2)).unwrap_err();
        assert_eq!(refusal, RecoveryRefusal::KeySetMissing { version: 2 });
        let mut other = evidence;
        other.audit = vec![Remembered::KeySet { version: 2, digest: Some(digest(99)) }];
        assert_eq!(recover(&copy, &other, at(2)).unwrap_err(), RecoveryRefusal::KeySetMissing { version: 2 });
    }

    #[test]
    fn the_longest_life_of_a_token_is_kept() {
        let copy = copied();
        let Command::Publish(mut set) = publish(&copy, [], []) else {
            unreachable!("`publish` makes a Publish")
        };
        set.max_token_ttl = TimeDelta::hours(100);
        let (_, evidence) = live(&copy, vec![Command::Publish(set)]);
        let (ring, _) = recover(&copy, &evidence, at(2)).unwrap();
        assert_eq!(ring.longest_token(), TimeDelta::hours(100));
    }
}
