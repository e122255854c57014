//! `keys plan`: what lies ahead of each key, when it is safe, and who blocks it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::READING;
use super::words::{day, instant, moment};
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::rotation::plan::{PlannedStep, plan};

pub(super) fn run(global: &GlobalArgs) -> Result<(), CliError> {
    let settings = global.settings()?;
    let clock = Clock::system();
    let steps = block_on(async {
        let database = open_migrated(&settings).await?;
        let mut connection = database.begin().await.map_err(CliError::fault(READING))?;
        let steps = plan(&mut connection, settings.environment.as_str(), &clock).await;
        steps.map_err(refusal_or_fault(READING))
    })?;
    match global.format {
        Format::Json => print_json(&Document { steps: steps.iter().map(StepDocument::new).collect() }),
        Format::Table if steps.is_empty() => print("Nothing lies ahead: each key signs, or stands by ready."),
        Format::Table => {
            let now = clock.now();
            print_table(
                &["purpose", "alg", "key", "state", "next", "earliest", "latest", "blocked by"],
                steps.iter().map(|step| row(step, now)),
            )
        }
    }
}

fn row(step: &PlannedStep, now: DateTime<Utc>) -> [String; 8] {
    [
        step.slot.purpose.to_string(),
        step.slot.alg.to_string(),
        step.kid.map_or_else(|| "(a new one)".to_owned(), |kid| kid.to_string()),
        step.state.map_or_else(String::new, |state| state.to_string()),
        step.step.verb().to_owned(),
        match step.earliest {
            Some(at) if at <= now => "now".to_owned(),
            Some(at) => moment(at),
            None => "when they have".to_owned(),
        },
        step.latest.map_or_else(String::new, day),
        // Who does not block is told as well: it may still serve.
        step.blockers
            .iter()
            .cloned()
            .chain(step.silent.iter().map(|one| format!("not by {one}")))
            .collect::<Vec<_>>()
            .join("\n"),
    ]
}

#[derive(Serialize)]
struct Document<'a> {
    steps: Vec<StepDocument<'a>>,
}

#[derive(Serialize)]
struct StepDocument<'a> {
    purpose: &'static str,
    alg: &'static str,
    kid: Option<String>,
    state: Option<&'static str>,
    step: &'static str,
    /// If nobody who blocks it does anything; null where it waits for someone.
    earliest: Option<String>,
    latest: Option<String>,
    blockers: &'a [String],
    /// Without proof, and taken to be gone: not heard of for an hour.
    silent: &'a [String],
    command: &'a str,
}

impl<'a> StepDocument<'a> {
    fn new(step: &'a PlannedStep) -> Self {
        Self {
            purpose: step.slot.purpose.name(),
            alg: step.slot.alg.as_str(),
            kid: step.kid.map(|kid| kid.to_string()),
            state: step.state.map(|state| state.as_str()),
            step: step.step.verb(),
            earliest: step.earliest.map(instant),
            latest: step.latest.map(instant),
            blockers: &step.blockers,
            silent: &step.silent,
            command: &step.command,
        }
    }
}
