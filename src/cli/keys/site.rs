//! What every command that changes keys opens first.

use crate::cli::CliError;
use crate::cli::database::open_migrated;
use crate::cli::rotation::actor;
use crate::clock::Clock;
use crate::config::Settings;
use crate::keystore::kek_file;
use crate::keystore::sealing::LocalKek;
use crate::rotation::Site;
use crate::storage::Database;

/// The deployment that the settings name, open for changes.
pub(super) struct OpenSite<'s> {
    pub(super) settings: &'s Settings,
    pub(super) database: Database,
    kek: LocalKek,
    clock: Clock,
    actor: String,
}

impl<'s> OpenSite<'s> {
    /// Refuses when `kek_file` is not set or holds no key, and where the database is not migrated.
    pub(super) async fn open(settings: &'s Settings) -> Result<Self, CliError> {
        // The file first: a setting that is missing is told without a database.
        let kek =
            kek_file::read(settings.kek_file()?).map_err(CliError::fault("could not use `kek_file`"))?;
        let database = open_migrated(settings).await?;
        Ok(Self { settings, database, kek, clock: Clock::system(), actor: actor() })
    }

    pub(super) fn site(&self) -> Site<'_> {
        Site {
            database: &self.database,
            environment: self.settings.environment.as_str(),
            kek: &self.kek,
            clock: &self.clock,
            actor: &self.actor,
        }
    }
}
