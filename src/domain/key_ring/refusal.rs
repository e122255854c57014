//! Why the ring said no. Codes are stable; programs and runbooks rely on them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Algorithm, Blocker, KeyState, Kid, Slot};

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("{kid} is active already, and only one key of {slot} may be")]
    AlreadyActive { slot: Slot, kid: Kid },
    #[error("key-set version {version} does not name its predecessor's digest")]
    BrokenChain { version: u32 },
    #[error("{kid} ends on {not_after}: too soon to sign until the next rotation")]
    EndsTooSoon { kid: Kid, not_after: DateTime<Utc> },
    #[error("the head moved to version {head} since {seen} was looked at; look again")]
    HeadMoved { seen: u32, head: u32 },
    #[error("{kid} is {state} and must be in the key set")]
    KeyLeftOut { kid: Kid, state: KeyState },
    #[error("{kid} was in this ring before; a key never comes back")]
    KidReused { kid: Kid },
    #[error("{slot} has no standby: publish a second key first")]
    NoStandby { slot: Slot },
    #[error("{kid} is not armed: no evidence counts for it yet")]
    NotArmed { kid: Kid },
    #[error("tokens of {kid} may live until {until}")]
    NotDrained { kid: Kid, until: DateTime<Utc> },
    #[error("{kid} is not proved everywhere: {}", list(blockers))]
    NotReady { kid: Kid, blockers: BTreeSet<Blocker> },
    #[error("{alg} tokens were issued before; a key of that kind is activated on evidence only")]
    TokensIssued { alg: Algorithm },
    #[error("no key {kid} in this ring")]
    UnknownKid { kid: Kid },
    #[error("the next key-set version is {expected}, not {given}")]
    VersionOutOfOrder { expected: u32, given: u32 },
    #[error("{kid} is {state}; this needs a key that is {needed}")]
    WrongState { kid: Kid, state: KeyState, needed: KeyState },
}

impl KeyRefusal {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyActive { .. } => "keys/already_active",
            Self::BrokenChain { .. } => "keys/broken_chain",
            Self::EndsTooSoon { .. } => "keys/ends_too_soon",
            Self::HeadMoved { .. } => "keys/head_moved",
            Self::KeyLeftOut { .. } => "keys/key_left_out",
            Self::KidReused { .. } => "keys/kid_reused",
            Self::NoStandby { .. } => "keys/no_standby",
            Self::NotArmed { .. } => "keys/not_armed",
            Self::NotDrained { .. } => "keys/not_drained",
            Self::NotReady { .. } => "keys/not_ready",
            Self::TokensIssued { .. } => "keys/tokens_issued",
            Self::UnknownKid { .. } => "keys/unknown_kid",
            Self::VersionOutOfOrder { .. } => "keys/version_out_of_order",
            Self::WrongState { .. } => "keys/wrong_state",
        }
    }
}

fn list(blockers: &BTreeSet<Blocker>) -> String {
    blockers.iter().map(Blocker::to_string).collect::<Vec<_>>().join("; ")
}
