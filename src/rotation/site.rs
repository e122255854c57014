//! Where keys change and who changes them, and the one way in which a change begins.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, Transaction};

use super::RotationError;
use super::transition::Transition;
use crate::clock::Clock;
use crate::keystore::sealing::KeyEncryption;
use crate::storage::key_rings::{self, StoredRing};
use crate::storage::{Database, StorageError, fences, safe_mode};

/// The deployment whose keys are to change.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    pub database: &'a Database,
    pub environment: &'a str,
    /// Seals new private halves, and opens the key that signs the deny list.
    pub kek: &'a dyn KeyEncryption,
    pub clock: &'a Clock,
    /// Who does this, for the audit.
    pub actor: &'a str,
}

/// A change that has begun: mints are held off until it ends.
pub(super) struct Change<'a> {
    site: &'a Site<'a>,
    tx: Transaction<'static, Postgres>,
    pub(super) now: DateTime<Utc>,
    pub(super) stored: StoredRing,
}

/// Running batches of mints take milliseconds. A change of keys can wait; instances cannot.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this long in an emergency, whoever holds the fence is ended.
const PATIENCE_IN_EMERGENCY: Duration = Duration::from_secs(5);
/// Each attempt ends those who held the fence at the one before it.
const ATTEMPTS_IN_EMERGENCY: usize = 3;

impl<'a> Site<'a> {
    /// Begins a change: one at a time, while nothing is minted.
    ///
    /// # Errors
    ///
    /// [`RotationError::Busy`], [`RotationError::NotInitialized`]; the database cannot be reached.
    pub(super) async fn begin(&'a self) -> Result<Change<'a>, RotationError> {
        let mut tx = self.database.begin().await?;
        if !fences::hold_mints_off_within(&mut tx, PATIENCE).await? {
            return Err(RotationError::Busy);
        }
        self.begun(tx).await
    }

    /// The same in an emergency: whoever holds the fence for five seconds is ended, and what it had begun
    /// with it. Returns how many were.
    ///
    /// # Errors
    ///
    /// The same.
    pub(super) async fn begin_at_once(&'a self) -> Result<(Change<'a>, i64), RotationError> {
        let mut ended = 0;
        for _ in 0..ATTEMPTS_IN_EMERGENCY {
            let mut tx = self.database.begin().await?;
            if fences::hold_mints_off_within(&mut tx, PATIENCE_IN_EMERGENCY).await? {
                return Ok((self.begun(tx).await?, ended));
            }
            tx.rollback().await.map_err(StorageError::from)?;
            let mut connection = self.database.begin().await?;
            ended += fences::end_holders(&mut connection).await?;
        }
        Err(RotationError::Busy)
    }

    /// Begins a change where none is allowed but the recovery.
    ///
    /// # Errors
    ///
    /// The same.
    pub(super) async fn begin_in_safe_mode(&'a self) -> Result<Change<'a>, RotationError> {
        let mut tx = self.database.begin().await?;
        if !fences::hold_mints_off_within(&mut tx, PATIENCE).await? {
            return Err(RotationError::Busy);
        }
        self.read(tx).await
    }

    async fn begun(&'a self, tx: Transaction<'static, Postgres>) -> Result<Change<'a>, RotationError> {
        let mut change = self.read(tx).await?;
        // The schema refuses it as well; here it is told why.
        match safe_mode::find(&mut change.tx, self.environment).await? {
            Some(mode) => Err(RotationError::SafeMode { reason: mode.reason }),
            None => Ok(change),
        }
    }

    async fn read(&'a self, mut tx: Transaction<'static, Postgres>) -> Result<Change<'a>, RotationError> {
        // Statements of their own: their snapshots follow the wait.
        let now = self.clock.settle(fences::find_now(&mut tx).await?);
        let stored = key_rings::find(&mut tx, self.environment).await?;
        let stored = stored.ok_or_else(|| self.not_initialized())?;
        Ok(Change { site: self, tx, now, stored })
    }

    pub(super) fn not_initialized(&self) -> RotationError {
        RotationError::NotInitialized { environment: self.environment.to_owned() }
    }
}

impl Change<'_> {
    /// The ring under change. `reason` is kept with every row of the audit that has none of its own.
    pub(super) fn transition<'t>(&'t mut self, reason: Option<&'t str>) -> Transition<'t> {
        Transition {
            connection: &mut self.tx,
            environment: self.site.environment,
            issuer: &self.stored.issuer,
            kek: self.site.kek,
            actor: self.site.actor,
            reason,
            now: self.now,
            ring: self.stored.ring.clone(),
        }
    }

    pub(super) fn connection(&mut self) -> &mut sqlx::PgConnection {
        &mut self.tx
    }

    /// Makes the change durable.
    pub(super) async fn commit(self) -> Result<(), RotationError> {
        Ok(self.tx.commit().await.map_err(StorageError::from)?)
    }
}
