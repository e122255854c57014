//! `init`: the first keys of a deployment and its first key set.

use clap::Args;
use serde::Serialize;

use super::database::open_migrated;
use super::output::{print, print_json};
use super::rotation::refusal_or_fault;
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::config::Settings;
use crate::keystore::kek_file;
use crate::rotation::init::{Birth, Born, init};

/// Make the first signing keys and publish key set 1. Safe to run again: it finishes what is missing.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {}

impl InitArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let born = block_on(make(&settings))?;
        match global.format {
            Format::Json => print_json(&Document::new(&settings, &born)?),
            Format::Table => print(&story(&settings, &born)),
        }
    }
}

async fn make(settings: &Settings) -> Result<Born, CliError> {
    let issuer = settings.issuer()?;
    let kek = kek_file::read(settings.kek_file()?).map_err(CliError::fault("could not use `kek_file`"))?;
    let database = open_migrated(settings).await?;
    let birth = Birth {
        environment: settings.environment.as_str(),
        issuer: issuer.as_str(),
        keys_dir: &settings.keys_dir,
        kek: &kek,
        root_key_file: settings.root_key_file.as_deref(),
        token_algs: &settings.token_algs,
        is_development: settings.environment.is_development(),
        actor: &super::rotation::actor(),
    };
    init(&database, &birth, &Clock::system()).await.map_err(refusal_or_fault("could not make the keys"))
}

fn story(settings: &Settings, born: &Born) -> String {
    let environment = settings.environment.as_str();
    let mut lines = vec![match born.made {
        true => format!(
            "Made the keys of `{environment}`: for each purpose one that signs and a standby. Key set {} carries \
             them.",
            born.key_set_version
        ),
        false => format!(
            "`{environment}` has its keys already; key set {} is the newest. Nothing was changed.",
            born.key_set_version
        ),
    }];
    lines.extend(born.written.iter().map(|path| format!("  wrote {}", path.display())));
    lines.push(format!("The root is {}", born.root_digest));
    lines.push(format!(
        "Next: commit {}, and let backends embed it, trusting that root.",
        settings.keys_dir.join(environment).display()
    ));
    lines.join("\n")
}

#[derive(Serialize)]
struct Document<'a> {
    environment: &'a str,
    issuer: &'a str,
    made: bool,
    root_digest: String,
    key_set: KeySetDocument,
    written: Vec<String>,
}

#[derive(Serialize)]
struct KeySetDocument {
    version: u32,
    digest: String,
}

impl<'a> Document<'a> {
    fn new(settings: &'a Settings, born: &Born) -> Result<Self, CliError> {
        Ok(Self {
            environment: settings.environment.as_str(),
            issuer: settings.issuer()?.as_str(),
            made: born.made,
            root_digest: born.root_digest.to_string(),
            key_set: KeySetDocument {
                version: born.key_set_version,
                digest: born.key_set_digest.to_string(),
            },
            written: born.written.iter().map(|path| path.display().to_string()).collect(),
        })
    }
}
