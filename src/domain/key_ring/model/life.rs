//! The shipped step in a world of keys, processes, builds and tokens, for an unbounded time.
//!
//! Nothing in the rules depends on what the clock shows, only on spans and on which came first. So `now` stands
//! still: a living token is one that ends later, a silent process one that was seen long ago, a proof one from
//! before or after the arming. That makes the world finite, and the check complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use chrono::{DateTime, TimeDelta, Utc};
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::guard::{Guard, Guards};
use super::super::step::step_guarded;
use super::super::stories::{SLOT, activate, at, backend, digest, generate, kid, process};
use super::super::*;

/// Where the clock stands.
const NOW: i64 = 1_000;
const PROCESSES: usize = 2;
/// The last version that is published in the small world.
const VERSIONS: u32 = 6;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    ring: KeyRing,
    /// What each key set carries, from version 1 on; nothing for those that may not be deployed any more.
    key_sets: Vec<Carried>,
    /// Sorted: which is which does not matter.
    processes: [Running; PROCESSES],
    /// Whose tokens still live.
    living: Carried,
    /// The first rule that was broken on the way here.
    broken: Option<&'static str>,
}

/// A set of keys: bit n is the key n.
type Carried = u16;

fn bit(kid: Kid) -> Carried {
    1 << kid.as_bytes()[0]
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Running {
    /// The keys compiled into it.
    carries: Carried,
    /// Whether it reported within [`FORGET_AFTER`].
    reports: bool,
    /// It had been silent for so long that a key became active without its proof: the one way to lack the key
    /// that signs, until it is deployed anew.
    passed_over: bool,
    proofs: BTreeMap<Kid, Proof>,
}

/// When a process last proved a key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Proof {
    BeforeArming,
    AfterArming,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Happening {
    Abandon(u8),
    Activate(u8),
    Arm(u8),
    Beat(usize),
    Compromise(u8),
    Deploy(usize, u32),
    /// Everyone falls silent who does not report again, and every token dies: hours pass.
    Elapse,
    Generate(u8),
    Mint,
    /// Adds a key, where one is new, and leaves the drained ones out.
    Publish {
        adding: Option<u8>,
        retire: bool,
    },
}

struct Life {
    keys: u8,
    versions: u32,
    guards: Guards,
}

impl Life {
    fn small(guards: Guards) -> Self {
        Self { keys: 2, versions: VERSIONS, guards }
    }
}

impl Model for Life {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, happenings: &mut Vec<Happening>) {
        for n in 1..=self.keys {
            happenings.extend([
                Happening::Abandon(n),
                Happening::Activate(n),
                Happening::Arm(n),
                Happening::Compromise(n),
                Happening::Generate(n),
            ]);
        }
        if world.ring.head_version() < self.versions {
            let generated = (1..=self.keys).filter(|n| world.state(*n) == Some(KeyState::Generated));
            happenings.extend(generated.map(|n| Happening::Publish { adding: Some(n), retire: false }));
            happenings.push(Happening::Publish { adding: None, retire: true });
        }
        for process in 0..PROCESSES {
            happenings.push(Happening::Beat(process));
            let allowed = world.ring.floor().max(1)..=world.ring.head_version();
            happenings.extend(allowed.map(|version| Happening::Deploy(process, version)));
        }
        happenings.extend([Happening::Elapse, Happening::Mint]);
    }

    fn next_state(&self, world: &World, happening: Happening) -> Option<World> {
        let mut next;
        match world.command(happening) {
            Some(command) => {
                let carried = match &command {
                    Command::Publish(key_set) => {
                        Some(key_set.carried.iter().copied().map(bit).sum::<Carried>())
                    }
                    _ => None,
                };
                let (ring, events) = step_guarded(&world.ring, command, at(NOW), self.guards).ok()?;
                next = world.clone();
                next.obey(world, ring, &events);
                next.key_sets.extend(carried);
                // Builds below the floor never start again.
                let below = usize::try_from(next.ring.floor()).ok()?.saturating_sub(1);
                next.key_sets[..below].fill(0);
            }
            None => {
                next = world.clone();
                next.live(happening);
            }
        }
        next.processes.sort();
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1", |_, world: &World| {
                world.ring.keys().filter(|key| key.state == KeyState::Active).count() <= 1
            }),
            Property::always("S2", |_, world: &World| world.broken != Some("S2")),
            Property::always("S3", |_, world: &World| {
                world
                    .ring
                    .keys()
                    .filter(|key| world.living & bit(key.kid) != 0)
                    .all(|key| key.denial == Some(Denial::Always) || world.is_carried_by_all(key.kid))
            }),
            Property::always("S4", |_, world: &World| {
                usize::try_from(world.ring.head_version()) == Ok(world.key_sets.len())
            }),
            Property::always("S5", |_, world: &World| world.broken != Some("S5")),
            Property::always("S9", |_, world: &World| {
                world.broken != Some("S9") && world.ring.floor() <= world.ring.head_version()
            }),
            Property::always("S10", |_, world: &World| {
                let retired = world.ring.keys().filter(|key| key.state == KeyState::Retired);
                retired.map(|key| key.kid).all(|kid| world.living & bit(kid) == 0)
            }),
            Property::always("S11", |_, world: &World| world.broken != Some("S11")),
            Property::always("L1", |model: &Self, world: &World| world.armed_keys_become_activatable(model)),
            Property::sometimes("a rotation completes", |_, world: &World| {
                (world.state(1), world.state(2)) == (Some(KeyState::Retired), Some(KeyState::Active))
            }),
            Property::sometimes("a standby takes over from a compromised key", |_, world: &World| {
                (world.state(1), world.state(2)) == (Some(KeyState::Revoked), Some(KeyState::Active))
            }),
            Property::sometimes("every version is reached", |model: &Self, world: &World| {
                world.ring.head_version() == model.versions
            }),
        ]
    }
}

impl World {
    /// One key signs; its standby was given up; both processes carry key set 2, and have reported.
    fn new() -> Self {
        const SPARE: u8 = 9;
        let step = |ring: &KeyRing, command| step(ring, command, at(NOW)).unwrap().0;
        let mut ring = step(&step(&KeyRing::default(), generate(1)), generate(SPARE));
        let mut key_sets = vec![];
        for adding in [vec![1, SPARE], vec![]] {
            let adding: BTreeSet<Kid> = adding.into_iter().map(kid).collect();
            let carried = ring.next_carried(&adding, &BTreeSet::new());
            key_sets.push(carried.iter().copied().map(bit).sum());
            ring = step(&ring, publish(&ring, carried, BTreeMap::new()));
            if ring.head_version() == 1 {
                ring = step(&ring, Command::Birth { kid: kid(1), ever_issued: false });
                ring = step(&ring, Command::Abandon { kid: kid(SPARE) });
            }
        }
        let carries = bit(kid(1));
        let running = Running { carries, reports: true, passed_over: false, proofs: BTreeMap::new() };
        let processes = [running.clone(), running];
        Self { ring: still(&ring), key_sets, processes, living: 0, broken: None }
    }

    fn command(&self, happening: Happening) -> Option<Command> {
        Some(match happening {
            Happening::Abandon(n) => Command::Abandon { kid: kid(n) },
            Happening::Activate(n) => activate(n, self.ring.head_version(), self.fleet(), None),
            Happening::Arm(n) => Command::Arm { kid: kid(n) },
            Happening::Compromise(n) => Command::Compromise(Compromise {
                kids: [kid(n)].into(),
                fleet: self.fleet(),
                without_standby: WithoutStandby::StopMinting,
            }),
            Happening::Generate(n) => generate(n),
            Happening::Publish { adding, retire } => {
                let adding = adding.map(kid).into_iter().collect();
                let retiring = self.ring.keys().filter(|key| retire && key.state == KeyState::Retiring);
                let drained: BTreeMap<_, _> =
                    retiring.map(|key| (key.kid, self.last_token(key.kid))).collect();
                let leaving = drained.keys().copied().collect();
                publish(&self.ring, self.ring.next_carried(&adding, &leaving), drained)
            }
            Happening::Beat(_) | Happening::Deploy(..) | Happening::Elapse | Happening::Mint => return None,
        })
    }

    /// What happens without a command.
    fn live(&mut self, happening: Happening) {
        match happening {
            Happening::Beat(process) => {
                let probed: Vec<&Key> =
                    self.ring.keys().filter(|key| key.state == KeyState::Published).collect();
                let carries = self.processes[process].carries;
                let carried = probed.into_iter().filter(|key| carries & bit(key.kid) != 0);
                let proofs: Vec<_> = carried
                    .map(|key| match key.armed_at {
                        Some(_) => (key.kid, Proof::AfterArming),
                        None => (key.kid, Proof::BeforeArming),
                    })
                    .collect();
                self.processes[process].reports = true;
                self.processes[process].proofs.extend(proofs);
            }
            // The same process id with another build: what it proved before stays on record.
            Happening::Deploy(process, version) => {
                let carries = usize::try_from(version).map_or(0, |version| self.key_sets[version - 1]);
                let process = &mut self.processes[process];
                (process.carries, process.passed_over) = (carries, false);
            }
            Happening::Elapse => {
                self.living = 0;
                for process in &mut self.processes {
                    process.reports = false;
                }
            }
            Happening::Mint => {
                if let Some(active) = self.ring.active(SLOT) {
                    if !self.is_carried_by_all(active.kid) || active.denial.is_some() {
                        self.broken.get_or_insert("S2");
                    }
                    self.living |= bit(active.kid);
                }
            }
            _ => {}
        }
    }

    /// Takes a step's outcome over, and notes what it broke.
    fn obey(&mut self, before: &Self, ring: KeyRing, events: &[Event]) {
        if ring.floor() < before.ring.floor() {
            self.broken.get_or_insert("S9");
        }
        for key in before.ring.keys() {
            let after = ring.key(key.kid);
            let told = |event: &&Event| event.is_change_of_state() && event.kid() == Some(key.kid);
            let told = events.iter().filter(told).count();
            let moved = after.is_none_or(|after| after.state != key.state);
            if moved && !after.is_some_and(|after| key.state.may_become(after.state)) {
                self.broken.get_or_insert("S5");
            }
            if told != usize::from(moved) {
                self.broken.get_or_insert("S11");
            }
        }
        self.ring = still(&ring);
        let activated = events.iter().find_map(|event| match event {
            Event::Activated { kid, .. } => Some(bit(*kid)),
            _ => None,
        });
        for process in self.processes.iter_mut().filter(|process| !process.reports) {
            process.passed_over |= activated.is_some_and(|kid| process.carries & kid == 0);
        }
        // Nobody is asked for a key that does not wait to sign.
        for process in &mut self.processes {
            let waits = |kid: &Kid| self.ring.key(*kid).is_some_and(|key| key.state == KeyState::Published);
            process.proofs.retain(|kid, _| waits(kid));
        }
    }

    fn armed_keys_become_activatable(&self, model: &Life) -> bool {
        let armed = self.ring.keys().filter(|key| key.state == KeyState::Published && key.armed_at.is_some());
        armed.map(|key| key.kid.as_bytes()[0]).all(|n| {
            let head = self.ring.head_version();
            let everyone = (0..PROCESSES).flat_map(|p| [Happening::Deploy(p, head), Happening::Beat(p)]);
            let mut world = self.clone();
            everyone.for_each(|happening| world.live(happening));
            model.next_state(&world, Happening::Activate(n)).is_some()
        })
    }

    fn fleet(&self) -> Fleet {
        let processes = self.processes.iter().enumerate().map(|(index, running)| {
            let last_seen = if running.reports { at(NOW) } else { at(NOW) - FORGET_AFTER };
            Process {
                proofs: running.proofs.iter().map(|(kid, proof)| (*kid, proof.at())).collect(),
                ..process(&index.to_string(), last_seen, [])
            }
        });
        Fleet { backends: vec![Backend { processes: processes.collect(), ..backend("ai_gateway", []) }] }
    }

    fn last_token(&self, kid: Kid) -> LastToken {
        let is_alive = self.living & bit(kid) != 0;
        LastToken::ExpiresAt(if is_alive { at(NOW + 1) } else { at(NOW - 1) })
    }

    /// By all that count: a process that has been silent for long may be gone.
    fn is_carried_by_all(&self, kid: Kid) -> bool {
        let mut counting = self.processes.iter().filter(|process| process.reports && !process.passed_over);
        counting.all(|process| process.carries & bit(kid) != 0)
    }

    fn state(&self, n: u8) -> Option<KeyState> {
        self.ring.key(kid(n)).map(|key| key.state)
    }
}

impl Proof {
    /// Keys are armed at [`STAMP`].
    fn at(self) -> DateTime<Utc> {
        match self {
            Self::BeforeArming => STAMP,
            Self::AfterArming => STAMP + TimeDelta::seconds(1),
        }
    }
}

/// When whatever happened to a key has happened.
const STAMP: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// The ring with all that has happened at one instant: which of two came first is remembered elsewhere.
fn still(ring: &KeyRing) -> KeyRing {
    let stamp = |at: Option<DateTime<Utc>>| at.map(|_| STAMP);
    let keys = ring.keys().map(|key| Key {
        not_after: at(24 * 365),
        published: key.published.map(|published| Publication { at: STAMP, ..published }),
        armed_at: stamp(key.armed_at),
        activated_at: stamp(key.activated_at),
        demoted_at: stamp(key.demoted_at),
        denial: key.denial.map(|denial| match denial {
            Denial::Always => Denial::Always,
            Denial::IssuedAfter(_) => Denial::IssuedAfter(STAMP),
        }),
        ..*key
    });
    KeyRing::restored(keys, ring.head(), ring.floor(), 0, ring.longest_token())
}

fn publish(ring: &KeyRing, carried: BTreeSet<Kid>, drained: BTreeMap<Kid, LastToken>) -> Command {
    let version = ring.head_version() + 1;
    Command::Publish(KeySetRecord {
        version,
        digest: digest(version),
        prev: ring.head().map(|head| head.digest),
        carried,
        max_token_ttl: TimeDelta::hours(72),
        drained,
    })
}

#[test]
fn with_every_rule_no_invariant_breaks_in_any_state() {
    let checked = check(Life::small(Guards::default()), HasDiscoveries::All);
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
}

/// A minute and some gigabytes: `cargo test --release -p token-authority three_keys -- --ignored --nocapture`
#[test]
#[ignore = "the large world takes minutes; see docs/development.md"]
fn with_three_keys_no_invariant_breaks_in_any_state() {
    let checked = check(Life { keys: 3, ..Life::small(Guards::default()) }, HasDiscoveries::All);
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
}

#[test]
fn without_the_floor_an_old_build_starts_again_and_meets_tokens_it_cannot_verify() {
    assert_broken(Guard::Floor, &["S2", "S3"]);
}

#[test]
fn without_the_gate_a_key_signs_that_somebody_lacks() {
    assert_broken(Guard::Gate, &["S2"]);
}

#[test]
fn without_armed_at_a_process_counts_that_was_rolled_back() {
    assert_broken(Guard::ArmedAt, &["S2"]);
}

#[test]
fn without_the_drain_a_living_token_loses_its_key() {
    assert_broken(Guard::Drain, &["S3", "S10"]);
}

#[test]
fn without_demotion_two_keys_sign() {
    assert_broken(Guard::SingleActive, &["S1"]);
}

#[test]
fn without_readiness_a_standby_takes_over_that_somebody_lacks() {
    assert_broken(Guard::StandbyReadiness, &["S2"]);
}

#[test]
fn without_remembering_kids_a_dead_key_comes_back() {
    assert_broken(Guard::KidReuse, &["S5"]);
}

#[test]
fn without_remembering_processes_one_that_lacks_the_key_is_not_asked() {
    assert_broken(Guard::RememberedProcesses, &["S2"]);
}

/// Takes one rule away, and finds a way to break one of these invariants.
fn assert_broken(guard: Guard, invariants: &[&str]) {
    let checked = check(Life::small(Guards::without(guard)), HasDiscoveries::AnyFailures);
    let broken: Vec<_> =
        checked.discoveries().into_iter().filter(|(name, _)| invariants.contains(name)).collect();
    assert!(!broken.is_empty(), "{guard:?} can be left out: {:?}", checked.discoveries().keys());
    for (name, path) in broken {
        println!("without {guard:?}, {name} breaks by {:?}", path.into_actions());
    }
}

fn check(model: Life, until: HasDiscoveries) -> impl Checker<Life> {
    model.checker().threads(2).finish_when(until).spawn_bfs().join()
}
