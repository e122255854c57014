//! What every command that changes keys opens first.

use crate::cli::CliError;
use crate::cli::database::open_migrated;
use crate::cli::rotation::{actor, anchors, refusal_or_fault};
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
        let clock = Clock::system();
        // An old copy of the database must not change keys; the change itself asks whether it is in safe mode.
        anchors(settings)
            .check(&database, &kek, &clock)
            .await
            .map_err(refusal_or_fault("could not compare the database with what was signed"))?;
        Ok(Self { settings, database, kek, clock, actor: actor() })
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
