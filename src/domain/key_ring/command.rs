//! What one can ask of the key ring. Every command names its kids: "the newest" and
//! "the current" do not exist.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Adopted, Algorithm, Digest, Fleet, Kid, Purpose, Recalled};

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Command {
    /// Gives a key up that never signed.
    Abandon { kid: Kid },
    /// Lets a key sign instead of the active one of its slot, on evidence.
    Activate(Activation),
    /// Takes over a key set that was published in a time that the database lost.
    Adopt(Adopted),
    /// From now on evidence counts for this key.
    Arm { kid: Kid },
    /// Lets the first key of its slot sign, before there is anyone to prove it.
    Birth {
        kid: Kid,
        /// Whether a token of the key's algorithm was ever issued: then some
        /// verifier may already rely on another key, and there is only the gate.
        ever_issued: bool,
    },
    /// Raises the numbers that only grow to where they were before the database was restored.
    CatchUp { floor: u32, deny_list_serial: u64 },
    /// Ends keys whose private half may be in other hands.
    Compromise(Compromise),
    /// Takes a new key in, after its self-test.
    Generate(NewKey),
    /// Records a root-signed key set. The new keys that it carries become
    /// published; the drained keys that it leaves out become retired.
    Publish(KeySetRecord),
    /// Moves a key as it has moved in a time that the database lost.
    Recall(Recalled),
}

/// A key before its first day.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NewKey {
    pub kid: Kid,
    pub purpose: Purpose,
    pub alg: Algorithm,
    pub not_after: DateTime<Utc>,
}

/// A key set as its root-signed manifest describes it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeySetRecord {
    pub version: u32,
    pub digest: Digest,
    /// The digest of the version before; none for version 1.
    pub prev: Option<Digest>,
    pub carried: BTreeSet<Kid>,
    /// The longest life that verifiers with this set will accept of a token.
    pub max_token_ttl: TimeDelta,
    /// What the ledger says about the retiring keys that the set leaves out.
    pub drained: BTreeMap<Kid, LastToken>,
}

/// When the last token of a key dies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LastToken {
    ExpiresAt(DateTime<Utc>),
    NeverIssued,
    /// The ledger lost rows (a restored backup): the longest life ever allowed counts.
    Unknown,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Activation {
    pub kid: Kid,
    /// The newest key set that whoever decided this had seen (compare-and-swap).
    pub head: u32,
    pub fleet: Fleet,
    pub waiver: Option<Waiver>,
}

/// An override of the gate: whom it passes over, and why.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Waiver {
    /// [`super::Blocker::name`] of each.
    pub names: BTreeSet<String>,
    pub reason: String,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Compromise {
    pub kids: BTreeSet<Kid>,
    pub fleet: Fleet,
    pub without_standby: WithoutStandby,
}

/// What to do where a compromised key signs and no standby is ready.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum WithoutStandby {
    /// Let this published key sign all the same.
    Force {
        kid: Kid,
        reason: String,
    },
    StopMinting,
}
