//! `keys arm`, `keys activate`, `keys abandon`: the steps of a key between its key set and its end.

use clap::Args;
use serde::Serialize;
use token_authority_verifier::Kid;

use super::kid_argument::parse_kid;
use super::site::OpenSite;
use super::words::instant;
use crate::cli::confirm::ConfirmArgs;
use crate::cli::output::{print, print_json, warn};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::key_ring::Waiver;
use crate::rotation::lifecycle::{self, Abandoned, Activated, Armed};

/// Count evidence for a key from now on, and let no process start without it.
///
/// Do it when every backend was deployed with the key: whatever was proved before counts for nothing, since it may have
/// been rolled back.
#[derive(Args, Debug)]
pub(crate) struct ArmArgs {
    /// A published key.
    #[arg(value_name = "KID", value_parser = parse_kid)]
    kid: Kid,
}

/// Let a key sign instead of the one that does, on proof that every running backend verifies it.
///
/// The private half of the key that signed before is destroyed. Going back means activating another published key.
#[derive(Args, Debug)]
pub(crate) struct ActivateArgs {
    /// An armed key.
    #[arg(value_name = "KID", value_parser = parse_kid)]
    kid: Kid,
    /// A backend, or `backend/process`, that is passed over although it blocks. All who block must be named.
    #[arg(long = "override", value_name = "NAME", num_args = 1.., requires = "reason")]
    overrides: Vec<String>,
    /// Why they are passed over; kept for good.
    #[arg(long, value_name = "TEXT", requires = "overrides")]
    reason: Option<String>,
}

/// Give a key up that never signed.
#[derive(Args, Debug)]
pub(crate) struct AbandonArgs {
    /// A generated or published key.
    #[arg(value_name = "KID", value_parser = parse_kid)]
    kid: Kid,
    /// Why; kept for good.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl ArmArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let armed = block_on(async {
            let open = OpenSite::open(&settings).await?;
            let armed = lifecycle::arm(&open.site(), self.kid).await;
            armed.map_err(refusal_or_fault("could not arm the key"))
        })?;
        let kid = self.kid;
        let next = match armed.blockers.is_empty() {
            true => format!("Next: `token-authority keys activate {kid}`."),
            false => format!(
                "Next: each process proves it with its second beat from now on; then `token-authority keys activate {kid}`."
            ),
        };
        match global.format {
            Format::Json => print_json(&ArmDocument::new(&armed, &next)),
            Format::Table => print(&format!(
                "{} {kid}. Key set {} is now the lowest that may be deployed.{}\n{next}",
                if armed.is_new { "Armed" } else { "Armed before:" },
                armed.floor,
                waiting(&armed.blockers),
            )),
        }
    }
}

impl ActivateArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let waiver = self.reason.map(|reason| Waiver { names: self.overrides.into_iter().collect(), reason });
        let activated = block_on(async {
            let open = OpenSite::open(&settings).await?;
            let site = open.site();
            let doing = || refusal_or_fault("could not activate the key");
            let head = lifecycle::head(&site).await.map_err(doing())?;
            lifecycle::activate(&site, self.kid, head, waiver).await.map_err(doing())
        })?;
        if activated.is_new && !activated.has_ready_standby {
            warn(&format!(
                "warning: no standby for {} is ready: a lost key would stop it. Generate, publish and arm another.",
                activated.key.slot()
            ));
        }
        if !activated.silent.is_empty() {
            warn(&format!(
                "warning: not heard of for an hour, and without proof of this key: {}. One that still serves refuses its \
                 tokens until it is deployed anew.",
                activated.silent.join("; ")
            ));
        }
        let next = match activated.demoted {
            Some(demoted) => format!(
                "Next: when its last token has expired (`token-authority keys plan` says when), `token-authority keys \
                 retire {demoted}`; generate and publish a new standby."
            ),
            None => "Next: nothing; `token-authority keys plan` says what lies ahead.".to_owned(),
        };
        match global.format {
            Format::Json => print_json(&ActivateDocument::new(&activated, &next)),
            Format::Table => print(&format!("{}\n{next}", story(&activated))),
        }
    }
}

impl AbandonArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        self.confirm.ask(&format!("Give {} up for good? Its private half is destroyed.", self.kid))?;
        let abandoned = block_on(async {
            let open = OpenSite::open(&settings).await?;
            let abandoned = lifecycle::abandon(&open.site(), self.kid, self.reason.as_deref()).await;
            abandoned.map_err(refusal_or_fault("could not abandon the key"))
        })?;
        let next = match abandoned.has_standby {
            true => "Next: nothing; the next key set leaves it out.".to_owned(),
            false => {
                let slot = abandoned.key.slot();
                format!(
                    "Next: `token-authority keys generate --purpose {} --alg {}`: {slot} has no standby.",
                    slot.purpose, slot.alg
                )
            }
        };
        match global.format {
            Format::Json => print_json(&AbandonDocument::new(&abandoned, &next)),
            Format::Table => print(&format!(
                "{} {}. Its private half is gone{}.\n{next}",
                if abandoned.is_new { "Gave up" } else { "Given up before:" },
                abandoned.key.kid,
                if abandoned.key.denial.is_some() { ", and the deny list names it" } else { "" },
            )),
        }
    }
}

fn story(activated: &Activated) -> String {
    let key = &activated.key;
    if !activated.is_new {
        return format!("{} signs for {} already. Nothing was changed.", key.kid, key.slot());
    }
    let mut lines = vec![format!("{} signs for {} from now on.", key.kid, key.slot())];
    if let Some(demoted) = activated.demoted {
        lines.push(format!(
            "{demoted} is retiring: its private half is gone, and the deny list (serial {}) refuses whatever it might sign.",
            activated.deny_list_serial
        ));
    }
    if !activated.passed_over.is_empty() {
        lines.push(format!("Passed over: {}.", activated.passed_over.join("; ")));
    }
    lines.join("\n")
}

fn waiting(blockers: &[String]) -> String {
    if blockers.is_empty() { String::new() } else { format!("\nWaits for: {}.", blockers.join("; ")) }
}

#[derive(Serialize)]
struct ArmDocument<'a> {
    kid: String,
    state: &'static str,
    changed: bool,
    armed_at: Option<String>,
    floor: u32,
    blockers: &'a [String],
    next: &'a str,
}

#[derive(Serialize)]
struct ActivateDocument<'a> {
    kid: String,
    state: &'static str,
    changed: bool,
    activated_at: Option<String>,
    demoted: Option<String>,
    passed_over: &'a [String],
    silent: &'a [String],
    standby_ready: bool,
    deny_list_serial: u64,
    next: &'a str,
}

#[derive(Serialize)]
struct AbandonDocument<'a> {
    kid: String,
    state: &'static str,
    changed: bool,
    denied: bool,
    next: &'a str,
}

impl<'a> ArmDocument<'a> {
    fn new(armed: &'a Armed, next: &'a str) -> Self {
        Self {
            kid: armed.key.kid.to_string(),
            state: armed.key.state.as_str(),
            changed: armed.is_new,
            armed_at: armed.key.armed_at.map(instant),
            floor: armed.floor,
            blockers: &armed.blockers,
            next,
        }
    }
}

impl<'a> ActivateDocument<'a> {
    fn new(activated: &'a Activated, next: &'a str) -> Self {
        Self {
            kid: activated.key.kid.to_string(),
            state: activated.key.state.as_str(),
            changed: activated.is_new,
            activated_at: activated.key.activated_at.map(instant),
            demoted: activated.demoted.map(|kid| kid.to_string()),
            passed_over: &activated.passed_over,
            silent: &activated.silent,
            standby_ready: activated.has_ready_standby,
            deny_list_serial: activated.deny_list_serial,
            next,
        }
    }
}

impl<'a> AbandonDocument<'a> {
    fn new(abandoned: &Abandoned, next: &'a str) -> Self {
        Self {
            kid: abandoned.key.kid.to_string(),
            state: abandoned.key.state.as_str(),
            changed: abandoned.is_new,
            denied: abandoned.key.denial.is_some(),
            next,
        }
    }
}
