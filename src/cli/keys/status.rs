//! `keys status`: who signs, who could follow, and the fleet at a glance.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::READING;
use super::compromise::HorizonDocument;
use super::words::{days, instant, moment};
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::domain::backend::KeyTrust;
use crate::domain::key_ring::{Key, KeyState, Purpose};
use crate::rotation::fleet_view::Holding;
use crate::rotation::horizon::{self, Horizon};
use crate::rotation::overview::{self, SlotStatus, Status};

pub(super) fn run(global: &GlobalArgs) -> Result<(), CliError> {
    let settings = global.settings()?;
    let clock = Clock::system();
    let status = block_on(async {
        let database = open_migrated(&settings).await?;
        let mut connection = database.begin().await.map_err(CliError::fault(READING))?;
        let status = overview::status(&mut connection, settings.environment.as_str(), clock.now()).await;
        status.map_err(refusal_or_fault(READING))
    })?;
    let lifetime = chrono::TimeDelta::from_std(settings.token_lifetime).unwrap_or(chrono::TimeDelta::MAX);
    let instance_seconds = horizon::of_instance(lifetime).num_seconds();
    match global.format {
        Format::Json => print_json(&Document::new(settings.environment.as_str(), &status, instance_seconds)),
        Format::Table => table(settings.environment.as_str(), &status, instance_seconds, clock.now()),
    }
}

fn table(
    environment: &str,
    status: &Status,
    instance_seconds: i64,
    now: DateTime<Utc>,
) -> Result<(), CliError> {
    print(&format!(
        "Environment `{environment}` of {}: key set {} is the newest, {} the lowest that may be deployed; deny list {}.\n",
        status.issuer, status.head, status.floor, status.deny_list_serial
    ))?;
    print_table(
        &["purpose", "alg", "signs now", "ends in", "standbys", "retiring"],
        status.slots.iter().map(|slot| row(slot, now)),
    )?;
    if status.holdings.is_empty() {
        print("\nNo backend is registered: nothing proves any key.")?;
    } else {
        print("")?;
        print_table(
            &["backend", "trust", "key", "state", "live", "carry it", "prove it", "all since"],
            // Deny lists are verified with keys of the same sets: programs are told of those too.
            status
                .holdings
                .iter()
                .filter(|holding| holding.purpose == Purpose::AccessTokens)
                .map(|holding| holding_row(holding, status)),
        )?;
        print("")?;
        print_table(
            &["backend", "a revoked key works for", "because", "a revoked instance works for"],
            status.horizons.iter().map(|horizon| {
                [
                    horizon.backend.clone(),
                    format!("{} s", horizon.of_key.num_seconds()),
                    horizon.because.join("\n"),
                    format!("{instance_seconds} s"),
                ]
            }),
        )?;
    }
    status.slots.iter().filter_map(warning).try_for_each(|warning| print(&warning))
}

fn row(slot: &SlotStatus, now: DateTime<Utc>) -> [String; 6] {
    let (signs, ends) = match &slot.active {
        Some(key) => (key.kid.to_string(), days(key.not_after - now)),
        None => ("nothing".to_owned(), String::new()),
    };
    let standbys: Vec<_> =
        slot.standbys.iter().map(|key| format!("{} ({})", key.kid, readiness(slot, key))).collect();
    let retiring: Vec<_> = slot.retiring.iter().map(|key| key.kid.to_string()).collect();
    [
        slot.slot.purpose.to_string(),
        slot.slot.alg.to_string(),
        signs,
        ends,
        standbys.join("\n"),
        retiring.join("\n"),
    ]
}

fn readiness(slot: &SlotStatus, key: &Key) -> &'static str {
    if slot.ready.contains(&key.kid) {
        "ready"
    } else if key.armed_at.is_some() {
        "armed"
    } else {
        "not armed"
    }
}

fn holding_row(holding: &Holding, status: &Status) -> [String; 8] {
    let state = status.states.get(&holding.kid).map_or("", |state| state.as_str());
    let of_live = |count: usize| match holding.trust {
        KeyTrust::Embedded => format!("{count} of {}", holding.live),
        KeyTrust::Discovery => "discovers".to_owned(),
    };
    [
        holding.backend.clone(),
        holding.trust.to_string(),
        holding.kid.to_string(),
        state.to_owned(),
        holding.live.to_string(),
        of_live(holding.carrying),
        of_live(holding.proving),
        holding.proved_since.map_or_else(String::new, moment),
    ]
}

fn warning(slot: &SlotStatus) -> Option<String> {
    match (&slot.active, slot.standbys.is_empty(), slot.ready.is_empty()) {
        (None, ..) => Some(format!("Nothing signs for {}: tokens are not issued.", slot.slot)),
        (Some(_), true, _) => Some(format!("No standby for {}: a lost key stops it.", slot.slot)),
        (Some(_), false, true) => {
            Some(format!("No standby for {} is ready: arm one that every backend holds.", slot.slot))
        }
        (Some(_), false, false) => None,
    }
}

#[derive(Serialize)]
struct Document<'a> {
    environment: &'a str,
    issuer: &'a str,
    head: u32,
    head_created_at: Option<String>,
    floor: u32,
    deny_list_serial: u64,
    slots: Vec<SlotDocument>,
    fleet: Vec<HoldingDocument<'a>>,
    horizons: Vec<HorizonDocument<'a>>,
    /// How long a token of an instance that was revoked may go on being valid.
    instance_horizon_seconds: i64,
}

#[derive(Serialize)]
struct SlotDocument {
    purpose: &'static str,
    alg: &'static str,
    active: Option<StandingDocument>,
    standbys: Vec<StandingDocument>,
    retiring: Vec<StandingDocument>,
    /// How many standbys could sign at once in an emergency.
    standby_coverage: usize,
}

#[derive(Serialize)]
struct StandingDocument {
    kid: String,
    not_after: String,
    armed_at: Option<String>,
    ready: bool,
}

/// How one backend stands to one key.
#[derive(Serialize)]
struct HoldingDocument<'a> {
    backend: &'a str,
    trust: &'static str,
    kid: String,
    purpose: &'static str,
    state: Option<&'static str>,
    live: usize,
    carrying: usize,
    proving: usize,
    /// Since when all live processes have proved it.
    proved_since: Option<String>,
}

impl<'a> Document<'a> {
    fn new(environment: &'a str, status: &'a Status, instance_horizon_seconds: i64) -> Self {
        Self {
            environment,
            issuer: &status.issuer,
            head: status.head,
            head_created_at: status.head_created_at.map(instant),
            floor: status.floor,
            deny_list_serial: status.deny_list_serial,
            slots: status.slots.iter().map(SlotDocument::new).collect(),
            fleet: status.holdings.iter().map(|holding| HoldingDocument::new(holding, status)).collect(),
            horizons: status.horizons.iter().map(|horizon: &Horizon| HorizonDocument::new(horizon)).collect(),
            instance_horizon_seconds,
        }
    }
}

impl SlotDocument {
    fn new(slot: &SlotStatus) -> Self {
        let standing = |key: &Key| StandingDocument {
            kid: key.kid.to_string(),
            not_after: instant(key.not_after),
            armed_at: key.armed_at.map(instant),
            ready: slot.ready.contains(&key.kid),
        };
        Self {
            purpose: slot.slot.purpose.name(),
            alg: slot.slot.alg.as_str(),
            active: slot.active.as_ref().map(standing),
            standbys: slot.standbys.iter().map(standing).collect(),
            retiring: slot.retiring.iter().map(standing).collect(),
            standby_coverage: slot.ready.len(),
        }
    }
}

impl<'a> HoldingDocument<'a> {
    fn new(holding: &'a Holding, status: &Status) -> Self {
        Self {
            backend: &holding.backend,
            trust: holding.trust.as_str(),
            kid: holding.kid.to_string(),
            purpose: holding.purpose.name(),
            state: status.states.get(&holding.kid).map(|state: &KeyState| state.as_str()),
            live: holding.live,
            carrying: holding.carrying,
            proving: holding.proving,
            proved_since: holding.proved_since.map(instant),
        }
    }
}
