//! `keys`: what there is of signing keys, and how they stand.

mod root;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Subcommand;
use serde::Serialize;
use token_authority_verifier::Jwk;

use self::root::RootArgs;
use super::database::open_migrated;
use super::output::{print, print_json, print_table};
use super::rotation::refusal_or_fault;
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::key_ring::{Denial, Key};
use crate::rotation::overview::{self, SlotStatus, Status};
use crate::storage::StorageError;
use crate::storage::signing_keys::ListedKey;

/// Look at signing keys. Private halves are never shown.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysArgs {
    /// Every key that ever was, with its state.
    List,
    #[command(subcommand)]
    Root(RootArgs),
    /// Which keys sign, which could follow, and when each ends.
    Status,
}

impl KeysArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::List => list(&global.settings()?, global.format),
            Self::Root(args) => args.run(global),
            Self::Status => status(&global.settings()?, global.format),
        }
    }
}

fn list(settings: &Settings, format: Format) -> Result<(), CliError> {
    let keys = block_on(async {
        let database = open_migrated(settings).await?;
        let mut connection =
            database.pool().acquire().await.map_err(StorageError::from).map_err(CliError::fault(READING))?;
        let keys = overview::list_keys(&mut connection, settings.environment.as_str()).await;
        keys.map_err(refusal_or_fault(READING))
    })?;
    match format {
        Format::Json => print_json(&KeysDocument { keys: keys.iter().map(KeyDocument::new).collect() }),
        Format::Table => print_table(
            &["kid", "purpose", "alg", "state", "key set", "made", "ends"],
            keys.iter().map(|ListedKey { key, generated_at, .. }| {
                [
                    key.kid.to_string(),
                    key.purpose.to_string(),
                    key.alg.to_string(),
                    key.state.to_string(),
                    key.published.map_or_else(String::new, |published| published.version.to_string()),
                    day(*generated_at),
                    day(key.not_after),
                ]
            }),
        ),
    }
}

fn status(settings: &Settings, format: Format) -> Result<(), CliError> {
    let status = block_on(async {
        let database = open_migrated(settings).await?;
        let mut connection =
            database.pool().acquire().await.map_err(StorageError::from).map_err(CliError::fault(READING))?;
        let status = overview::status(&mut connection, settings.environment.as_str()).await;
        status.map_err(refusal_or_fault(READING))
    })?;
    let now = Clock::system().now();
    match format {
        Format::Json => print_json(&StatusDocument::new(settings.environment.as_str(), &status)),
        Format::Table => {
            print(&format!(
                "Environment `{}` of {}: key set {} is the newest, {} the lowest that may be deployed.\n",
                settings.environment, status.issuer, status.head, status.floor
            ))?;
            print_table(
                &["purpose", "alg", "signs now", "ends in", "standbys", "retiring"],
                status.slots.iter().map(|slot| row(slot, now)),
            )?;
            status.slots.iter().filter_map(warning).try_for_each(|warning| print(&warning))
        }
    }
}

fn row(slot: &SlotStatus, now: DateTime<Utc>) -> [String; 6] {
    let (signs, ends) = match &slot.active {
        Some(key) => (key.kid.to_string(), days(key.not_after - now)),
        None => ("nothing".to_owned(), String::new()),
    };
    let standbys: Vec<_> = slot
        .standbys
        .iter()
        .map(|key| format!("{} ({})", key.kid, if key.armed_at.is_some() { "armed" } else { "not armed" }))
        .collect();
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

fn warning(slot: &SlotStatus) -> Option<String> {
    match (&slot.active, slot.standbys.is_empty()) {
        (None, _) => Some(format!("Nothing signs for {}: tokens are not issued.", slot.slot)),
        (Some(_), true) => Some(format!("No standby for {}: a lost key stops it.", slot.slot)),
        (Some(_), false) => None,
    }
}

const READING: &str = "could not read the keys";

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

fn days(span: TimeDelta) -> String {
    if span < TimeDelta::zero() { "ended".to_owned() } else { format!("{} days", span.num_days()) }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[derive(Serialize)]
struct KeysDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Serialize)]
struct KeyDocument {
    kid: String,
    purpose: &'static str,
    alg: &'static str,
    state: &'static str,
    generated_at: String,
    not_after: String,
    published_in: Option<u32>,
    published_at: Option<String>,
    armed_at: Option<String>,
    activated_at: Option<String>,
    demoted_at: Option<String>,
    denied: Option<DenialDocument>,
    public_key: Jwk,
}

#[derive(Serialize)]
struct DenialDocument {
    /// Tokens issued later are refused; all of them where it is null.
    issued_after: Option<String>,
}

impl KeyDocument {
    fn new(listed: &ListedKey) -> Self {
        let ListedKey { key, public_key, generated_at, .. } = listed;
        Self {
            kid: key.kid.to_string(),
            purpose: key.purpose.name(),
            alg: key.alg.as_str(),
            state: key.state.as_str(),
            generated_at: instant(*generated_at),
            not_after: instant(key.not_after),
            published_in: key.published.map(|published| published.version),
            published_at: key.published.map(|published| instant(published.at)),
            armed_at: key.armed_at.map(instant),
            activated_at: key.activated_at.map(instant),
            demoted_at: key.demoted_at.map(instant),
            denied: key.denial.map(|denial| DenialDocument {
                issued_after: match denial {
                    Denial::Always => None,
                    Denial::IssuedAfter(at) => Some(instant(at)),
                },
            }),
            public_key: public_key.clone(),
        }
    }
}

#[derive(Serialize)]
struct StatusDocument<'a> {
    environment: &'a str,
    issuer: &'a str,
    head: u32,
    head_created_at: Option<String>,
    floor: u32,
    deny_list_serial: u64,
    slots: Vec<SlotDocument>,
}

#[derive(Serialize)]
struct SlotDocument {
    purpose: &'static str,
    alg: &'static str,
    active: Option<StandingDocument>,
    standbys: Vec<StandingDocument>,
    retiring: Vec<StandingDocument>,
}

#[derive(Serialize)]
struct StandingDocument {
    kid: String,
    not_after: String,
    armed_at: Option<String>,
}

impl<'a> StatusDocument<'a> {
    fn new(environment: &'a str, status: &'a Status) -> Self {
        Self {
            environment,
            issuer: &status.issuer,
            head: status.head,
            head_created_at: status.head_created_at.map(instant),
            floor: status.floor,
            deny_list_serial: status.deny_list_serial,
            slots: status.slots.iter().map(SlotDocument::new).collect(),
        }
    }
}

impl SlotDocument {
    fn new(slot: &SlotStatus) -> Self {
        let standing = |key: &Key| StandingDocument {
            kid: key.kid.to_string(),
            not_after: instant(key.not_after),
            armed_at: key.armed_at.map(instant),
        };
        Self {
            purpose: slot.slot.purpose.name(),
            alg: slot.slot.alg.as_str(),
            active: slot.active.as_ref().map(standing),
            standbys: slot.standbys.iter().map(standing).collect(),
            retiring: slot.retiring.iter().map(standing).collect(),
        }
    }
}
