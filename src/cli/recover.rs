//! `recover`: leaves safe mode, once the database has been told what it forgot.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use sqlx::PgConnection;

use super::confirm::ConfirmArgs;
use super::database::open_migrated;
use super::keystore::open_keystore;
use super::output::{print, print_json};
use super::rotation::{actor, anchors, refusal_or_fault};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::audit::{checkpoint, export};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::audit_chain::{AuditEvent, AuditLink};
use crate::keystore::kek_file;
use crate::rotation::anchors::Anchors;
use crate::rotation::recover::{Recovered, Recovery, recover};
use crate::rotation::{Site, lost_kek, manifests};

/// Leave safe mode: take key states and revocations from the exported audit, adopt the key sets that the root has
/// signed since, and let a standby sign.
///
/// A database that was restored from an old copy mints nothing until this has run. What else was changed after the copy
/// is counted and named: it has to be made again.
#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    /// The newest export of the audit, as `audit export` wrote it.
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Why there is no export. What was taken away is then known from the key sets and deny lists alone.
    #[arg(long, value_name = "REASON", conflicts_with = "audit")]
    without_audit: Option<String>,
    /// A signed deny list that somebody kept, as `GET /v1/deny-list` answered it.
    #[arg(long, value_name = "FILE")]
    deny_list: Option<PathBuf>,
    /// Why the key-encryption key is lost: makes what has to be sealed anew under the configured one. Every activation
    /// code, instance secret and admin token is void then. Does nothing else.
    #[arg(long, value_name = "REASON", conflicts_with_all = ["audit", "without_audit", "deny_list"])]
    lost_kek: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl RecoverArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        if let Some(reason) = &self.lost_kek {
            self.confirm.ask("Give up every credential that was ever handed out?")?;
            block_on(begin_anew(&settings, reason))?;
            return match global.format {
                Format::Json => print_json(&BegunAnew { credentials_void: true }),
                Format::Table => print(
                    "Every credential that was handed out is void.\nNext: `admin-token create`, a new deny-list key \
                     and new access keys (docs/runbooks.md), and new activation codes for the licenses.",
                ),
            };
        }
        if self.without_audit.is_some() {
            self.confirm.ask(
                "Go on without the audit? Revocations that only the audit tells of are forgotten for good.",
            )?;
        }
        let recovered = block_on(self.recover(&settings))?;
        match global.format {
            Format::Json => print_json(&Document::new(&recovered)),
            Format::Table => print(&story(&recovered)),
        }
    }

    async fn recover(&self, settings: &Settings) -> Result<Recovered, CliError> {
        let anchors = anchors(settings);
        let database = open_migrated(settings).await?;
        let keystore = open_keystore(settings, &database).await?;
        let clock = Clock::system();
        let mut connection = database.begin().await.map_err(CliError::fault(DOING))?;
        let audit = match &self.audit {
            Some(path) => Some(read_export(&mut connection, &anchors, path).await?),
            None => None,
        };
        drop(connection);
        let deny_list = self.deny_list.as_deref().map(|path| {
            std::fs::read_to_string(path)
                .map_err(CliError::fault(format!("could not read {}", path.display())))
        });
        let deny_list = deny_list.transpose()?;

        let kek = Arc::clone(keystore.key_encryption());
        let site = Site {
            database: &database,
            environment: settings.environment.as_str(),
            kek: &*kek,
            clock: &clock,
            actor: &actor(),
        };
        let given = Recovery {
            keys_dir: &settings.keys_dir,
            anchors: &anchors,
            audit: audit.as_ref().map(|(events, end)| (events.as_slice(), *end)),
            without_audit: self.without_audit.as_deref(),
            deny_list: deny_list.as_deref(),
        };
        let recovered = recover(&site, &given).await.map_err(refusal_or_fault(DOING))?;

        // From here on the anchors are those of the recovered database.
        if anchors.is_kept() {
            let mut tx = database.begin().await.map_err(CliError::fault(DOING))?;
            let signed = checkpoint::sign(&mut tx, &*kek, site.environment, clock.now()).await;
            let signed = signed.map_err(CliError::fault("could not sign a checkpoint of the audit"))?;
            anchors.keep(&mut tx, Some(&signed.jws)).await.map_err(refusal_or_fault(DOING))?;
        }
        Ok(recovered)
    }
}

/// The private halves of the keys are gone with the old key-encryption key; `keys generate` makes others.
async fn begin_anew(settings: &Settings, reason: &str) -> Result<(), CliError> {
    let kek = kek_file::read(settings.kek_file()?).map_err(CliError::fault("could not use `kek_file`"))?;
    let database = open_migrated(settings).await?;
    let clock = Clock::system();
    let site = Site {
        database: &database,
        environment: settings.environment.as_str(),
        kek: &kek,
        clock: &clock,
        actor: &actor(),
    };
    lost_kek::begin_anew(&site, reason).await.map_err(refusal_or_fault(DOING))
}

/// Every event of the export, once its checkpoint is believed by the key sets that the root has signed.
async fn read_export(
    connection: &mut PgConnection,
    anchors: &Anchors,
    path: &Path,
) -> Result<(Vec<AuditEvent>, AuditLink), CliError> {
    let file = File::open(path).map_err(CliError::fault(format!("could not read {}", path.display())))?;
    let refused = |error: export::ExportError| CliError::refused(format!("{}: {error}", path.display()));
    let mut events = Vec::new();
    let read = export::read(BufReader::new(file), |event| events.push(event)).map_err(refused)?;
    let known = anchors.manifests(connection).await.map_err(refusal_or_fault(DOING))?;
    read.prove(|jws| manifests::verify_checkpoint(&known, jws)).map_err(refused)?;
    Ok((events, read.end()))
}

fn story(recovered: &Recovered) -> String {
    let mut lines = vec![
        format!("Out of safe mode. The database had been an old copy: {}.", recovered.reason),
        format!("  key set        {} is the newest{}", recovered.head, adopted(&recovered.adopted)),
        format!("  audit          {} events taken over", recovered.audit_events),
    ];
    lines.extend(recovered.keys.iter().map(|(kid, state)| format!("  {kid} is {state}")));
    lines.extend(
        recovered.taken_away.iter().map(|(action, count)| format!("  done again     {count} × {action}")),
    );
    for (slot, active) in &recovered.active {
        lines.push(match active {
            Some(kid) => format!("  {slot} is signed by {kid}"),
            None => format!("  {slot} is signed by nothing: generate, publish and arm a key"),
        });
    }
    lines.extend(recovered.written.iter().map(|path| format!("  wrote {}", path.display())));
    if recovered.lost.is_empty() {
        lines.push("Nothing else was changed after the copy, as far as the audit tells.".to_owned());
    } else {
        lines.push("To be made again, for it is in the audit alone:".to_owned());
        lines.extend(recovered.lost.iter().map(|(action, count)| format!("  {count} × {action}")));
    }
    lines.push("Next: `keys status`, and a new standby; then take a backup.".to_owned());
    lines.join("\n")
}

fn adopted(versions: &[u32]) -> String {
    match versions {
        [] => String::new(),
        versions => {
            let versions: Vec<_> = versions.iter().map(ToString::to_string).collect();
            format!("; adopted {}", versions.join(", "))
        }
    }
}

const DOING: &str = "could not recover";

#[derive(Serialize)]
struct BegunAnew {
    credentials_void: bool,
}

#[derive(Serialize)]
struct Document {
    recovered: bool,
    reason: String,
    head: u32,
    adopted: Vec<u32>,
    audit_events: usize,
    keys: Vec<KeyDocument>,
    done_again: std::collections::BTreeMap<String, u64>,
    to_be_made_again: std::collections::BTreeMap<String, u64>,
    active: Vec<ActiveDocument>,
    written: Vec<String>,
}

#[derive(Serialize)]
struct KeyDocument {
    kid: String,
    state: &'static str,
}

#[derive(Serialize)]
struct ActiveDocument {
    purpose: &'static str,
    alg: &'static str,
    kid: Option<String>,
}

impl Document {
    fn new(recovered: &Recovered) -> Self {
        Self {
            recovered: true,
            reason: recovered.reason.clone(),
            head: recovered.head,
            adopted: recovered.adopted.clone(),
            audit_events: recovered.audit_events,
            keys: recovered
                .keys
                .iter()
                .map(|(kid, state)| KeyDocument { kid: kid.to_string(), state: state.as_str() })
                .collect(),
            done_again: recovered.taken_away.clone(),
            to_be_made_again: recovered.lost.clone(),
            active: recovered
                .active
                .iter()
                .map(|(slot, kid)| ActiveDocument {
                    purpose: slot.purpose.name(),
                    alg: slot.alg.as_str(),
                    kid: kid.map(|kid| kid.to_string()),
                })
                .collect(),
            written: recovered.written.iter().map(|path| path.display().to_string()).collect(),
        }
    }
}
