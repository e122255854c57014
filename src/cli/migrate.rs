//! `migrate`: brings the schema of the database to what this program expects.

use clap::Args;
use serde::Serialize;

use super::database::{check_usable, listed, open};
use super::output::{print, print_json};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::config::Settings;
use crate::storage::Schema;
use crate::storage::privileges::{self, RoleError};

/// Apply the migrations that the database lacks. Safe to run again, and from several machines at once.
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Change nothing; refuse with exit code 1 if migrations are missing, or if this program cannot run here.
    #[arg(long)]
    check: bool,

    /// Let this role do in the database what a running service needs, and nothing else. The role exists already, and
    /// is not the one that migrates. Name it at each migration.
    #[arg(long, value_name = "ROLE", conflicts_with = "check")]
    service_role: Option<String>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// Versions that were applied just now.
    applied: Vec<i64>,
    /// The role that a service may run as now.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_role: Option<String>,
}

impl MigrateArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let service_role = self.service_role.clone();
        let applied = block_on(self.migrate(&settings))?;
        match (global.format, applied.as_slice()) {
            (Format::Json, _) => return print_json(&Outcome { applied, service_role }),
            (Format::Table, []) => print("The schema is current.")?,
            (Format::Table, versions) => {
                print(&format!("Applied {}. The schema is current.", listed(versions)))?;
            }
        }
        match service_role {
            Some(role) => {
                print(&format!("A service may run as {role}, and can alter nothing that is remembered."))
            }
            None => Ok(()),
        }
    }

    async fn migrate(self, settings: &Settings) -> Result<Vec<i64>, CliError> {
        let database = open(settings).await?;
        let schema = database.schema().await.map_err(CliError::fault("could not read the schema"))?;
        let applied = match schema {
            Schema::Behind(versions) if !self.check => {
                database.migrate().await.map_err(CliError::fault("could not migrate the database"))?;
                versions
            }
            schema => check_usable(&schema).map(|()| Vec::new())?,
        };
        if let Some(role) = &self.service_role {
            let mut tx = database.begin().await.map_err(CliError::fault("could not reach the database"))?;
            privileges::grant_to_service(&mut tx, role).await.map_err(|error| match error {
                RoleError::Storage(error) => CliError::fault("could not give the role what it needs")(error),
                refused => CliError::refused(refused.to_string()),
            })?;
            tx.commit().await.map_err(CliError::fault("could not give the role what it needs"))?;
        }
        Ok(applied)
    }
}
