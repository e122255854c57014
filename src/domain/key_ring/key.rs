//! One signing key as the ring sees it: where it stands, and what happened to it.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{Algorithm, Kid, Purpose};
use crate::domain::words::words;

/// A key of the ring. Neither half is here: a decision needs only what happened.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    pub kid: Kid,
    pub purpose: Purpose,
    pub alg: Algorithm,
    pub state: KeyState,
    /// The hard end, fixed at birth. No verifier takes a token of this key later,
    /// so nobody has to remember to stop trusting it.
    pub not_after: DateTime<Utc>,
    /// The first key set that carried it.
    pub published: Option<Publication>,
    /// Since when evidence counts. Whatever a process proved earlier may have been
    /// rolled back since.
    pub armed_at: Option<DateTime<Utc>>,
    pub activated_at: Option<DateTime<Utc>>,
    /// When it stopped signing because another key took over.
    pub demoted_at: Option<DateTime<Utc>>,
    /// What the deny list says about it; independent of its state.
    pub denial: Option<Denial>,
}

/// Where and when verifiers could first learn of a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Publication {
    pub version: u32,
    pub at: DateTime<Utc>,
}

/// An entry of the deny list. It only ever grows stricter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Denial {
    /// Tokens with a later `iat` are refused: the key was demoted then.
    IssuedAfter(DateTime<Utc>),
    /// Every token is refused.
    Always,
}

/// The place that at most one active key holds, per issuer and environment.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot {
    pub purpose: Purpose,
    pub alg: Algorithm,
}

impl Key {
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot { purpose: self.purpose, alg: self.alg }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.purpose, self.alg)
    }
}

words! {
    /// Where a key stands, in the order of a life.
    KeyState {
        /// Made and tested; nobody else knows it.
        Generated => "generated",
        /// In a root-signed key set; signs probes only.
        Published => "published",
        /// Signs. One per [`Slot`].
        Active => "active",
        /// Demoted; verifiers still take what it signed.
        Retiring => "retiring",
        /// Left out of new key sets after its last token expired. Final.
        Retired => "retired",
        /// Its private half may be in other hands. Final.
        Revoked => "revoked",
        /// Given up before it ever signed. Final.
        Abandoned => "abandoned",
    }
}

impl KeyState {
    /// The edges of a key's life. The trigger in the database allows the same
    /// ones; a test compares the two.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use KeyState::{Abandoned, Active, Generated, Published, Retired, Retiring, Revoked};
        matches!(
            (self, next),
            (Generated, Published | Abandoned)
                | (Published, Active | Abandoned | Revoked)
                | (Active, Retiring | Revoked)
                | (Retiring, Retired | Revoked)
        )
    }

    /// Whether no way leads out of this state.
    #[must_use]
    pub fn is_final(self) -> bool {
        Self::ALL.iter().all(|next| !self.may_become(*next))
    }

    /// Whether every new key set has to carry a key in this state.
    #[must_use]
    pub fn is_carried(self) -> bool {
        matches!(self, Self::Published | Self::Active | Self::Retiring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_states_are_final_and_no_edge_leads_back() {
        let is_final: Vec<_> = KeyState::ALL.iter().copied().filter(|state| state.is_final()).collect();
        assert_eq!(is_final, [KeyState::Retired, KeyState::Revoked, KeyState::Abandoned]);
        for from in KeyState::ALL {
            for to in KeyState::ALL {
                assert!(!from.may_become(*to) || from < to, "{from} → {to} leads back");
            }
        }
    }
}
