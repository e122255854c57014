//! What is done to a deployment, and when: drawn from a seed, so that the same seed gives the same plan.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::ground::REPLICAS;
use super::people::INSTANCES;

/// One thing that happens to a deployment under load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Blow {
    /// So many syncs at once: more than may wait.
    Burst(usize),
    /// An instance loses its add-on, or gets one.
    ChangePurchase(usize),
    /// A replica's clock goes wrong by so many seconds; 0 sets it right.
    Clock(usize, i32),
    /// Every connection of a replica to the database breaks.
    Cut(usize),
    /// Whatever a replica and the database say to each other arrives so many milliseconds late for a while.
    Delay(usize, u64),
    /// SIGKILL for one process of PostgreSQL: the server ends all sessions and recovers.
    KillBackend(usize),
    /// SIGKILL for a replica and for all of PostgreSQL at once.
    KillBoth(usize),
    /// SIGKILL for all of PostgreSQL.
    KillDatabase,
    /// SIGKILL for a replica.
    KillReplica(usize),
    /// SIGSTOP for all of PostgreSQL, for so many milliseconds.
    Pause(u64),
    /// A license is revoked.
    Revoke(usize),
    /// Another key signs.
    Rotate,
    /// A subscription is suspended, or goes on.
    Suspend(usize),
    /// Whatever a replica and the database say to each other is lost for so many milliseconds, then the connections.
    Swallow(usize, u64),
}

impl Blow {
    /// What kind of blow it is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Burst(_) => "a burst",
            Self::ChangePurchase(_) => "a purchase that changes",
            Self::Clock(..) => "a clock that moves",
            Self::Cut(_) => "a cut",
            Self::Delay(..) => "a delay",
            Self::KillBackend(_) => "a process of PostgreSQL killed",
            Self::KillBoth(_) => "a replica and PostgreSQL killed",
            Self::KillDatabase => "PostgreSQL killed",
            Self::KillReplica(_) => "a replica killed",
            Self::Pause(_) => "PostgreSQL stopped",
            Self::Revoke(_) => "a revocation",
            Self::Rotate => "a rotation",
            Self::Suspend(_) => "a suspension",
            Self::Swallow(..) => "a loss",
        }
    }

    /// How many times something is killed.
    pub(super) fn kills(self) -> usize {
        match self {
            Self::KillBackend(_) | Self::KillDatabase | Self::KillReplica(_) => 1,
            Self::KillBoth(_) => 2,
            _ => 0,
        }
    }
}

/// A blow, once so many syncs were answered after the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stroke {
    pub(super) answers: usize,
    pub(super) blow: Blow,
}

/// How hard a run is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// At least so many kills.
    pub(super) kills: usize,
    /// For how long PostgreSQL is stopped at the most.
    pub(super) longest_pause: Duration,
}

/// The plan of a seed.
pub(super) fn plan(seed: u64, scale: Scale) -> Vec<Stroke> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let stroke = (0..8_usize, blow(scale)).prop_map(|(answers, blow)| Stroke { answers, blow });
    // More than enough: more than every second stroke kills.
    let strokes = prop::collection::vec(stroke, scale.kills * 4);
    let mut strokes = strokes.new_tree(&mut runner).unwrap().current();
    let mut kills = 0;
    let last = strokes.iter().position(|stroke| {
        kills += stroke.blow.kills();
        kills >= scale.kills
    });
    strokes.truncate(last.unwrap() + 1);
    strokes
}

fn blow(scale: Scale) -> impl Strategy<Value = Blow> {
    let longest = u64::try_from(scale.longest_pause.as_millis()).unwrap();
    prop_oneof![
        80 => (0..REPLICAS).prop_map(Blow::KillReplica),
        6 => (0..1000_usize).prop_map(Blow::KillBackend),
        6 => Just(Blow::KillDatabase),
        2 => (0..REPLICAS).prop_map(Blow::KillBoth),
        8 => (0..REPLICAS).prop_map(Blow::Cut),
        6 => (0..REPLICAS, 20..300_u64).prop_map(|(replica, ms)| Blow::Delay(replica, ms)),
        4 => (0..REPLICAS, 50..400_u64).prop_map(|(replica, ms)| Blow::Swallow(replica, ms)),
        2 => (longest / 10..longest).prop_map(Blow::Pause),
        6 => (20..60_usize).prop_map(Blow::Burst),
        6 => (0..REPLICAS, prop_oneof![Just(0), -4000..4000]).prop_map(|(replica, s)| Blow::Clock(replica, s)),
        12 => (0..INSTANCES).prop_map(Blow::ChangePurchase),
        8 => (0..INSTANCES).prop_map(Blow::Suspend),
        1 => (0..INSTANCES / 2).prop_map(Blow::Revoke),
        3 => Just(Blow::Rotate),
    ]
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_one_another() {
    let scale = Scale { kills: 100, longest_pause: Duration::from_secs(1) };
    let first = plan(1, scale);
    assert_eq!(first, plan(1, scale));
    assert_ne!(first, plan(2, scale));
    let kills: usize = first.iter().map(|stroke| stroke.blow.kills()).sum();
    assert!((100..=101).contains(&kills), "{kills}");
    for part in [
        |blow: &Blow| matches!(blow, Blow::Burst(_)),
        |blow: &Blow| matches!(blow, Blow::ChangePurchase(_)),
        |blow: &Blow| matches!(blow, Blow::Clock(..)),
        |blow: &Blow| matches!(blow, Blow::Cut(_)),
        |blow: &Blow| matches!(blow, Blow::KillBackend(_)),
        |blow: &Blow| matches!(blow, Blow::KillDatabase),
        |blow: &Blow| matches!(blow, Blow::Pause(_)),
        |blow: &Blow| matches!(blow, Blow::Rotate),
        |blow: &Blow| matches!(blow, Blow::Suspend(_)),
        |blow: &Blow| matches!(blow, Blow::Swallow(..)),
    ] {
        assert!(first.iter().any(|stroke| part(&stroke.blow)), "a kind of blow is missing in {first:?}");
    }
}
