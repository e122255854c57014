//! An add-on bought with a quantity and a term of its own.

use chrono::{DateTime, TimeDelta, Utc};

use super::catalog::AddOnName;
use super::subscription::{SubscriptionStanding, Term, later};

/// What a decision needs to know of a purchase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PurchaseStanding {
    pub add_on: AddOnName,
    /// Seats; at least one.
    pub quantity: u32,
    pub term: Term,
    /// When it was ended before its term. Final, and effective at once: no grace follows.
    pub ended_at: Option<DateTime<Utc>>,
}

impl PurchaseStanding {
    /// The first instant at which the purchase grants nothing more.
    ///
    /// A purchase that runs to an end of its subscription, or beyond it, shares
    /// the grace of that end, unless it was ended.
    #[must_use]
    pub fn access_ends_at(&self, subscription: &SubscriptionStanding, grace: TimeDelta) -> DateTime<Utc> {
        let own = self.term.ends_at();
        let by_itself = subscription
            .earlier_ends
            .iter()
            .copied()
            .chain([subscription.term.ends_at()])
            .filter(|end| *end <= own)
            .map(|end| later(end, subscription.grace(grace)))
            .fold(own, DateTime::max);
        self.ended_at.map_or(by_itself, |ended_at| by_itself.min(ended_at))
    }
}
