//! `keys generate`: a new key that nobody else knows yet.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use serde::Serialize;
use token_authority_verifier::Purpose;

use super::site::OpenSite;
use super::words::{day, instant};
use crate::cli::output::{print, print_json};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::key_ring::Algorithm;
use crate::rotation::generate::{Generated, Wanted, generate};

/// Make a key and seal its private half. It signs nothing until it was published, armed and activated.
#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    /// What it signs with: EdDSA, or RS256 for verifiers that know nothing else.
    #[arg(long, default_value_t = Algorithm::EdDsa)]
    alg: Algorithm,
    /// What it signs: `access_tokens`, `deny_list` or `audit_checkpoints`.
    #[arg(long, default_value_t = Purpose::AccessTokens)]
    purpose: Purpose,
    /// Its hard end, a date (its start, in UTC) or an instant; 400 days from now by default, which is the most.
    #[arg(long, value_name = "TIME", value_parser = parse_end)]
    not_after: Option<DateTime<Utc>>,
}

impl GenerateArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let made = block_on(async {
            let open = OpenSite::open(&settings).await?;
            let Self { alg, purpose, not_after } = self;
            let made = generate(&open.site(), Wanted { purpose, alg, not_after }).await;
            made.map_err(refusal_or_fault("could not make the key"))
        })?;
        let next = format!("token-authority keys publish {}", made.kid);
        match global.format {
            Format::Json => print_json(&Document::new(&made, &next)),
            Format::Table => print(&format!(
                "Made {} for {} ({}). It ends on {}.\nNext: `{next}`.",
                made.kid,
                made.purpose,
                made.alg,
                day(made.not_after)
            )),
        }
    }
}

/// A date, or an instant as in RFC 3339.
fn parse_end(text: &str) -> Result<DateTime<Utc>, String> {
    let date = text.parse::<NaiveDate>().map(|date| date.and_time(NaiveTime::MIN).and_utc());
    date.or_else(|_| DateTime::parse_from_rfc3339(text).map(|at| at.to_utc())).map_err(|_| {
        "must be a date such as 2027-06-30, or an instant such as 2027-06-30T12:00:00Z".to_owned()
    })
}

#[derive(Serialize)]
struct Document<'a> {
    kid: String,
    purpose: &'static str,
    alg: &'static str,
    state: &'static str,
    not_after: String,
    next: &'a str,
}

impl<'a> Document<'a> {
    fn new(made: &Generated, next: &'a str) -> Self {
        Self {
            kid: made.kid.to_string(),
            purpose: made.purpose.name(),
            alg: made.alg.as_str(),
            state: "generated",
            not_after: instant(made.not_after),
            next,
        }
    }
}
