//! A ring under change, in the caller's transaction: decide, write, audit.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::RotationError;
use super::audit;
use super::deny_list;
use super::key_set_draft::SignedKeySet;
use crate::domain::key_ring::{Command, Event, KeyRing, KeySetRecord, NewKey, step};
use crate::keystore::FreshKey;
use crate::keystore::sealing::KeyEncryption;
use crate::storage::signing_keys::{self, NewSigningKey};
use crate::storage::{key_rings, key_sets};

pub(super) struct Transition<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) environment: &'a str,
    pub(super) issuer: &'a str,
    /// Opens the key that signs the deny list.
    pub(super) kek: &'a dyn KeyEncryption,
    pub(super) actor: &'a str,
    /// Why, for every row of the audit that has no reason of its own.
    pub(super) reason: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
    /// As it is in the database.
    pub(super) ring: KeyRing,
}

impl Transition<'_> {
    /// Takes in a key that was just made.
    pub(super) async fn generate(
        &mut self,
        fresh: FreshKey,
        not_after: DateTime<Utc>,
    ) -> Result<(), RotationError> {
        let FreshKey { key, public_key } = fresh;
        let new = NewKey { kid: key.kid, purpose: key.purpose, alg: key.alg, not_after };
        let decided = step(&self.ring, Command::Generate(new), self.now)?;
        let row = NewSigningKey { key, public_key, generated_at: self.now, not_after };
        signing_keys::insert(self.connection, &row).await?;
        self.write(decided).await.map(drop)
    }

    /// Records a key set that the root has signed.
    pub(super) async fn publish(
        &mut self,
        key_set: &SignedKeySet,
        record: KeySetRecord,
    ) -> Result<(), RotationError> {
        let decided = step(&self.ring, Command::Publish(record), self.now)?;
        key_sets::insert(self.connection, self.environment, &key_set.stored()).await?;
        self.write(decided).await.map(drop)
    }

    /// Carries out a command that needs no row beforehand.
    /// Returns what changed.
    pub(super) async fn carry_out(&mut self, command: Command) -> Result<Vec<Event>, RotationError> {
        let decided = step(&self.ring, command, self.now)?;
        self.write(decided).await
    }

    async fn write(&mut self, (after, events): (KeyRing, Vec<Event>)) -> Result<Vec<Event>, RotationError> {
        if !key_rings::update(self.connection, self.environment, &self.ring, &after, self.now).await? {
            return Err(RotationError::Raced);
        }
        for event in &events {
            audit::remember(self, event, &after).await?;
        }
        let is_denied_more = self.ring.deny_list_serial() < after.deny_list_serial();
        self.ring = after;
        if is_denied_more {
            self.sign_deny_list().await?;
        }
        if !events.is_empty() {
            key_rings::notify(self.connection, self.environment).await?;
        }
        Ok(events)
    }

    /// Signs the deny list as it follows from the ring.
    pub(super) async fn sign_deny_list(&mut self) -> Result<(), RotationError> {
        let author = deny_list::Author { environment: self.environment, issuer: self.issuer, kek: self.kek };
        deny_list::sign(self.connection, &author, &self.ring, self.now).await?;
        Ok(())
    }
}
