//! `audit`: proves that nothing was altered, and takes the audit to where the database cannot reach.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use token_authority_verifier::{AuditCheckpoint, Verified};

use super::database::open_migrated;
use super::keystore::open_keystore;
use super::output::{print, print_json};
use super::rotation::refusal_or_fault;
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::audit::checkpoint::{self, CheckpointError, SignedCheckpoint};
use crate::audit::export::{self, ExportError};
use crate::audit::verification::{self, Verification};
use crate::clock::Clock;
use crate::config::Settings;
use crate::rotation::manifests;

/// Verify, sign and export the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditArgs {
    /// Sign how far the audit goes, and print the checkpoint: keep it where the database cannot reach.
    Checkpoint,
    /// Write every event, one line of JSON each, and last a checkpoint that proves them.
    Export(ExportArgs),
    /// Find any event that was altered, removed or slipped in. Exits with 1 when there is one.
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The file to write, which must not be there yet. Without it, the standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// A checkpoint that was kept elsewhere: as `audit checkpoint` printed it, or an export. It shows as well whether
    /// the last events are missing, and whether everything was chained anew.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

impl AuditArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        match self {
            Self::Checkpoint => {
                let signed = block_on(sign(&settings))?;
                match global.format {
                    Format::Json => print_json(&CheckpointDocument::new(&signed)),
                    Format::Table => print(&signed.jws),
                }
            }
            Self::Export(args) => block_on(args.run(&settings)),
            Self::Verify(args) => block_on(args.run(&settings, global.format)),
        }
    }
}

/// A checkpoint, in words and signed.
#[derive(Serialize)]
struct CheckpointDocument<'a> {
    sequence: u64,
    digest: String,
    created: String,
    /// A compact JWS (RFC 7515 §7.1).
    checkpoint: &'a str,
}

impl<'a> CheckpointDocument<'a> {
    fn new(signed: &'a SignedCheckpoint) -> Self {
        Self {
            sequence: signed.checkpoint.sequence,
            digest: signed.checkpoint.digest.to_string(),
            created: signed.checkpoint.created.to_string(),
            checkpoint: &signed.jws,
        }
    }
}

async fn sign(settings: &Settings) -> Result<SignedCheckpoint, CliError> {
    let database = open_migrated(settings).await?;
    let keystore = open_keystore(settings, &database).await?;
    let mut tx = database.begin().await.map_err(CliError::fault(READING))?;
    let environment = settings.environment.as_str();
    let signed =
        checkpoint::sign(&mut tx, &**keystore.key_encryption(), environment, Clock::system().now()).await;
    signed.map_err(refused_checkpoint)
}

impl ExportArgs {
    async fn run(self, settings: &Settings) -> Result<(), CliError> {
        let database = open_migrated(settings).await?;
        let keystore = open_keystore(settings, &database).await?;
        let kek = &**keystore.key_encryption();
        let environment = settings.environment.as_str();
        let now = Clock::system().now();
        let mut tx = database.begin_snapshot().await.map_err(CliError::fault(READING))?;
        match self.output {
            None => {
                let to = BufWriter::new(std::io::stdout().lock());
                export::write(&mut tx, kek, environment, now, to).await.map_err(refused_export)?;
                Ok(())
            }
            Some(path) => {
                let doing = format!("could not write {}", path.display());
                let file = File::create_new(&path).map_err(CliError::fault(doing.clone()))?;
                let written = export::write(&mut tx, kek, environment, now, BufWriter::new(&file)).await;
                let synced = written
                    .map_err(refused_export)
                    .and_then(|signed| file.sync_all().map(|()| signed).map_err(CliError::fault(doing)));
                match synced {
                    Ok(signed) => print(&format!(
                        "Wrote {}: {} events and a checkpoint on them. Keep it where the database cannot reach.",
                        path.display(),
                        signed.checkpoint.sequence
                    )),
                    Err(error) => {
                        // Half an export proves nothing, and would be in the way of the next try.
                        let _ = fs::remove_file(&path);
                        Err(error)
                    }
                }
            }
        }
    }
}

/// What was found, for programs.
#[derive(Serialize)]
struct VerificationDocument {
    valid: bool,
    events: u64,
    end: u64,
    digest: String,
    /// The event for which the checkpoint was signed.
    checkpoint: Option<u64>,
    findings: Vec<String>,
}

impl VerifyArgs {
    async fn run(self, settings: &Settings, format: Format) -> Result<(), CliError> {
        let presented = self.checkpoint.as_deref().map(|path| {
            fs::read_to_string(path).map_err(CliError::fault(format!("could not read {}", path.display())))
        });
        let presented = presented.transpose()?;
        let database = open_migrated(settings).await?;
        let mut tx = database.begin_snapshot().await.map_err(CliError::fault(READING))?;
        let signed = match presented {
            Some(text) => Some(prove(&mut tx, settings, &text).await?),
            None => None,
        };
        let found = verification::verify(&mut tx, signed.as_ref()).await.map_err(CliError::fault(READING))?;
        tell(&found, signed.map(|signed| signed.sequence), format)
    }
}

/// Believes a checkpoint by the recorded key sets, which the roots signed.
async fn prove(
    connection: &mut sqlx::PgConnection,
    settings: &Settings,
    text: &str,
) -> Result<Verified<AuditCheckpoint>, CliError> {
    let jws = find_checkpoint(text);
    let manifests = manifests::list(connection, settings.environment.as_str()).await;
    let manifests = manifests.map_err(refusal_or_fault("could not read the key sets"))?;
    manifests::verify_checkpoint(&manifests, &jws)
        .map_err(|error| CliError::refused(format!("the checkpoint is refused: {error}")))
}

/// In a file that holds it alone, as JSON with a member `checkpoint`, or as the last line of an export.
fn find_checkpoint(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Holding {
        checkpoint: String,
    }
    let last = text.trim_end().lines().last().unwrap_or_default();
    let holding = serde_json::from_str::<Holding>(text).or_else(|_| serde_json::from_str(last));
    holding.map_or_else(|_| text.trim().to_owned(), |Holding { checkpoint }| checkpoint)
}

fn tell(found: &Verification, checkpoint: Option<u64>, format: Format) -> Result<(), CliError> {
    let findings: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
    let valid = findings.is_empty();
    match format {
        Format::Json => print_json(&VerificationDocument {
            valid,
            events: found.events,
            end: found.end.sequence,
            digest: found.end.digest.to_string(),
            checkpoint,
            findings: findings.clone(),
        })?,
        Format::Table if valid => {
            let upon = match checkpoint {
                Some(sequence) => {
                    format!("and event {sequence} is the one that the checkpoint was signed for")
                }
                None => "but without a checkpoint the last events may be missing".to_owned(),
            };
            print(&format!(
                "{} events are as they were recorded, {upon}.\nThe last one is {} ({}).",
                found.events, found.end.sequence, found.end.digest
            ))?;
        }
        Format::Table => {}
    }
    if valid { Ok(()) } else { Err(CliError::refused(findings.join("\n"))) }
}

fn refused_checkpoint(error: CheckpointError) -> CliError {
    match error {
        CheckpointError::NoKey { .. } => CliError::refused(error.to_string()),
        error => CliError::fault("could not sign the checkpoint")(error),
    }
}

fn refused_export(error: ExportError) -> CliError {
    match error {
        ExportError::Checkpoint(error) => refused_checkpoint(error),
        error => CliError::fault("could not export the audit")(error),
    }
}

const READING: &str = "could not read the audit";
