//! A customer's term, plan and seats, with its timeline of conditions.

use chrono::{DateTime, TimeDelta, Utc};

use super::catalog::LicenseTypeName;
use super::words::words;

/// A stretch of time `[starts_at, ends_at)`; never empty.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Term {
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
}

impl Term {
    /// The term between two instants, or `None` unless it starts before it ends.
    #[must_use]
    pub fn new(starts_at: DateTime<Utc>, ends_at: DateTime<Utc>) -> Option<Self> {
        (starts_at < ends_at).then_some(Self { starts_at, ends_at })
    }

    /// The first instant within.
    #[must_use]
    pub fn starts_at(&self) -> DateTime<Utc> {
        self.starts_at
    }

    /// The first instant after.
    #[must_use]
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.ends_at
    }
}

words! {
    /// Whether a subscription may be used, apart from its term.
    Condition {
        Active => "active",
        /// Final.
        Canceled => "canceled",
        Suspended => "suspended",
    }
}

/// What a decision needs to know of a subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscriptionStanding {
    pub license_type: LicenseTypeName,
    pub term: Term,
    /// The ends that the term had before it was made longer. A purchase that ran
    /// to one of them keeps the grace it had there: a renewal takes nothing away.
    pub earlier_ends: Vec<DateTime<Utc>>,
    pub trial: bool,
    pub condition: Condition,
}

impl SubscriptionStanding {
    /// How long access goes on after the term: trials have no grace.
    #[must_use]
    pub fn grace(&self, grace: TimeDelta) -> TimeDelta {
        if self.trial { TimeDelta::zero() } else { grace }
    }

    /// The first instant at which neither the term nor its grace holds.
    #[must_use]
    pub fn grace_ends_at(&self, grace: TimeDelta) -> DateTime<Utc> {
        later(self.term.ends_at, self.grace(grace))
    }

    /// The same subscription with a later end; `None` if `ends_at` is not later.
    #[must_use]
    pub fn renewed(&self, ends_at: DateTime<Utc>) -> Option<Self> {
        (ends_at > self.term.ends_at).then(|| {
            let mut renewed = self.clone();
            renewed.earlier_ends.push(self.term.ends_at);
            renewed.term.ends_at = ends_at;
            renewed
        })
    }
}

/// `at + by`, or the last instant there is.
pub(crate) fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
