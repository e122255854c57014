//! The support bundle: one JSON file with everything that was looked at, and no secret.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::finding::Finding;
use super::{CliError, Examined};
use crate::config::FIELDS;
use crate::keystore::write_once;

#[derive(Serialize)]
pub(super) struct Bundle<'a> {
    program: &'static str,
    version: &'static str,
    findings: &'a [Finding],
    /// As `config show` prints them: secrets are redacted by their type.
    settings: Option<BTreeMap<&'static str, Option<String>>>,
    server: Option<Server<'a>>,
}

/// The database server, in its own words.
#[derive(Serialize)]
struct Server<'a> {
    version: &'a str,
    fsync: &'a str,
    full_page_writes: &'a str,
    synchronous_commit: &'a str,
    connections: i64,
    database_bytes: i64,
    partitions_ahead: i64,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(examined: &'a Examined) -> Self {
        let settings = examined.settings.as_ref();
        Self {
            program: "token-authority",
            version: env!("CARGO_PKG_VERSION"),
            findings: &examined.findings,
            settings: settings
                .map(|settings| FIELDS.iter().map(|field| field.name).zip(settings.effective()).collect()),
            server: examined.server.as_ref().map(|state| Server {
                version: &state.version_name,
                fsync: &state.fsync,
                full_page_writes: &state.full_page_writes,
                synchronous_commit: &state.synchronous_commit,
                connections: state.connections,
                database_bytes: state.database_bytes,
                partitions_ahead: state.partitions_ahead,
            }),
        }
    }

    /// Writes it to a file that is not there yet: what somebody keeps is never replaced.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let doing = || format!("could not write {}", path.display());
        let mut text = serde_json::to_vec_pretty(self).map_err(CliError::fault(doing()))?;
        text.push(b'\n');
        write_once(path, &text, 0o600).map_err(CliError::fault(doing()))
    }
}
