//! The one function that changes a ring, and its rules.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::evidence::Silence;
use super::guard::{Guard, Guards};
use super::{
    Activation, Blocker, Command, Compromise, Denial, Event, Fleet, Grounds, Head, Key, KeyRefusal, KeyRing,
    KeySetRecord, KeyState, Kid, LEEWAY, LEFT_AT_ACTIVATION, LastToken, NewKey, Publication, Waiver,
    WithoutStandby,
};

/// What `command` makes of `ring` at `now`, and every change on the way.
///
/// Asking again for what is already so is granted and changes nothing, so that a
/// command whose answer was lost can be repeated.
///
/// # Errors
///
/// A [`KeyRefusal`] says which rule stands in the way; the ring is then unchanged.
pub fn step(
    ring: &KeyRing,
    command: Command,
    now: DateTime<Utc>,
) -> Result<(KeyRing, Vec<Event>), KeyRefusal> {
    step_guarded(ring, command, now, Guards::default())
}

/// The same, where a model may have taken one of the rules away.
pub(super) fn step_guarded(
    ring: &KeyRing,
    command: Command,
    now: DateTime<Utc>,
    guards: Guards,
) -> Result<(KeyRing, Vec<Event>), KeyRefusal> {
    let mut step = Step { ring: ring.clone(), events: vec![], now, guards };
    match command {
        Command::Abandon { kid } => step.abandon(kid)?,
        Command::Activate(activation) => step.activate(activation)?,
        Command::Adopt(adopted) => step.adopt(adopted)?,
        Command::Arm { kid } => step.arm(kid)?,
        Command::Birth { kid, ever_issued } => step.birth(kid, ever_issued)?,
        Command::CatchUp { floor, deny_list_serial } => step.catch_up(floor, deny_list_serial),
        Command::Compromise(compromise) => step.compromise(compromise)?,
        Command::Generate(key) => step.generate(key)?,
        Command::Publish(key_set) => step.publish(key_set)?,
        Command::Recall(recalled) => step.recall(recalled)?,
    }
    Ok(step.finish())
}

/// A command at work: the ring as changed so far, and what changed.
pub(super) struct Step {
    pub(super) ring: KeyRing,
    pub(super) events: Vec<Event>,
    now: DateTime<Utc>,
    guards: Guards,
}

impl Step {
    fn generate(&mut self, new: NewKey) -> Result<(), KeyRefusal> {
        let NewKey { kid, purpose, alg, not_after } = new;
        if self.guards.keep(Guard::KidReuse) && self.ring.key(kid).is_some() {
            return Err(KeyRefusal::KidReused { kid });
        }
        if not_after - self.now < LEFT_AT_ACTIVATION {
            return Err(KeyRefusal::EndsTooSoon { kid, not_after });
        }
        let key = Key {
            kid,
            purpose,
            alg,
            state: KeyState::Generated,
            not_after,
            published: None,
            armed_at: None,
            activated_at: None,
            demoted_at: None,
            denial: None,
        };
        self.ring.keys.insert(kid, key);
        self.events.push(Event::Generated { kid });
        Ok(())
    }

    /// Key sets alone publish keys, and key sets alone retire them: what a verifier
    /// trusts is what the root has signed.
    fn publish(&mut self, key_set: KeySetRecord) -> Result<(), KeyRefusal> {
        let KeySetRecord { version, digest, prev, carried, max_token_ttl, drained } = key_set;
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

        for kid in &carried {
            match self.ring.find(*kid)?.state {
                KeyState::Generated => self.become_published(*kid, version),
                KeyState::Published | KeyState::Active | KeyState::Retiring => {}
                // Signed before the key came to its end: the root will not sign
                // this number twice, so the set is taken and the key denied.
                KeyState::Retired | KeyState::Revoked | KeyState::Abandoned => {
                    self.deny(*kid, Denial::Always)
                }
            }
        }
        let left_out = self.ring.keys().filter(|key| key.state.is_carried() && !carried.contains(&key.kid));
        for kid in left_out.map(|key| key.kid).collect::<Vec<_>>() {
            self.retire(kid, drained.get(&kid).copied())?;
        }
        Ok(())
    }

    fn become_published(&mut self, kid: Kid, version: u32) {
        let at = self.now;
        self.enter(kid, KeyState::Published, |key| key.published = Some(Publication { version, at }));
        self.events.push(Event::Published { kid, version });
    }

    fn retire(&mut self, kid: Kid, last_token: Option<LastToken>) -> Result<(), KeyRefusal> {
        let key = self.ring.find(kid)?;
        let (KeyState::Retiring, Some(last_token)) = (key.state, last_token) else {
            return Err(KeyRefusal::KeyLeftOut { kid, state: key.state });
        };
        let demoted_at = key.demoted_at.unwrap_or(self.now);
        let last_expiry = match last_token {
            LastToken::ExpiresAt(at) => at,
            LastToken::NeverIssued => demoted_at,
            LastToken::Unknown => demoted_at + self.ring.longest_token,
        };
        let until = last_expiry + LEEWAY;
        if self.guards.keep(Guard::Drain) && self.now <= until {
            return Err(KeyRefusal::NotDrained { kid, until });
        }
        self.enter(kid, KeyState::Retired, |_| {});
        self.events.push(Event::Retired { kid });
        self.deny(kid, Denial::Always);
        Ok(())
    }

    /// Raises the floor to the version that brought the key, so that no process
    /// starts again without it, and counts evidence from here. It erases nothing.
    fn arm(&mut self, kid: Kid) -> Result<(), KeyRefusal> {
        let key = self.ring.find_in(kid, KeyState::Published)?;
        if key.armed_at.is_some() {
            return Ok(());
        }
        let brought_in = key.published.map_or(0, |published| published.version);
        let now = self.now;
        self.change(kid, |key| key.armed_at = Some(now));
        self.events.push(Event::Armed { kid });
        self.raise_floor(brought_in);
        Ok(())
    }

    fn raise_floor(&mut self, to: u32) {
        if self.guards.keep(Guard::Floor) && to > self.ring.floor {
            self.ring.floor = to;
            self.events.push(Event::FloorRaised { to });
        }
    }

    fn birth(&mut self, kid: Kid, ever_issued: bool) -> Result<(), KeyRefusal> {
        let key = self.ring.find(kid)?;
        let slot = key.slot();
        match self.ring.active(slot) {
            Some(active) if active.kid == kid => return Ok(()),
            Some(active) => return Err(KeyRefusal::AlreadyActive { slot, kid: active.kid }),
            None => {}
        }
        if ever_issued || self.ring.keys().any(|key| key.slot() == slot && key.activated_at.is_some()) {
            return Err(KeyRefusal::TokensIssued { alg: slot.alg });
        }
        let brought_in = self.ring.find_in(kid, KeyState::Published)?.published.map_or(0, |set| set.version);
        if self.ring.standbys(slot).count() < 2 {
            return Err(KeyRefusal::NoStandby { slot });
        }
        // From now on tokens are issued: no process may start without any key.
        self.raise_floor(brought_in);
        self.become_active(kid, Grounds::Birth);
        Ok(())
    }

    fn activate(&mut self, activation: Activation) -> Result<(), KeyRefusal> {
        let Activation { kid, head, fleet, waiver } = activation;
        let key = self.ring.find(kid)?;
        if key.state == KeyState::Active {
            return Ok(());
        }
        if head != self.ring.head_version() {
            return Err(KeyRefusal::HeadMoved { seen: head, head: self.ring.head_version() });
        }
        let key = self.ring.find_in(kid, KeyState::Published)?;
        if key.armed_at.is_none() {
            return Err(KeyRefusal::NotArmed { kid });
        }
        if key.not_after - self.now < LEFT_AT_ACTIVATION {
            return Err(KeyRefusal::EndsTooSoon { kid, not_after: key.not_after });
        }
        let blockers = self.blockers(key, &fleet);
        let silent = fleet.silent(key, self.now).into_iter().map(|process| process.name).collect();
        let grounds = pass_gate(kid, blockers, silent, waiver)?;

        if let Some(active) = self.ring.active(key.slot()).filter(|_| self.guards.keep(Guard::SingleActive)) {
            self.demote(active.kid);
        }
        self.become_active(kid, grounds);
        Ok(())
    }

    /// Who keeps the key from signing.
    fn blockers(&self, key: &Key, fleet: &Fleet) -> BTreeSet<Blocker> {
        if !self.guards.keep(Guard::Gate) {
            return BTreeSet::new();
        }
        if !self.guards.keep(Guard::ArmedAt) {
            let key = Key { armed_at: Some(DateTime::<Utc>::MIN_UTC), ..key.clone() };
            return fleet.blockers(&key, Silence::Counts, self.now);
        }
        if !self.guards.keep(Guard::RememberedProcesses) {
            let mut fleet = fleet.clone();
            for backend in &mut fleet.backends {
                backend.processes.retain(|process| process.proofs.contains_key(&key.kid));
            }
            return fleet.blockers(key, Silence::Counts, self.now);
        }
        fleet.blockers(key, Silence::Counts, self.now)
    }

    fn demote(&mut self, kid: Kid) {
        let now = self.now;
        self.enter(kid, KeyState::Retiring, |key| key.demoted_at = Some(now));
        self.events.push(Event::Demoted { kid });
        self.deny(kid, Denial::IssuedAfter(now));
    }

    fn become_active(&mut self, kid: Kid, grounds: Grounds) {
        let now = self.now;
        self.enter(kid, KeyState::Active, |key| key.activated_at = Some(now));
        self.events.push(Event::Activated { kid, grounds });
    }

    fn abandon(&mut self, kid: Kid) -> Result<(), KeyRefusal> {
        let key = self.ring.find(kid)?;
        match key.state {
            KeyState::Abandoned => return Ok(()),
            KeyState::Generated => {}
            KeyState::Published => self.deny(kid, Denial::Always),
            state => return Err(KeyRefusal::WrongState { kid, state, needed: KeyState::Published }),
        }
        self.enter(kid, KeyState::Abandoned, |_| {});
        self.events.push(Event::Abandoned { kid });
        Ok(())
    }

    /// Ends the keys first and looks for successors then, so that no compromised
    /// standby takes over from a compromised key.
    fn compromise(&mut self, compromise: Compromise) -> Result<(), KeyRefusal> {
        let Compromise { kids, fleet, without_standby } = compromise;
        let forced = match without_standby {
            WithoutStandby::Force { kid, reason } => Some((self.ring.find(kid)?.slot(), kid, reason)),
            WithoutStandby::StopMinting => None,
        };
        let mut silenced = BTreeSet::new();
        for kid in kids {
            let key = self.ring.find(kid)?;
            if key.state == KeyState::Active {
                silenced.insert(key.slot());
            }
            self.end(kid);
        }
        for slot in silenced {
            // Of several, the one that lasts longest: the next rotation can wait.
            let successor = if self.guards.keep(Guard::StandbyReadiness) {
                let ready = self.ring.ready_standbys(slot, &fleet, self.now);
                ready.max_by_key(|key| (key.not_after, key.kid)).map(|key| key.kid)
            } else {
                self.ring.standbys(slot).map(|key| key.kid).max()
            };
            match (successor, &forced) {
                (Some(kid), _) => self.become_active(kid, Grounds::Succession),
                (None, Some((of, kid, reason))) if *of == slot => self.force(*kid, &fleet, reason)?,
                (None, _) => self.events.push(Event::MintingStopped { slot }),
            }
        }
        Ok(())
    }

    /// Whatever state it was in, nobody may trust the key again.
    fn end(&mut self, kid: Kid) {
        let Some(key) = self.ring.key(kid) else { return };
        match key.state {
            KeyState::Generated => {
                self.enter(kid, KeyState::Abandoned, |_| {});
                self.events.push(Event::Abandoned { kid });
            }
            KeyState::Published | KeyState::Active | KeyState::Retiring => {
                self.enter(kid, KeyState::Revoked, |_| {});
                self.events.push(Event::Revoked { kid });
            }
            KeyState::Retired | KeyState::Revoked | KeyState::Abandoned => {}
        }
        self.deny(kid, Denial::Always);
    }

    fn force(&mut self, kid: Kid, fleet: &Fleet, reason: &str) -> Result<(), KeyRefusal> {
        let key = self.ring.find_in(kid, KeyState::Published)?;
        if key.not_after <= self.now {
            return Err(KeyRefusal::EndsTooSoon { kid, not_after: key.not_after });
        }
        let blockers = fleet.blockers(key, Silence::IsForgiven, self.now);
        self.become_active(kid, Grounds::Forced { blockers, reason: reason.to_owned() });
        Ok(())
    }

    pub(super) fn deny(&mut self, kid: Kid, denial: Denial) {
        if self.ring.key(kid).is_some_and(|key| key.denial < Some(denial)) {
            self.change(kid, |key| key.denial = Some(denial));
            self.events.push(Event::Denied { kid, denial });
        }
    }

    pub(super) fn enter(&mut self, kid: Kid, state: KeyState, also: impl FnOnce(&mut Key)) {
        self.change(kid, |key| {
            debug_assert!(key.state.may_become(state), "{} → {state} is no edge", key.state);
            key.state = state;
            also(key);
        });
    }

    pub(super) fn change(&mut self, kid: Kid, change: impl FnOnce(&mut Key)) {
        if let Some(key) = self.ring.keys.get_mut(&kid) {
            change(key);
        }
    }

    fn finish(mut self) -> (KeyRing, Vec<Event>) {
        if self.events.iter().any(|event| matches!(event, Event::Denied { .. })) {
            self.ring.deny_list_serial += 1;
        }
        (self.ring, self.events)
    }
}

/// Lets a key through when nobody blocks it, or when everyone who does was named.
fn pass_gate(
    kid: Kid,
    blockers: BTreeSet<Blocker>,
    silent: BTreeSet<String>,
    waiver: Option<Waiver>,
) -> Result<Grounds, KeyRefusal> {
    if blockers.is_empty() {
        return Ok(Grounds::Proved { silent });
    }
    match waiver {
        Some(waiver) if blockers.iter().all(|blocker| waiver.names.contains(&blocker.name())) => {
            Ok(Grounds::Overridden { blockers, reason: waiver.reason })
        }
        Some(waiver) => {
            let blockers = blockers.into_iter().filter(|blocker| !waiver.names.contains(&blocker.name()));
            Err(KeyRefusal::NotReady { kid, blockers: blockers.collect() })
        }
        None => Err(KeyRefusal::NotReady { kid, blockers }),
    }
}
