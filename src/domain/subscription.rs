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

words! {
    /// What a subscription's condition and its term come to at an instant.
    SubscriptionState {
        Active => "active",
        Canceled => "canceled",
        Expired => "expired",
        /// The term is over, and what it granted goes on for a while.
        InGrace => "in_grace",
        NotStarted => "not_started",
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

/// `at + by`, or the last instant that can be told.
pub(crate) fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).map_or(LAST_INSTANT, |later| later.min(LAST_INSTANT)).max(at)
}

/// The last microsecond of the year 9999: RFC 3339 writes years with four digits (§5.6). Contracts without an end
/// are often written so, and their grace has nowhere to go.
const LAST_INSTANT: DateTime<Utc> = match DateTime::from_timestamp_micros(253_402_300_799_999_999) {
    Some(instant) => instant,
    None => DateTime::<Utc>::MAX_UTC,
};
