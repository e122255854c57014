//! `migrate`: brings the schema of the database to what this program expects.

use clap::Args;
use serde::Serialize;

use super::database::{check_usable, listed, open};
use super::output::{print, print_json};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::config::Settings;
use crate::storage::Schema;

/// Apply the migrations that the database lacks. Safe to run again, and from several machines at once.
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Change nothing; refuse with exit code 1 if migrations are missing, or if this program cannot run here.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// Versions that were applied just now.
    applied: Vec<i64>,
}

impl MigrateArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let applied = block_on(self.migrate(&settings))?;
        match (global.format, applied.as_slice()) {
            (Format::Json, _) => print_json(&Outcome { applied }),
            (Format::Table, []) => print("The schema is current."),
            (Format::Table, versions) => {
                print(&format!("Applied {}. The schema is current.", listed(versions)))
            }
        }
    }

    async fn migrate(self, settings: &Settings) -> Result<Vec<i64>, CliError> {
        let database = open(settings).await?;
        let schema = database.schema().await.map_err(CliError::fault("could not read the schema"))?;
        match schema {
            Schema::Behind(versions) if !self.check => {
                database.migrate().await.map_err(CliError::fault("could not migrate the database"))?;
                Ok(versions)
            }
            schema => check_usable(&schema).map(|()| Vec::new()),
        }
    }
}
