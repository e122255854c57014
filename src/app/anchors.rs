//! Keeps signed documents where no restore of the database reaches them, and notices a database that is behind them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::App;
use crate::audit::checkpoint;
use crate::clock::Clock;
use crate::config::Settings;
use crate::issuing::ConnectionCheck;
use crate::keystore::Keystore;
use crate::rotation::RotationError;
use crate::rotation::anchors::{Anchors, Standing};
use crate::storage::{Database, StorageError, events, safe_mode};

/// Compares the database with what was signed outside of it.
pub(super) struct AnchorCheck {
    pub(super) anchors: Anchors,
    pub(super) database: Database,
    pub(super) keystore: Arc<Keystore>,
    pub(super) clock: Clock,
}

impl AnchorCheck {
    async fn compare(&self) -> Result<Standing, RotationError> {
        self.anchors.check(&self.database, &**self.keystore.key_encryption(), &self.clock).await
    }
}

/// A restore cuts every connection. So a lane that compares whenever it connects never mints on an old copy.
impl ConnectionCheck for AnchorCheck {
    fn check(&self) -> Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send + '_>> {
        Box::pin(async {
            match self.compare().await {
                Ok(_) => Ok(()),
                Err(RotationError::Storage(error)) => Err(error),
                // Instances must not wait for the anchors' disk; it was read when the service started.
                Err(error) => {
                    tracing::error!(%error, "the database could not be compared with what was signed");
                    Ok(())
                }
            }
        })
    }
}

impl fmt::Debug for AnchorCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnchorCheck").field("anchors", &self.anchors).finish_non_exhaustive()
    }
}

/// Where this deployment keeps what no restore of its database can take back.
pub(super) fn of_settings(settings: &Settings) -> Anchors {
    Anchors::new(&settings.keys_dir, settings.environment.as_str(), settings.anchors_dir.as_deref())
}

impl App {
    /// Puts a database that is behind what was signed into safe mode.
    ///
    /// # Errors
    /// The database or the anchors cannot be read.
    pub async fn check_anchors(&self) -> Result<Standing, RotationError> {
        of_settings(&self.settings)
            .check(&self.database, &**self.keystore.key_encryption(), &self.clock)
            .await
    }

    /// Keeps the newest checkpoint of the audit and the newest deny list, unless the last ones kept are the newest.
    ///
    /// # Errors
    /// The database cannot be read, or the folder cannot be written.
    pub async fn keep_anchors(&self, kept: &mut Option<(u64, u64)>) -> Result<(), RotationError> {
        let anchors = of_settings(&self.settings);
        if !anchors.is_kept() {
            return Ok(());
        }
        // First compared: an old copy must not overwrite what tells that it is one.
        if anchors.check(&self.database, &**self.keystore.key_encryption(), &self.clock).await?
            != Standing::Current
        {
            return Ok(());
        }
        let environment = self.settings.environment.as_str();
        let mut tx = self.database.begin().await?;
        let serial = crate::storage::deny_lists::find_latest(&mut tx, environment).await?;
        let newest = (events::find_end(&mut tx).await?.sequence, serial.map_or(0, |list| list.serial));
        if *kept == Some(newest) || safe_mode::find(&mut tx, environment).await?.is_some() {
            return Ok(());
        }
        let signed =
            checkpoint::sign(&mut tx, &**self.keystore.key_encryption(), environment, self.now()).await;
        let signed = signed
            .inspect_err(|error| tracing::error!(%error, "no checkpoint of the audit could be signed"))
            .ok();
        anchors.keep(&mut tx, signed.as_ref().map(|signed| signed.jws.as_str())).await?;
        *kept = Some(newest);
        Ok(())
    }
}
