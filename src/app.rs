//! What every handler shares: clock, database, catalog, keystore, limits.

mod anchors;
mod background;
mod catalog;
mod deliveries;
mod failed_authentications;
mod housekeeping;
mod key_watch;
mod risk_watch;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

pub use background::{Background, Turn, hold_background};
pub use deliveries::deliver_webhooks;
pub use failed_authentications::FailedAuthentications;
pub use housekeeping::keep_house;
pub use key_watch::{WatchRhythm, forget_signers, look_after, show_alarms, watch_keys};
pub use risk_watch::{RiskWalk, watch_risks};

use self::anchors::AnchorCheck;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::issuing::{CurrentCatalog, Issuing, LoadedCatalog, Shared, SyncMetrics};
use crate::keystore::Keystore;
use crate::maintenance;
use crate::storage::{Database, StorageError};
use crate::webhooks::{AddressPolicy, Courier};

/// One running service.
#[derive(Debug)]
pub struct App {
    pub clock: Clock,
    pub settings: Arc<Settings>,
    pub database: Database,
    pub keystore: Arc<Keystore>,
    pub catalog: Arc<CurrentCatalog>,
    pub issuing: Issuing,
    pub failed_authentications: FailedAuthentications,
    pub courier: Courier,
    pub background: Background,
    issuer: String,
}

impl App {
    /// Puts the service together on a migrated database, and starts its lanes.
    ///
    /// Call it on the runtime that is to do the background work.
    ///
    /// # Errors
    /// The database cannot be reached or written.
    pub async fn start(
        clock: Clock,
        settings: Arc<Settings>,
        issuer: String,
        database: Database,
        keystore: Arc<Keystore>,
        catalog: Catalog,
    ) -> Result<Self, StorageError> {
        maintenance::make_partitions(&database, clock.now()).await?;
        let number = catalog::record(&database, &clock, &catalog, catalog::AT_START).await?;
        let catalog = Arc::new(CurrentCatalog::new(LoadedCatalog { catalog, number }));
        let issuing = Issuing::start(Shared {
            clock: clock.clone(),
            settings: Arc::clone(&settings),
            database: database.clone(),
            keystore: Arc::clone(&keystore),
            current_catalog: Arc::clone(&catalog),
            issuer: issuer.clone(),
            grace: grace(&settings),
            token_lifetime: seconds(settings.token_lifetime),
            sync_interval: seconds(settings.sync_interval),
            joint_token_alg: settings.joint_token_alg,
            leeway: LEEWAY,
            metrics: SyncMetrics::new(),
            connection_check: Arc::new(AnchorCheck {
                anchors: anchors::of_settings(&settings),
                database: database.clone(),
                keystore: Arc::clone(&keystore),
                clock: clock.clone(),
            }),
        });
        let failed_authentications = FailedAuthentications::new(
            settings.failed_authentications_per_address,
            settings.failed_authentications_per_credential,
        );
        let courier = Courier::new(
            AddressPolicy::new(settings.webhook_allowed_networks.clone()),
            settings.webhook_ca_file.clone(),
        );
        Ok(Self {
            clock,
            settings,
            database,
            keystore,
            catalog,
            issuing,
            failed_authentications,
            courier,
            background: Background::new(),
            issuer,
        })
    }

    /// Exactly what tokens name as `iss`; without a trailing slash.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How long access goes on after a paid term.
    #[must_use]
    pub fn grace(&self) -> TimeDelta {
        grace(&self.settings)
    }

    /// How long a token lives, unless what it grants ends earlier.
    #[must_use]
    pub fn token_lifetime(&self) -> TimeDelta {
        seconds(self.settings.token_lifetime)
    }

    /// How long the joint token of older instances lives, unless what it grants ends earlier.
    #[must_use]
    pub fn joint_token_lifetime(&self) -> TimeDelta {
        seconds(self.settings.joint_token_lifetime)
    }

    /// How often an instance is asked to sync.
    #[must_use]
    pub fn sync_interval(&self) -> TimeDelta {
        seconds(self.settings.sync_interval)
    }

    /// The time, once per request.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

/// What verifiers tolerate: no token lives up to its key's end less this.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);

fn grace(settings: &Settings) -> TimeDelta {
    TimeDelta::days(i64::from(settings.grace_days))
}

/// The settings bound every duration to far less than what overflows.
fn seconds(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
