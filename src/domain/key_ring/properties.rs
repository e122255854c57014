//! The invariants of a key's life under any sequence of commands, in a small world
//! of keys, processes and tokens.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::stories::{SLOT, T0, backend, kid, process};
use super::*;

const KEYS: u8 = 4;
const TOKEN_LIFE: TimeDelta = TimeDelta::hours(8);

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Abandon(u8),
    Activate(u8),
    ActivateAnyway(u8),
    Arm(u8),
    /// A process reports, and proves every key that its build carries.
    Beat {
        process: usize,
    },
    Birth(u8),
    Compromise(u8),
    Generate(u8),
    Mint,
    /// A new key set takes a key in, and may leave every retiring one out.
    Publish {
        adding: u8,
        retire: bool,
    },
    /// A process starts anew with some key set at or above the floor.
    Restart {
        process: usize,
        version: usize,
    },
    Wait {
        hours: u8,
    },
}

/// One number per happening: quick to draw, and shrinks well.
impl From<u32> for Happening {
    fn from(drawn: u32) -> Self {
        let [which, key, other, _] = drawn.to_le_bytes();
        let n = 1 + key % KEYS;
        let process = usize::from(other) % 2;
        match which % 40 {
            0..6 => Self::Activate(n),
            6..10 => Self::Arm(n),
            10..18 => Self::Beat { process },
            18..20 => Self::Birth(n),
            20..24 => Self::Generate(n),
            24..28 => Self::Mint,
            28..32 => Self::Publish { adding: n, retire: other > 99 },
            32..35 => Self::Restart { process, version: usize::from(key) },
            35..37 => Self::Wait { hours: 1 + other % 12 },
            37 => Self::Abandon(n),
            38 => Self::ActivateAnyway(n),
            _ => Self::Compromise(n),
        }
    }
}

/// The ring and those who rely on it.
#[derive(Clone, Debug)]
struct World {
    ring: KeyRing,
    now: DateTime<Utc>,
    /// What each recorded key set carries, from version 1 on.
    key_sets: Vec<BTreeSet<Kid>>,
    processes: [Running; 2],
    last_tokens: BTreeMap<Kid, DateTime<Utc>>,
}

#[derive(Clone, Debug, Default)]
struct Running {
    starts: u32,
    /// The key set compiled into it, 0 for a process that never started.
    version: usize,
    last_seen: DateTime<Utc>,
    proofs: BTreeMap<Kid, DateTime<Utc>>,
}

impl World {
    fn new() -> Self {
        Self {
            ring: KeyRing::default(),
            now: T0,
            key_sets: vec![],
            processes: Default::default(),
            last_tokens: BTreeMap::new(),
        }
    }

    fn fleet(&self) -> Fleet {
        let processes = self.processes.clone().map(|running| Process {
            proofs: running.proofs,
            ..process(&running.starts.to_string(), running.last_seen, [])
        });
        Fleet { backends: processes.map(|process| backend("ai_gateway", [process])).into() }
    }

    fn carries(&self, process: usize, kid: Kid) -> bool {
        let version = self.processes[process].version;
        version > 0 && self.key_sets[version - 1].contains(&kid)
    }

    fn command(&self, happening: Happening) -> Option<Command> {
        let ring = &self.ring;
        Some(match happening {
            Happening::Abandon(n) => Command::Abandon { kid: kid(n) },
            Happening::Activate(n) => super::stories::activate(n, ring.head_version(), self.fleet(), None),
            Happening::ActivateAnyway(n) => {
                let names = ["ai_gateway", "ai_gateway/0", "ai_gateway/1"].map(str::to_owned).into();
                let waiver = Waiver { names, reason: "drill".to_owned() };
                super::stories::activate(n, ring.head_version(), self.fleet(), Some(waiver))
            }
            Happening::Arm(n) => Command::Arm { kid: kid(n) },
            Happening::Birth(n) => Command::Birth { kid: kid(n), ever_issued: !self.last_tokens.is_empty() },
            Happening::Compromise(n) => Command::Compromise(Compromise {
                kids: [kid(n)].into(),
                fleet: self.fleet(),
                without_standby: WithoutStandby::StopMinting,
            }),
            Happening::Generate(n) => super::stories::generate(n),
            Happening::Publish { adding, retire } => {
                let is_new = |n: &u8| ring.key(kid(*n)).is_some_and(|key| key.state == KeyState::Generated);
                let adding: BTreeSet<_> = Some(adding).filter(is_new).map(kid).into_iter().collect();
                let leaves = |key: &&Key| retire && key.state == KeyState::Retiring;
                let leaving = ring.keys().filter(leaves).map(|key| (key.kid, self.last_token(key.kid)));
                let drained: BTreeMap<_, _> = leaving.collect();
                let version = ring.head_version() + 1;
                Command::Publish(KeySetRecord {
                    version,
                    digest: super::stories::digest(version),
                    prev: ring.head().map(|head| head.digest),
                    carried: ring.next_carried(&adding, &drained.keys().copied().collect()),
                    max_token_ttl: TOKEN_LIFE,
                    drained,
                })
            }
            Happening::Mint | Happening::Beat { .. } | Happening::Restart { .. } | Happening::Wait { .. } => {
                return None;
            }
        })
    }

    fn last_token(&self, kid: Kid) -> LastToken {
        self.last_tokens.get(&kid).map_or(LastToken::NeverIssued, |at| LastToken::ExpiresAt(*at))
    }

    /// What happens without a command.
    fn live(&mut self, happening: Happening) {
        match happening {
            Happening::Mint => {
                if let Some(key) = self.ring.active(SLOT) {
                    self.last_tokens.insert(key.kid, self.now + TOKEN_LIFE);
                }
            }
            Happening::Beat { process } => {
                let proofs: Vec<_> =
                    self.ring.keys().map(|key| key.kid).filter(|kid| self.carries(process, *kid)).collect();
                let running = &mut self.processes[process];
                running.last_seen = self.now;
                running.proofs.extend(proofs.into_iter().map(|kid| (kid, self.now)));
            }
            Happening::Restart { process, version } => {
                let head = self.key_sets.len();
                let floor = usize::try_from(self.ring.floor()).unwrap_or(0).max(1);
                if head >= floor {
                    let running = &mut self.processes[process];
                    let version = floor + version % (head - floor + 1);
                    let starts = running.starts + 1;
                    *running = Running { starts, version, last_seen: self.now, proofs: BTreeMap::new() };
                }
            }
            Happening::Wait { hours } => self.now += TimeDelta::hours(i64::from(hours)),
            _ => {}
        }
    }

    /// Lets `happening` happen, and checks every rule that must hold across it.
    fn go(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        let Some(command) = self.command(happening) else {
            self.live(happening);
            return self.who_starts_carries_the_active_key(happening);
        };
        let Ok((ring, events)) = step(&self.ring, command.clone(), self.now) else {
            return Ok(());
        };
        self.states_move_along_edges_with_one_event_each(&ring, &events)?;
        self.denials_and_numbers_only_grow(&ring, &events)?;
        self.nobody_retires_before_its_last_token(&ring)?;
        self.a_proved_key_is_everywhere(&events)?;
        prop_assert!(one_active(&ring), "S1: two active keys");
        prop_assert!(ring.floor() <= ring.head_version(), "S9: the floor is above the head");
        if !matches!(command, Command::Generate(_)) {
            let again = step(&ring, command.clone(), self.now);
            prop_assert_eq!(again, Ok((ring.clone(), vec![])), "asking again changes something");
        }

        if let Command::Publish(key_set) = command {
            self.key_sets.push(key_set.carried);
        }
        self.ring = ring;
        Ok(())
    }

    /// S5 and S11.
    fn states_move_along_edges_with_one_event_each(
        &self,
        ring: &KeyRing,
        events: &[Event],
    ) -> Result<(), TestCaseError> {
        prop_assert!(self.ring.keys().all(|before| ring.key(before.kid).is_some()), "a key is forgotten");
        for after in ring.keys() {
            let told = events
                .iter()
                .filter(|event| event.is_change_of_state() && event.kid() == Some(after.kid))
                .count();
            match self.ring.key(after.kid) {
                None => prop_assert_eq!((after.state, told), (KeyState::Generated, 1)),
                Some(before) if before.state == after.state => prop_assert_eq!(told, 0),
                Some(before) => {
                    prop_assert!(before.state.may_become(after.state), "{} → {}", before.state, after.state);
                    prop_assert_eq!(told, 1);
                    prop_assert_eq!(before.not_after, after.not_after);
                }
            }
        }
        Ok(())
    }

    /// S4 and S9.
    fn denials_and_numbers_only_grow(&self, ring: &KeyRing, events: &[Event]) -> Result<(), TestCaseError> {
        let grew = ring.head_version() - self.ring.head_version();
        let recorded = events.iter().filter(|event| matches!(event, Event::KeySetRecorded { .. })).count();
        prop_assert_eq!(usize::try_from(grew).ok(), Some(recorded));
        prop_assert!(grew <= 1);
        prop_assert!(ring.floor() >= self.ring.floor());
        for before in self.ring.keys() {
            prop_assert!(ring.key(before.kid).is_some_and(|after| before.denial <= after.denial));
        }
        let denials = |ring: &KeyRing| {
            ring.keys().map(|key| (key.kid, key.denial)).filter(|entry| entry.1.is_some()).collect::<Vec<_>>()
        };
        let changed = denials(ring) != denials(&self.ring);
        prop_assert_eq!(ring.deny_list_serial() - self.ring.deny_list_serial(), u64::from(changed));
        Ok(())
    }

    /// S10.
    fn nobody_retires_before_its_last_token(&self, ring: &KeyRing) -> Result<(), TestCaseError> {
        for after in ring.keys().filter(|key| key.state == KeyState::Retired) {
            let was_retired =
                self.ring.key(after.kid).is_some_and(|before| before.state == KeyState::Retired);
            let last = self.last_tokens.get(&after.kid);
            prop_assert!(was_retired || last.is_none_or(|expiry| *expiry + LEEWAY < self.now));
        }
        Ok(())
    }

    /// S2: when the gate lets a key sign without an override, every process that
    /// reports has it compiled in.
    fn a_proved_key_is_everywhere(&self, events: &[Event]) -> Result<(), TestCaseError> {
        for event in events {
            let Event::Activated { kid, grounds: Grounds::Proved { .. } } = event else { continue };
            for process in 0..self.processes.len() {
                let reports = self.now - self.processes[process].last_seen < FORGET_AFTER;
                prop_assert!(!reports || self.carries(process, *kid), "process {process} lacks {kid}");
            }
        }
        Ok(())
    }

    /// S3: the floor keeps builds from before an armed key from starting again.
    fn who_starts_carries_the_active_key(&self, happening: Happening) -> Result<(), TestCaseError> {
        if let (Happening::Restart { process, .. }, Some(active)) = (happening, self.ring.active(SLOT)) {
            let started = self.processes[process].version > 0;
            prop_assert!(!started || active.armed_at.is_none() || self.carries(process, active.kid));
        }
        Ok(())
    }
}

/// S1.
fn one_active(ring: &KeyRing) -> bool {
    ring.keys().filter(|key| key.state == KeyState::Active).map(Key::slot).collect::<BTreeSet<_>>().len()
        == ring.keys().filter(|key| key.state == KeyState::Active).count()
}

fn happenings() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 1..150)
}

fn live_through(drawn: Vec<u32>) -> Result<World, TestCaseError> {
    let mut world = World::new();
    for happening in drawn.into_iter().map(Happening::from) {
        world.go(happening)?;
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_commands_breaks_an_invariant(drawn in happenings()) {
        live_through(drawn)?;
    }
}

#[test]
fn the_small_world_reaches_every_state() {
    let mut runner = TestRunner::deterministic();
    let worlds =
        (0..1_000).map(|_| live_through(happenings().new_tree(&mut runner).unwrap().current()).unwrap());
    let reached: BTreeSet<_> =
        worlds.flat_map(|world| world.ring.keys().map(|key| key.state).collect::<Vec<_>>()).collect();
    assert_eq!(reached, KeyState::ALL.iter().copied().collect());
}
