//! Records and amends what was bought, and measures the effect.
//!
//! Each use case takes the locks that its change needs, refuses what cannot be, writes
//! the next revision, and answers the record before and after with what the change does
//! to each instance. The caller owns the transaction: without a commit nothing happened.

pub mod add_on_purchases;
pub mod admin_tokens;
pub mod backends;
pub mod catalog_effects;
pub mod customers;
pub mod demo;
pub mod effects;
pub mod imports;
pub mod instances;
pub mod licenses;
pub mod subscriptions;
pub mod term;
pub mod webhooks;

mod refusal;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer};
use sqlx::PgConnection;

pub use effects::{Effect, Effects};
pub use refusal::{FulfillmentError, WrongValue};

use crate::clock::Clock;
use crate::domain::catalog::Catalog;
use crate::keystore::Keystore;
use crate::storage::{StorageError, fences};

/// What every use case is given.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub clock: &'a Clock,
    /// The catalog that decides now.
    pub catalog: &'a Catalog,
    /// Whose keys sign.
    pub environment: &'a str,
    /// How long access goes on after a paid term.
    pub grace: TimeDelta,
    pub keystore: &'a Keystore,
}

impl Circumstances<'_> {
    /// The time of a change: the database's, read once the locks are held, so that what one change waited
    /// for is older, and no token that was recorded before it is younger.
    async fn date(&self, connection: &mut PgConnection) -> Result<DateTime<Utc>, StorageError> {
        Ok(self.clock.settle(fences::find_now(connection).await?))
    }
}

/// A record that was made or amended.
#[derive(Clone, Debug)]
pub struct Changed<R> {
    pub at: DateTime<Utc>,
    /// As it was; `None` for a new one.
    pub before: Option<R>,
    pub after: R,
    pub effects: Effects,
}

impl<R> Changed<R> {
    /// A change that gives nothing to any instance and takes nothing from it.
    fn without_effects(at: DateTime<Utc>, before: Option<R>, after: R) -> Self {
        Self { at, before, after, effects: Effects::default() }
    }
}

/// Which revisions of a record a change may be made on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// Whatever it is now.
    Any,
    OneOf(Vec<i64>),
}

impl Expected {
    /// Passes when `revision` is among them.
    fn check(&self, revision: i64) -> Result<(), FulfillmentError> {
        match self {
            Self::OneOf(revisions) if !revisions.contains(&revision) => Err(FulfillmentError::Changed),
            Self::Any | Self::OneOf(_) => Ok(()),
        }
    }
}

/// One member of a merge patch (RFC 7396). A member that may be missing needs `#[serde(default)]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Patch<T> {
    /// Not in the patch.
    #[default]
    Keep,
    /// `null`.
    Remove,
    Replace(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Remove, Self::Replace))
    }
}

impl<T> Patch<T> {
    /// The member after the patch.
    fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Remove => *to = None,
            Self::Replace(value) => *to = Some(value),
        }
    }
}
