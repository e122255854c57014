//! A database that may be set back to an old copy of itself, and what was signed outside of it: the shipped recovery in
//! every state of a small world.

use std::collections::{BTreeMap, BTreeSet};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::super::recovery::{Evidence, Outside, PublishedSet, Remembered, recover, remembered};
use super::super::stories::{SLOT, activate, at, generate, kid};
use super::super::*;

/// What a careless program would leave out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Without {
    /// Key sets that the root has signed are not looked for.
    Chain,
    /// The signed deny list is not looked for.
    DenyList,
    /// Recovery adopts the chain and forgets to ask what became of the keys.
    KeyStates,
    /// Nothing.
    Nothing,
    /// A database that is behind goes on.
    SafeMode,
}

struct Restores {
    without: Without,
    /// The last key that is made.
    keys: u8,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Database {
    ring: KeyRing,
    audit: Vec<Remembered>,
    private_halves: BTreeSet<Kid>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    database: Database,
    copy: Option<Database>,
    restored: bool,
    recovered: bool,
    /// Signed by the root: never forgotten.
    published: Vec<PublishedSet>,
    /// The newest export of the audit.
    exported: Vec<Remembered>,
    denied: BTreeMap<Kid, Denial>,
    deny_list_serial: u64,
    /// So that no two documents are alike.
    documents: u8,
    /// How many keys were ever made: each is another one, also after a restore.
    born: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Happening {
    Activate(u8),
    Arm(u8),
    Compromise(u8),
    Copy,
    Export,
    Generate(u8),
    Publish(u8),
    Recover,
    Restore,
}

/// Of the small world.
const KEYS: u8 = 4;

impl Model for Restores {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, happenings: &mut Vec<Happening>) {
        for n in 1..=self.keys {
            happenings.extend([Happening::Activate(n), Happening::Arm(n), Happening::Compromise(n)]);
            if world.database.ring.head_version() < 2 {
                happenings.push(Happening::Publish(n));
            }
        }
        if world.born < self.keys {
            happenings.push(Happening::Generate(world.born + 1));
        }
        if world.copy.is_none() {
            happenings.push(Happening::Copy);
        } else if !world.restored {
            happenings.push(Happening::Restore);
        }
        happenings.extend([Happening::Export, Happening::Recover]);
    }

    fn next_state(&self, world: &World, happening: Happening) -> Option<World> {
        let mut next = world.clone();
        let is_safe = self.is_safe(world);
        match happening {
            Happening::Copy => next.copy = Some(world.database.clone()),
            Happening::Export if world.database.audit.len() > world.exported.len() => {
                next.exported.clone_from(&world.database.audit);
            }
            Happening::Restore => {
                next.database = world.copy.clone()?;
                next.restored = true;
            }
            Happening::Recover if is_safe => next.recover(self.without)?,
            Happening::Export | Happening::Recover => return None,
            _ if is_safe => return None,
            command => next.obey(command)?,
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S4", |_, world: &World| {
                let versions: BTreeSet<u32> = world.published.iter().map(|set| set.set.version).collect();
                versions.len() == world.published.len()
            }),
            Property::always("S7", |model: &Self, world: &World| {
                model.is_safe(world)
                    || world
                        .database
                        .ring
                        .active(SLOT)
                        .is_none_or(|active| world.denied.get(&active.kid) != Some(&Denial::Always))
            }),
            Property::always("S8", |model: &Self, world: &World| {
                let Database { ring, audit, .. } = &world.database;
                model.is_safe(world) || world.outside().is_ahead_of(ring, length(audit)).is_none()
            }),
            Property::always("L2", |model: &Self, world: &World| {
                !model.is_safe(world)
                    || model.next_state(world, Happening::Recover).is_some_and(|out| !model.is_safe(&out))
            }),
            Property::sometimes(
                "a restored database signs again, with another key",
                |model: &Self, world: &World| {
                    let active = world.database.ring.active(SLOT).map(|active| active.kid);
                    let copied =
                        world.copy.as_ref().and_then(|copy| copy.ring.active(SLOT)).map(|active| active.kid);
                    world.recovered && !model.is_safe(world) && active.is_some() && active != copied
                },
            ),
        ]
    }
}

impl Restores {
    fn is_safe(&self, world: &World) -> bool {
        let mut outside = world.outside();
        match self.without {
            Without::Chain => outside.key_set = None,
            Without::DenyList => outside.deny_list_serial = None,
            Without::KeyStates | Without::Nothing => {}
            Without::SafeMode => return false,
        }
        outside.is_ahead_of(&world.database.ring, length(&world.database.audit)).is_some()
    }
}

impl World {
    fn new() -> Self {
        let step = |ring: &KeyRing, command| step(ring, command, at(0)).unwrap().0;
        let ring = step(&step(&KeyRing::default(), generate(1)), generate(2));
        let carried: BTreeSet<Kid> = [kid(1), kid(2)].into();
        let ring = step(&ring, super::super::stories::publish(&ring, [1, 2], []));
        let ring = step(&ring, Command::Birth { kid: kid(1), ever_issued: false });
        let ring = step(&ring, Command::Arm { kid: kid(2) });
        let database = Database { ring, audit: vec![], private_halves: carried };
        Self {
            database,
            copy: None,
            restored: false,
            recovered: false,
            published: vec![],
            exported: vec![],
            denied: BTreeMap::new(),
            deny_list_serial: 0,
            documents: 1,
            born: 2,
        }
    }

    fn outside(&self) -> Outside {
        Outside {
            key_set: self.published.iter().map(|set| set.set.version).max(),
            deny_list_serial: Some(self.deny_list_serial),
            audit_sequence: Some(length(&self.exported)),
        }
    }

    fn obey(&mut self, happening: Happening) -> Option<()> {
        let ring = &self.database.ring;
        let command = match happening {
            Happening::Activate(n) => activate(n, ring.head_version(), Fleet::default(), None),
            Happening::Arm(n) => Command::Arm { kid: kid(n) },
            Happening::Compromise(n) => Command::Compromise(Compromise {
                kids: [kid(n)].into(),
                fleet: Fleet::default(),
                without_standby: WithoutStandby::StopMinting,
            }),
            Happening::Generate(n) => generate(n),
            Happening::Publish(n) => {
                let is_new = ring.key(kid(n)).is_some_and(|key| key.state == KeyState::Generated);
                let adding = is_new.then(|| kid(n)).into_iter().collect::<BTreeSet<_>>();
                let carried = ring.next_carried(&adding, &BTreeSet::new());
                self.documents += 1;
                Command::Publish(KeySetRecord {
                    version: ring.head_version() + 1,
                    digest: Digest::new([self.documents; 32]),
                    prev: ring.head().map(|head| head.digest),
                    carried: is_new.then_some(carried)?,
                    max_token_ttl: ring.longest_token(),
                    drained: BTreeMap::new(),
                })
            }
            _ => return None,
        };
        let (after, events) = step(ring, command.clone(), at(0)).ok()?;
        if let Command::Publish(set) = command {
            let born = |kid: &Kid| {
                let key = after.key(*kid)?;
                let NewKey { purpose, alg, not_after, .. } =
                    NewKey { kid: key.kid, purpose: key.purpose, alg: key.alg, not_after: key.not_after };
                Some((*kid, NewKey { kid: *kid, purpose, alg, not_after }))
            };
            self.published.push(PublishedSet {
                keys: set.carried.iter().filter_map(born).collect(),
                denied: after.keys().filter_map(|key| Some((key.kid, key.denial?))).collect(),
                set: Adopted {
                    version: set.version,
                    digest: set.digest,
                    prev: set.prev,
                    carried: set.carried,
                    max_token_ttl: set.max_token_ttl,
                    at: at(0),
                    floor: ring.floor(),
                },
            });
        }
        self.database.audit.extend(events.iter().filter_map(|event| remembered(event, &after)));
        self.database.ring = after;
        if let Happening::Generate(n) = happening {
            self.database.private_halves.insert(kid(n));
            self.born = n;
        }
        self.hand_out();
        Some(())
    }

    /// The deny list leaves with the command that changed it.
    fn hand_out(&mut self) {
        let ring = &self.database.ring;
        if ring.deny_list_serial() > self.deny_list_serial {
            self.deny_list_serial = ring.deny_list_serial();
            for (kid, denial) in ring.keys().filter_map(|key| Some((key.kid, key.denial?))) {
                let known = self.denied.entry(kid).or_insert(denial);
                *known = denial.max(*known);
            }
        }
    }

    fn recover(&mut self, without: Without) -> Option<()> {
        let Database { ring, audit, private_halves } = &self.database;
        let lost = self.exported.get(audit.len()..).unwrap_or_default();
        let ahead = self.published.iter().filter(|set| set.set.version > ring.head_version());
        let mut evidence = Evidence {
            audit: lost.to_vec(),
            key_sets: ahead.cloned().collect(),
            denied: self.denied.clone(),
            deny_list_serial: self.deny_list_serial,
            private_halves: private_halves.clone(),
        };
        if without == Without::KeyStates {
            evidence.audit.retain(|line| matches!(line, Remembered::KeySet { .. }));
            evidence.denied.clear();
            evidence.key_sets.iter_mut().for_each(|set| set.denied.clear());
        }
        let (after, _) = recover(ring, &evidence, at(0)).ok()?;
        // The lost lines are taken over, and the recovery's own follow them.
        self.database.audit.extend(lost.to_vec());
        self.database.ring = after;
        self.recovered = true;
        self.hand_out();
        Some(())
    }
}

fn length(audit: &[Remembered]) -> u64 {
    audit.len().try_into().unwrap_or(u64::MAX)
}

#[test]
fn an_old_copy_mints_nothing_until_it_knows_again_what_it_forgot() {
    let small = Restores { without: Without::Nothing, keys: KEYS };
    let checked = small.checker().threads(2).target_max_depth(STEPS).spawn_bfs().join();
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
}

/// `cargo test --release --lib old_copy -- --ignored --nocapture`: deeper than the small world, and not complete.
#[test]
#[ignore = "takes minutes; see docs/development.md"]
fn an_old_copy_mints_nothing_however_long_it_goes_on() {
    let large = Restores { without: Without::Nothing, keys: LARGE };
    // Depth first: what waits to be looked at is a path, and not every state of one depth.
    let checked = large.checker().threads(2).target_state_count(MOST_STATES).spawn_dfs().join();
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
}

/// Of the large world, which is endless for practical purposes.
const MOST_STATES: usize = 2_000_000;
/// Of the large world.
const LARGE: u8 = 4;

/// Every counterexample below is shorter by half.
const STEPS: usize = 8;

#[test]
fn whatever_a_careless_program_leaves_out_breaks_something() {
    for (without, invariant) in [
        (Without::Chain, "S4"),
        (Without::DenyList, "S7"),
        (Without::KeyStates, "S7"),
        (Without::SafeMode, "S8"),
    ] {
        let checked = check(without, HasDiscoveries::AllOf([invariant].into()));
        let path = checked.assert_any_discovery(invariant);
        println!("without {without:?}, {invariant} breaks by {:?}", path.into_actions());
    }
}

fn check(without: Without, until: HasDiscoveries) -> impl Checker<Restores> {
    Restores { without, keys: KEYS }.checker().threads(2).finish_when(until).spawn_bfs().join()
}
