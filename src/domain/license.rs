//! The right to activate instances under a subscription.

use chrono::{DateTime, Utc};

use super::words::words;

words! {
    /// How a license is used. Only `online` ones may use hosted features.
    LicenseKind {
        Legacy => "legacy",
        Offline => "offline",
        Online => "online",
    }
}

/// What a decision needs to know of a license.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LicenseStanding {
    pub kind: LicenseKind,
    /// Final, and effective from this instant on.
    pub revoked_at: Option<DateTime<Utc>>,
}
