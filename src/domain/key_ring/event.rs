//! What a command changed: one event per change, one audit row per event.

use std::collections::BTreeSet;

use super::{Blocker, Denial, Kid, Slot};

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    Abandoned {
        kid: Kid,
    },
    Activated {
        kid: Kid,
        grounds: Grounds,
    },
    Armed {
        kid: Kid,
    },
    /// The key stopped signing because another took over; its private half goes.
    Demoted {
        kid: Kid,
    },
    /// The deny list gained an entry, or an entry became stricter.
    Denied {
        kid: Kid,
        denial: Denial,
    },
    /// A process that starts must carry at least this version.
    FloorRaised {
        to: u32,
    },
    Generated {
        kid: Kid,
    },
    KeySetRecorded {
        version: u32,
    },
    /// No key of the slot signs any more.
    MintingStopped {
        slot: Slot,
    },
    Published {
        kid: Kid,
        version: u32,
    },
    Retired {
        kid: Kid,
    },
    Revoked {
        kid: Kid,
    },
}

/// Why a key was allowed to sign.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Grounds {
    /// No token of its algorithm was ever issued.
    Birth,
    /// Forced while a compromised key had to stop.
    Forced { blockers: BTreeSet<Blocker>, reason: String },
    /// Forced past the named blockers.
    Overridden { blockers: BTreeSet<Blocker>, reason: String },
    /// Every verifier proved it, less those that were silent for so long that they count as gone: `backend/process`.
    Proved { silent: BTreeSet<String> },
    /// It signed before the database was restored, or stood by a key that is lost.
    Recovered,
    /// The ready standby of a compromised key.
    Succession,
}

impl Event {
    /// The stable name of the change, as the audit records it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Abandoned { .. } => "key.abandoned",
            Self::Activated { .. } => "key.activated",
            Self::Armed { .. } => "key.armed",
            Self::Demoted { .. } => "key.demoted",
            Self::Denied { .. } => "key.denied",
            Self::FloorRaised { .. } => "key_set.floor_raised",
            Self::Generated { .. } => "key.generated",
            Self::KeySetRecorded { .. } => "key_set.recorded",
            Self::MintingStopped { .. } => "key.minting_stopped",
            Self::Published { .. } => "key.published",
            Self::Retired { .. } => "key.retired",
            Self::Revoked { .. } => "key.revoked",
        }
    }

    /// The key that changed, where the event is about one.
    #[must_use]
    pub fn kid(&self) -> Option<Kid> {
        match self {
            Self::Abandoned { kid }
            | Self::Activated { kid, .. }
            | Self::Armed { kid }
            | Self::Demoted { kid }
            | Self::Denied { kid, .. }
            | Self::Generated { kid }
            | Self::Published { kid, .. }
            | Self::Retired { kid }
            | Self::Revoked { kid } => Some(*kid),
            Self::FloorRaised { .. } | Self::KeySetRecorded { .. } | Self::MintingStopped { .. } => None,
        }
    }

    /// Whether this is a change of a key's state.
    #[must_use]
    pub fn is_change_of_state(&self) -> bool {
        matches!(
            self,
            Self::Abandoned { .. }
                | Self::Activated { .. }
                | Self::Demoted { .. }
                | Self::Generated { .. }
                | Self::Published { .. }
                | Self::Retired { .. }
                | Self::Revoked { .. }
        )
    }
}
