//! `init`: the first keys of a deployment and its first key set.

use std::path::PathBuf;

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
use crate::keystore::sealing::LocalKek;
use crate::rotation::init::{Birth, Born, Prepared, init, prepare};
use crate::storage::Database;

/// Make the first signing keys and publish key set 1. Safe to run again: it finishes what is missing.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The first root, as its holders have signed it: makes the keys and drafts key set 1 for the holders to sign.
    /// Give that back with `keys publish --signed`, and run `init` once more.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

impl InitArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        if let Some(root) = &self.root {
            let root =
                std::fs::read(root).map_err(CliError::fault(format!("could not read {}", root.display())))?;
            let prepared = block_on(draft(&settings, &root))?;
            return match global.format {
                Format::Json => print_json(&PreparedDocument::new(&prepared)),
                Format::Table => print(&format!(
                    "Made the first keys under the root {}, and drafted key set 1: {}\nNext: {} of the {} holders sign \
                     it with `keys root sign`; then `keys publish --signed {}`, and `init` once more.",
                    prepared.root_digest,
                    prepared.draft.display(),
                    prepared.threshold,
                    prepared.holders,
                    prepared.draft.display()
                )),
            };
        }
        let born = block_on(make(&settings))?;
        match global.format {
            Format::Json => print_json(&Document::new(&settings, &born)?),
            Format::Table => print(&story(&settings, &born)),
        }
    }
}

async fn make(settings: &Settings) -> Result<Born, CliError> {
    let (kek, database) = open(settings).await?;
    let actor = super::rotation::actor();
    let birth = birth(settings, &kek, &actor)?;
    init(&database, &birth, &Clock::system()).await.map_err(refusal_or_fault(MAKING))
}

async fn draft(settings: &Settings, root: &[u8]) -> Result<Prepared, CliError> {
    let (kek, database) = open(settings).await?;
    let actor = super::rotation::actor();
    let birth = birth(settings, &kek, &actor)?;
    prepare(&database, &birth, root, &Clock::system()).await.map_err(refusal_or_fault(MAKING))
}

async fn open(settings: &Settings) -> Result<(LocalKek, Database), CliError> {
    settings.issuer()?;
    let kek = kek_file::read(settings.kek_file()?).map_err(CliError::fault("could not use `kek_file`"))?;
    Ok((kek, open_migrated(settings).await?))
}

fn birth<'a>(settings: &'a Settings, kek: &'a LocalKek, actor: &'a str) -> Result<Birth<'a>, CliError> {
    Ok(Birth {
        environment: settings.environment.as_str(),
        issuer: settings.issuer()?.as_str(),
        keys_dir: &settings.keys_dir,
        kek,
        root_key_file: settings.root_key_file.as_deref(),
        token_algs: &settings.token_algs,
        is_development: settings.environment.is_development(),
        actor,
    })
}

const MAKING: &str = "could not make the keys";

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
struct PreparedDocument {
    root_digest: String,
    threshold: u32,
    holders: usize,
    draft: String,
}

impl PreparedDocument {
    fn new(prepared: &Prepared) -> Self {
        Self {
            root_digest: prepared.root_digest.to_string(),
            threshold: prepared.threshold,
            holders: prepared.holders,
            draft: prepared.draft.display().to_string(),
        }
    }
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
