//! `keys list`: every key that ever was.

use serde::Serialize;
use token_authority_verifier::Jwk;

use super::READING;
use super::words::{day, instant};
use crate::cli::database::open_migrated;
use crate::cli::output::{print_json, print_table};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::key_ring::Denial;
use crate::rotation::overview;
use crate::storage::signing_keys::ListedKey;

pub(super) fn run(global: &GlobalArgs) -> Result<(), CliError> {
    let settings = global.settings()?;
    let keys = block_on(async {
        let database = open_migrated(&settings).await?;
        let mut connection = database.begin().await.map_err(CliError::fault(READING))?;
        let keys = overview::list_keys(&mut connection, settings.environment.as_str()).await;
        keys.map_err(refusal_or_fault(READING))
    })?;
    match global.format {
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
