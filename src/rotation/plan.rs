//! `keys plan`: the next step of each key, when it is safe at the earliest, and who blocks it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::RotationError;
use super::draining::{drained_at, last_tokens};
use super::fleet_view::FleetView;
use crate::clock::Clock;
use crate::domain::backend::KeyTrust;
use crate::domain::key_ring::{
    Blocker, FORGET_AFTER, Fleet, Key, KeyRing, KeyState, Kid, LEFT_AT_ACTIVATION, LastToken, Slot,
};
use crate::rotation::JWKS_MAX_AGE;
use crate::storage::{fences, fleet, key_rings};

/// One step that lies ahead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedStep {
    pub slot: Slot,
    /// `None`: the key is still to be made.
    pub kid: Option<Kid>,
    pub state: Option<KeyState>,
    pub step: Step,
    /// The earliest safe time if nobody who blocks it does anything; `None`: it waits for someone.
    pub earliest: Option<DateTime<Utc>>,
    /// Who blocks it, as sentences.
    pub blockers: Vec<String>,
    /// Who has not proved it and does not block it, since nobody heard of them for an hour; as sentences.
    pub silent: Vec<String>,
    /// By when it should be done, and why.
    pub latest: Option<DateTime<Utc>>,
    /// The command line that does it.
    pub command: String,
}

/// What is to be done with a key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    Activate,
    Arm,
    Generate,
    Publish,
    Retire,
}

impl Step {
    /// The verb of the command line.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Arm => "arm",
            Self::Generate => "generate",
            Self::Publish => "publish",
            Self::Retire => "retire",
        }
    }
}

/// What lies ahead of each key, those of one slot together.
///
/// # Errors
///
/// [`RotationError::NotInitialized`]; the database cannot be read.
pub async fn plan(
    connection: &mut PgConnection,
    environment: &str,
    clock: &Clock,
) -> Result<Vec<PlannedStep>, RotationError> {
    let now = clock.settle(fences::find_now(connection).await?);
    let stored = key_rings::find(connection, environment).await?;
    let ring =
        stored.ok_or_else(|| RotationError::NotInitialized { environment: environment.to_owned() })?.ring;
    let fleet = fleet::find(connection, environment, JWKS_MAX_AGE).await?;
    let view = FleetView::read(connection, environment).await?;
    let retiring = ring.keys().filter(|key| key.state == KeyState::Retiring).map(|key| key.kid);
    let last = last_tokens(connection, environment, &ring, retiring.collect::<Vec<_>>()).await?;

    let mut slots: Vec<Slot> = ring.keys().map(Key::slot).collect();
    slots.sort_unstable();
    slots.dedup();
    let mut steps = Vec::new();
    for slot in slots {
        let mut keys: Vec<&Key> =
            ring.keys().filter(|key| key.slot() == slot && !key.state.is_final()).collect();
        keys.sort_by_key(|key| (key.state, key.not_after, key.kid));
        let is_followed =
            keys.iter().any(|key| matches!(key.state, KeyState::Generated | KeyState::Published));
        if !is_followed {
            steps.push(generation(slot, ring.active(slot), now));
        }
        for key in keys {
            steps.extend(step_of(&ring, key, &fleet, &view, last.get(&key.kid).copied(), now));
        }
    }
    Ok(steps)
}

fn generation(slot: Slot, active: Option<&Key>, now: DateTime<Utc>) -> PlannedStep {
    PlannedStep {
        slot,
        kid: None,
        state: None,
        step: Step::Generate,
        earliest: Some(now),
        blockers: Vec::new(),
        silent: Vec::new(),
        latest: active.map(|key| key.not_after - LEFT_AT_ACTIVATION),
        command: format!("token-authority keys generate --purpose {} --alg {}", slot.purpose, slot.alg),
    }
}

/// The next step of one key; none for the one that signs while all is well.
fn step_of(
    ring: &KeyRing,
    key: &Key,
    fleet: &Fleet,
    view: &FleetView,
    last_token: Option<LastToken>,
    now: DateTime<Utc>,
) -> Option<PlannedStep> {
    let planned = |step: Step, earliest, blockers, latest| PlannedStep {
        slot: key.slot(),
        kid: Some(key.kid),
        state: Some(key.state),
        step,
        earliest,
        blockers,
        silent: match step {
            Step::Activate => fleet.silent(key, now).iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        },
        latest,
        command: format!("token-authority keys {} {}", step.verb(), key.kid),
    };
    // A key that signs must be followed before it ends, by one that has enough of its life left.
    let last_start = key.not_after - LEFT_AT_ACTIVATION;
    let rotate_by = ring.active(key.slot()).map(|active| active.not_after - super::ROTATE_BEFORE_END);
    let rotate_by = rotate_by.map(|by| by.min(last_start));
    match key.state {
        KeyState::Generated => Some(planned(Step::Publish, Some(now), Vec::new(), Some(last_start))),
        KeyState::Published if key.armed_at.is_none() => {
            let lacking = lacking(key, view, now);
            let earliest = lacking.is_empty().then_some(now);
            Some(planned(Step::Arm, earliest, lacking, rotate_by))
        }
        KeyState::Published => {
            let blockers = fleet.blocking(key, now);
            let earliest = earliest_activation(key, fleet, &blockers, now);
            Some(planned(
                Step::Activate,
                earliest,
                blockers.iter().map(ToString::to_string).collect(),
                rotate_by,
            ))
        }
        KeyState::Retiring => {
            let drained_at = drained_at(ring, key, last_token.unwrap_or(LastToken::Unknown));
            let waits = (now <= drained_at).then(|| "its last tokens are alive".to_owned());
            Some(planned(Step::Retire, Some(drained_at.max(now)), waits.into_iter().collect(), None))
        }
        KeyState::Active | KeyState::Retired | KeyState::Revoked | KeyState::Abandoned => None,
    }
}

/// The embedded backends of which a live process runs without the key.
fn lacking(key: &Key, view: &FleetView, now: DateTime<Utc>) -> Vec<String> {
    let embedded = view
        .backends
        .iter()
        .filter(|backend| backend.row.trust == KeyTrust::Embedded && backend.verifies(key));
    let processes = embedded.flat_map(|backend| &backend.processes);
    let lacking = processes.filter(|process| process.is_live(now) && !process.carries.contains(&key.kid));
    lacking
        .map(|process| {
            let (backend, id) = (&process.row.backend, &process.row.process_id);
            format!("{backend}/{id} runs key set {}", process.row.report.key_set_version)
        })
        .collect()
}

/// Time alone takes away what is cached, and processes that fall silent; everything else waits for someone.
fn earliest_activation(
    key: &Key,
    fleet: &Fleet,
    blockers: &std::collections::BTreeSet<Blocker>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut earliest = now;
    for blocker in blockers {
        let gone_at = match blocker {
            Blocker::Cached { until, .. } => *until,
            Blocker::Process { backend, process } => {
                let backend = fleet.backends.iter().find(|known| known.name == *backend)?;
                let process = backend.processes.iter().find(|known| known.id == *process)?;
                // Should it never be heard of again.
                process.last_seen + FORGET_AFTER
            }
            Blocker::TooFew { .. } | Blocker::Unproven { .. } => return None,
        };
        earliest = earliest.max(gone_at);
    }
    (key.not_after - earliest >= LEFT_AT_ACTIVATION).then_some(earliest)
}
