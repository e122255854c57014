//! `keys compromise`: one command for the worst day, which says what it will do before it asks.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use clap::Args;
use serde::Serialize;
use token_authority_verifier::Kid;

use super::kid_argument::parse_kid;
use super::site::OpenSite;
use super::words::{instant, moment};
use crate::cli::confirm::ConfirmArgs;
use crate::cli::output::{print, print_json, warn};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::key_ring::WithoutStandby;
use crate::rotation::compromise::{Assessment, Ended, assess, compromise};
use crate::rotation::horizon::Horizon;

/// End keys whose private half may be in other hands: at once, whatever state they are in.
///
/// Nothing is signed under them any more, the ready standby signs instead, and backends refuse them with their next
/// beat. What is at stake is told before it asks.
#[derive(Args, Debug)]
pub(crate) struct CompromiseArgs {
    /// The keys, also such that retired long ago and sit in an old build.
    #[arg(value_name = "KID", required = true, value_parser = parse_kid)]
    kids: Vec<Kid>,
    /// Where a key stops signing and no standby is ready: let this published key sign all the same.
    #[arg(long, value_name = "KID", requires = "reason", value_parser = parse_kid)]
    force: Option<Kid>,
    /// Why; kept for good.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl CompromiseArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let kids: BTreeSet<Kid> = self.kids.into_iter().collect();
        let without_standby = match (self.force, &self.reason) {
            (Some(kid), Some(reason)) => WithoutStandby::Force { kid, reason: reason.clone() },
            _ => WithoutStandby::StopMinting,
        };
        let (assessment, ended) = block_on(async {
            let open = OpenSite::open(&settings).await?;
            let site = open.site();
            let doing = || refusal_or_fault("could not end the keys");
            let assessment = assess(&site, &kids, &without_standby).await.map_err(doing())?;
            // On stderr, so that whoever answers sees it and programs read one document.
            stakes(&assessment).iter().for_each(|line| warn(line));
            self.confirm.ask("End them now?")?;
            let ended = compromise(&site, &kids, without_standby, self.reason.as_deref()).await;
            Ok::<_, CliError>((assessment, ended.map_err(doing())?))
        })?;
        let next = next(&assessment, &ended);
        match global.format {
            Format::Json => print_json(&Document::new(&assessment, &ended, &next)),
            Format::Table => print(&format!("{}\n{next}", story(&ended))),
        }
    }
}

/// What is told before it is done.
fn stakes(assessment: &Assessment) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &assessment.endangered {
        let (key, live) = (&one.key, one.live);
        lines.push(match live.until {
            Some(until) => format!(
                "{} ({}, {}): {} live tokens of {} instances, the last until {}, will be refused.",
                key.kid,
                key.slot(),
                key.state,
                live.tokens,
                live.instances,
                moment(until)
            ),
            None => format!("{} ({}, {}): no live token.", key.kid, key.slot(), key.state),
        });
    }
    for succession in &assessment.successions {
        lines.push(match succession.successor {
            Some(kid) => format!("{kid} will sign for {} instead, from the next sync on.", succession.slot),
            None => format!("NOTHING will sign for {}: tokens are issued no more.", succession.slot),
        });
        lines.extend(succession.not_ready.iter().map(|why| format!("  not ready: {why}")));
    }
    for horizon in &assessment.horizons {
        lines.push(horizon_line(horizon));
    }
    if !assessment.can_deny {
        lines.push(
            "No deny list can be signed afterwards: backends learn of it with the next key set.".to_owned(),
        );
    }
    lines
}

fn horizon_line(horizon: &Horizon) -> String {
    let because = match horizon.because.is_empty() {
        true => String::new(),
        false => format!(" ({})", horizon.because.join("; ")),
    };
    format!(
        "{} refuses them after {} s at the worst{because}.",
        horizon.backend,
        horizon.of_key.num_seconds()
    )
}

fn story(ended: &Ended) -> String {
    let mut lines = Vec::new();
    if !ended.is_new {
        lines.push("They had ended before. Nothing was changed.".to_owned());
    }
    lines.extend(ended.keys.iter().map(|key| format!("{} is {} and denied.", key.kid, key.state)));
    lines.extend(ended.successors.iter().map(|(slot, kid)| format!("{kid} signs for {slot} from now on.")));
    lines.extend(ended.silenced.iter().map(|slot| format!("Nothing signs for {slot} any more.")));
    if ended.ended_connections > 0 {
        lines.push(format!("{} connections held mints up and were ended.", ended.ended_connections));
    }
    lines.push(format!("The deny list has serial {}.", ended.deny_list_serial));
    lines.join("\n")
}

fn next(assessment: &Assessment, ended: &Ended) -> String {
    let slow = assessment.horizons.iter().filter(|horizon| !horizon.because.is_empty());
    let slow: Vec<&str> = slow.map(|horizon| horizon.backend.as_str()).collect();
    let mut steps = Vec::new();
    if !ended.silenced.is_empty() {
        steps.push(
            "arm and activate a published key (`--override NAME… --reason …` past who has not proved it)"
                .to_owned(),
        );
    }
    if !slow.is_empty() {
        steps.push(format!("rebuild or stop what may not hear of it: {}", slow.join(", ")));
    }
    steps.push("generate and publish a new standby; the next key set leaves the ended keys out".to_owned());
    format!("Next: {}.", steps.join("; "))
}

#[derive(Serialize)]
struct Document<'a> {
    changed: bool,
    keys: Vec<KeyDocument>,
    successors: Vec<String>,
    /// Where nothing signs any more.
    silenced: Vec<String>,
    deny_list_serial: u64,
    ended_connections: i64,
    horizons: Vec<HorizonDocument<'a>>,
    next: &'a str,
}

#[derive(Serialize)]
struct KeyDocument {
    kid: String,
    state: &'static str,
    live_tokens: i64,
    live_instances: i64,
    live_until: Option<String>,
}

/// How long it takes until a backend refuses what was revoked.
#[derive(Serialize)]
pub(super) struct HorizonDocument<'a> {
    backend: &'a str,
    seconds: i64,
    because: &'a [String],
}

impl<'a> Document<'a> {
    fn new(assessment: &'a Assessment, ended: &Ended, next: &'a str) -> Self {
        let keys = assessment.endangered.iter().map(|one| KeyDocument {
            kid: one.key.kid.to_string(),
            state: ended
                .keys
                .iter()
                .find(|key| key.kid == one.key.kid)
                .map_or(one.key.state, |key| key.state)
                .as_str(),
            live_tokens: one.live.tokens,
            live_instances: one.live.instances,
            live_until: one.live.until.map(instant),
        });
        Self {
            changed: ended.is_new,
            keys: keys.collect(),
            successors: ended.successors.iter().map(|(_, kid)| kid.to_string()).collect(),
            silenced: ended.silenced.iter().map(ToString::to_string).collect(),
            deny_list_serial: ended.deny_list_serial,
            ended_connections: ended.ended_connections,
            horizons: assessment.horizons.iter().map(HorizonDocument::new).collect(),
            next,
        }
    }
}

impl<'a> HorizonDocument<'a> {
    pub(super) fn new(horizon: &'a Horizon) -> Self {
        Self { backend: &horizon.backend, seconds: whole_seconds(horizon.of_key), because: &horizon.because }
    }
}

/// Rounded up: a worst case never understates.
fn whole_seconds(span: TimeDelta) -> i64 {
    span.num_seconds() + i64::from(span.subsec_nanos() > 0)
}
