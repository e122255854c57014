//! `keys root`: the keys that sign key sets, and what they sign. All but `record` work offline, without settings.

mod draft;
mod record;
mod sign;

use std::fmt;
use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use token_authority_verifier::Kid;

use self::draft::{CreateArgs, NewKeyArgs, RotateArgs};
use self::record::RecordArgs;
use self::sign::{MergeArgs, ShowArgs, SignArgs};
use super::super::{CliError, GlobalArgs};
use crate::root_ceremony::{CeremonyError, Document, Standing};

/// Make the key-set root, sign with it, replace it. Where the root's keys are, no service is needed.
#[derive(Debug, Subcommand)]
pub(crate) enum RootArgs {
    Create(CreateArgs),
    Merge(MergeArgs),
    NewKey(NewKeyArgs),
    Record(RecordArgs),
    Rotate(RotateArgs),
    Show(ShowArgs),
    Sign(SignArgs),
}

impl RootArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::Create(args) => args.run(global.format),
            Self::Merge(args) => args.run(global.format),
            Self::NewKey(args) => args.run(global.format),
            Self::Record(args) => args.run(global),
            Self::Rotate(args) => args.run(global.format),
            Self::Show(args) => args.run(global.format),
            Self::Sign(args) => args.run(global.format),
        }
    }
}

fn refusal_or_fault(error: CeremonyError) -> CliError {
    if error.is_fault() {
        CliError::fault("nothing was signed or written")(error)
    } else {
        CliError::refused(error.to_string())
    }
}

/// What is told of a root or a manifest.
#[derive(Serialize)]
struct DocumentAnswer<'a> {
    file: String,
    kind: &'static str,
    issuer: &'a str,
    environment: &'a str,
    version: u32,
    digest: String,
    created: String,
    signatures: Vec<StandingAnswer>,
}

#[derive(Serialize)]
struct StandingAnswer {
    root_version: u32,
    threshold: u32,
    signed: Vec<Kid>,
    missing: Vec<Kid>,
    needed: usize,
}

impl<'a> DocumentAnswer<'a> {
    fn new(file: &Path, document: &'a Document, standings: &[Standing]) -> Self {
        Self {
            file: file.display().to_string(),
            kind: document.kind(),
            issuer: document.issuer(),
            environment: document.environment(),
            version: document.version(),
            digest: document.digest().to_string(),
            created: document.created().to_string(),
            signatures: standings
                .iter()
                .map(|standing| StandingAnswer {
                    root_version: standing.root_version,
                    threshold: standing.threshold,
                    signed: standing.signed.clone(),
                    missing: standing.missing.clone(),
                    needed: standing.needed(),
                })
                .collect(),
        }
    }
}

impl fmt::Display for DocumentAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} of `{}` ({}), made {}\n  digest {}",
            self.kind, self.version, self.environment, self.issuer, self.created, self.digest
        )?;
        for standing in &self.signatures {
            write!(
                f,
                "\n  root {}: {} of the {} needed signatures",
                standing.root_version,
                standing.signed.len(),
                standing.threshold
            )?;
            for kid in &standing.signed {
                write!(f, "\n    {kid} has signed")?;
            }
            if standing.needed > 0 {
                for kid in &standing.missing {
                    write!(f, "\n    {kid} has not")?;
                }
            }
        }
        Ok(())
    }
}

/// What comes next for a document.
fn next(document: &Document, standings: &[Standing]) -> String {
    let needed: usize = standings.iter().map(Standing::needed).max().unwrap_or(0);
    match (needed, document) {
        (0, Document::Manifest(_)) => {
            "Next: take it to the service, and give it to `keys publish --signed`.".to_owned()
        }
        (0, Document::Root(root)) if root.unverified().version == 1 => {
            "Next: take it to the service, and give it to `init --root`.".to_owned()
        }
        (0, Document::Root(_)) => {
            "Next: take it to the service, and give it to `keys root record`.".to_owned()
        }
        (needed, _) => format!("Next: {needed} more of the holders sign it, with `keys root sign`."),
    }
}
