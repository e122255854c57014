//! Postgres and the pure step, side by side: random commands, also two command lines at once, lead both to the same ring.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use token_authority::clock::Clock;
use token_authority::domain::key_ring::{
    Activation, Algorithm, Command, Compromise, Denial, Digest, Fleet, Key, KeyRing, KeySetRecord, KeyState,
    Kid, LEFT_AT_ACTIVATION, LastToken, NewKey, PURPOSES, Purpose, WithoutStandby, step,
};
use token_authority::rotation::generate::{Wanted, generate};
use token_authority::rotation::publish::{NextKeySet, publish};
use token_authority::rotation::{RotationError, Site, compromise, lifecycle};
use token_authority::storage::{self, signing_keys};
use tokio::runtime::Runtime;

use crate::support::database::Database;
use crate::support::keys::NewDeployment;

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn postgres_and_the_pure_step_go_the_same_way(sequential 1..16 => Postgres);
}

/// What a command line may be asked. Keys are named by the order of their birth.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Abandon(usize),
    Activate(usize),
    Arm(usize),
    Compromise(usize),
    Generate,
    Publish,
    Retire(usize),
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    One(Asked),
    /// Two command lines at once: one of the two orders is what happens.
    Two(Asked, Asked),
    Wait {
        hours: i64,
    },
}

/// The pure side.
#[derive(Clone, Debug)]
struct Pure {
    now: DateTime<Utc>,
    /// Every ring that may be: more than one after two commands at once.
    rings: Vec<KeyRing>,
}

impl ReferenceStateMachine for Pure {
    type State = Self;
    type Transition = Happening;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::born()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Happening> {
        let keys = state.rings[0].keys().count();
        let asked = move || {
            // Those that others are made of get in each other's way the most.
            let key = 0..keys + 1;
            prop_oneof![
                2 => Just(Asked::Generate),
                2 => Just(Asked::Publish),
                3 => key.clone().prop_map(Asked::Arm),
                4 => key.clone().prop_map(Asked::Activate),
                1 => key.clone().prop_map(Asked::Abandon),
                1 => key.clone().prop_map(Asked::Compromise),
                2 => key.prop_map(Asked::Retire),
            ]
        };
        prop_oneof![
            6 => asked().prop_map(Happening::One),
            3 => (asked(), asked()).prop_map(|(one, other)| Happening::Two(one, other)),
            1 => (1..100_i64).prop_map(|hours| Happening::Wait { hours }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, happening: &Happening) -> Self {
        match *happening {
            Happening::One(asked) => {
                state.rings = state.rings.iter().map(|ring| obey(ring, asked, ring, state.now)).collect();
            }
            Happening::Two(one, other) => {
                let both = |ring: &KeyRing| {
                    // Both looked at the head before either changed it.
                    let orders = [(one, other), (other, one)];
                    orders.map(|(first, second)| {
                        obey(&obey(ring, first, ring, state.now), second, ring, state.now)
                    })
                };
                state.rings = state.rings.iter().flat_map(both).collect();
            }
            Happening::Wait { hours } => state.now += TimeDelta::hours(hours),
        }
        let mut seen: Vec<Vec<String>> = vec![];
        state.rings.retain(|ring| {
            let shown = shown(ring, &by_name(ring));
            let is_new = !seen.contains(&shown);
            seen.push(shown);
            is_new
        });
        state
    }
}

impl Pure {
    /// As `init` makes a deployment.
    fn born() -> Self {
        let now: DateTime<Utc> = "2026-11-20T12:00:00.5Z".parse().unwrap();
        let mut ring = KeyRing::default();
        for (index, purpose) in PURPOSES.iter().enumerate() {
            for (offset, shorter) in [LEFT_AT_ACTIVATION, TimeDelta::zero()].into_iter().enumerate() {
                let kid = kid(2 * index + offset);
                let not_after = end_of_life(now) - shorter;
                let new = NewKey { kid, purpose: *purpose, alg: Algorithm::EdDsa, not_after };
                ring = step(&ring, Command::Generate(new), now).unwrap().0;
            }
        }
        ring = obey(&ring, Asked::Publish, &ring, now);
        for index in 0..PURPOSES.len() {
            ring = step(&ring, Command::Birth { kid: kid(2 * index), ever_issued: false }, now).unwrap().0;
        }
        Self { now, rings: vec![ring] }
    }
}

/// What a command makes of a ring; what is refused changes nothing.
fn obey(ring: &KeyRing, asked: Asked, looked_at: &KeyRing, now: DateTime<Utc>) -> KeyRing {
    let in_state = |state| ring.keys().filter(move |key| key.state == state).map(|key| key.kid);
    let command = match asked {
        Asked::Abandon(n) => Command::Abandon { kid: kid(n) },
        Asked::Activate(n) => {
            let fleet = Fleet::default();
            Command::Activate(Activation { kid: kid(n), head: looked_at.head_version(), fleet, waiver: None })
        }
        Asked::Arm(n) => Command::Arm { kid: kid(n) },
        Asked::Compromise(n) => {
            let (kids, fleet) = ([kid(n)].into(), Fleet::default());
            Command::Compromise(Compromise { kids, fleet, without_standby: WithoutStandby::StopMinting })
        }
        Asked::Generate => Command::Generate(NewKey {
            kid: kid(ring.keys().count()),
            purpose: Purpose::AccessTokens,
            alg: Algorithm::EdDsa,
            not_after: end_of_life(now),
        }),
        Asked::Publish => {
            let adding: BTreeSet<Kid> = in_state(KeyState::Generated).collect();
            if adding.is_empty() {
                return ring.clone();
            }
            key_set(ring, &adding, BTreeMap::new())
        }
        Asked::Retire(n) => {
            if ring.key(kid(n)).is_none_or(|key| key.state != KeyState::Retiring) {
                return ring.clone();
            }
            key_set(ring, &BTreeSet::new(), [(kid(n), LastToken::NeverIssued)].into())
        }
    };
    step(ring, command, now).map_or_else(|_| ring.clone(), |(after, _)| after)
}

fn key_set(ring: &KeyRing, adding: &BTreeSet<Kid>, drained: BTreeMap<Kid, LastToken>) -> Command {
    let version = ring.head_version() + 1;
    Command::Publish(KeySetRecord {
        version,
        digest: Digest::of(&version.to_be_bytes()),
        prev: ring.head().map(|head| head.digest),
        carried: ring.next_carried(adding, &drained.keys().copied().collect()),
        max_token_ttl: TimeDelta::hours(72),
        drained,
    })
}

fn kid(n: usize) -> Kid {
    Kid::new([u8::try_from(n).unwrap() + 1; 32])
}

/// Whole seconds, as keys are born.
fn end_of_life(now: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_secs(now.timestamp()).unwrap() + TimeDelta::days(400)
}

/// The other side.
struct Postgres {
    runtime: Runtime,
    database: Database,
    storage: storage::Database,
    deployment: NewDeployment,
}

impl StateMachineTest for Postgres {
    type SystemUnderTest = Self;
    type Reference = Pure;

    fn init_test(pure: &Pure) -> Self {
        let runtime = Runtime::new().unwrap();
        let deployment = NewDeployment::in_temporary_folder();
        assert_eq!(deployment.clock.now(), pure.now);
        let database = runtime.block_on(async {
            let database = Database::fresh().await;
            deployment.init(&database).await.unwrap();
            database
        });
        let storage = runtime.block_on(async { database.storage() });
        Self { runtime, database, storage, deployment }
    }

    fn apply(side: Self, pure: &Pure, happening: Happening) -> Self {
        side.runtime.block_on(async {
            match happening {
                Happening::One(asked) => side.run(asked).await,
                Happening::Two(one, other) => {
                    // Both know the keys as they are before either runs.
                    tokio::join!(side.run(one), side.run(other));
                }
                Happening::Wait { .. } => side.deployment.clock.set(pure.now),
            }
        });
        side
    }

    fn check_invariants(side: &Self, pure: &Pure) {
        let is = side.runtime.block_on(side.look());
        let may_be: Vec<Vec<String>> = pure.rings.iter().map(|ring| shown(ring, &by_name(ring))).collect();
        assert!(may_be.contains(&is), "Postgres holds {is:#?}\nbut the step says {may_be:#?}");
    }
}

impl Postgres {
    /// What is refused is told, and changes nothing; a fault fails the test.
    async fn run(&self, asked: Asked) {
        let clock: &Clock = &self.deployment.clock;
        let site = Site {
            database: &self.storage,
            environment: "development",
            kek: &*self.deployment.kek,
            clock,
            actor: "test",
        };
        let outcome = match asked {
            Asked::Abandon(n) => lifecycle::abandon(&site, self.kid(n).await, None).await.map(drop),
            Asked::Activate(n) => {
                let kid = self.kid(n).await;
                let head = lifecycle::head(&site).await.unwrap();
                lifecycle::activate(&site, kid, head, None).await.map(drop)
            }
            Asked::Arm(n) => lifecycle::arm(&site, self.kid(n).await).await.map(drop),
            Asked::Compromise(n) => {
                let kids = [self.kid(n).await].into();
                let stop = WithoutStandby::StopMinting;
                compromise::compromise(&site, &kids, stop, Some("drawn by lot")).await.map(drop)
            }
            Asked::Generate => {
                let wanted =
                    Wanted { purpose: Purpose::AccessTokens, alg: Algorithm::EdDsa, not_after: None };
                generate(&site, wanted).await.map(drop)
            }
            Asked::Publish => self.publish(&site, None, BTreeSet::new()).await,
            Asked::Retire(n) => {
                let leaving = [self.kid(n).await].into();
                self.publish(&site, Some(BTreeSet::new()), leaving).await
            }
        };
        match outcome {
            Ok(()) | Err(RotationError::Refused(_)) => {}
            Err(fault) => panic!("{asked:?}: {fault:?}"),
        }
    }

    async fn publish(
        &self,
        site: &Site<'_>,
        adding: Option<BTreeSet<Kid>>,
        leaving: BTreeSet<Kid>,
    ) -> Result<(), RotationError> {
        let (keys_dir, root) = (self.deployment.keys_dir(), self.deployment.root_key_file());
        let next = NextKeySet { adding, leaving, keys_dir: &keys_dir, root_key_file: Some(&root) };
        publish(site, &next).await.map(drop)
    }

    /// The key that was born as the nth; one that nobody knows where there are fewer.
    async fn kid(&self, n: usize) -> Kid {
        let mut connection = self.database.connection().await;
        let keys = signing_keys::list(&mut connection, "development").await.unwrap();
        keys.get(n).map_or(Kid::new([255; 32]), |listed| listed.key.kid)
    }

    async fn look(&self) -> Vec<String> {
        let mut connection = self.database.connection().await;
        let ring = storage::key_rings::find(&mut connection, "development").await.unwrap().unwrap().ring;
        let listed = signing_keys::list(&mut connection, "development").await.unwrap();
        let order: Vec<Kid> = listed.iter().map(|listed| listed.key.kid).collect();
        shown(&ring, &order)
    }
}

/// The synthetic names are numbers.
fn by_name(ring: &KeyRing) -> Vec<Kid> {
    ring.keys().map(|key| key.kid).collect()
}

/// Everything of a ring that must be equal, by the order in which the keys were born.
fn shown(ring: &KeyRing, order: &[Kid]) -> Vec<String> {
    let key = |key: &Key| {
        format!(
            "{} {} since set {:?}, armed {:?}, active {:?}, demoted {:?}, denied {:?}, until {}",
            key.purpose,
            key.state,
            key.published.map(|published| published.version),
            key.armed_at,
            key.activated_at,
            key.demoted_at,
            key.denial.map(|denial| matches!(denial, Denial::Always)),
            key.not_after,
        )
    };
    let mut shown: Vec<String> = order.iter().map(|kid| key(ring.key(*kid).unwrap())).collect();
    shown.push(format!(
        "head {}, floor {}, deny list {}",
        ring.head_version(),
        ring.floor(),
        ring.deny_list_serial()
    ));
    shown
}
