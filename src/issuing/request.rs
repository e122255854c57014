//! What a sync asks, and what it is answered.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::LoadedCatalog;
use super::assertion::ClientAssertion;
use crate::domain::catalog::{BackendName, UnitPrimitiveName};
use crate::domain::entitlement::{Decision, Obstacle, Situation};
use crate::domain::ids::InstanceUid;
use crate::domain::key_ring::Algorithm;
use crate::domain::sync_line::Brought;
use crate::domain::sync_schedule::SyncSchedule;
use crate::domain::version::Version;

/// How an instance proves that it is itself.
#[derive(Clone, Debug)]
pub enum CallerProof {
    /// A client assertion (RFC 7523), by the instance's registered key.
    Assertion(Box<ClientAssertion>),
    /// The keyed digest of its secret.
    Secret { uid: InstanceUid, digest: [u8; 32] },
}

impl CallerProof {
    /// Who the caller claims to be.
    #[must_use]
    pub fn uid(&self) -> InstanceUid {
        match self {
            Self::Assertion(assertion) => assertion.uid,
            Self::Secret { uid, .. } => *uid,
        }
    }
}

/// One sync, parsed.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub caller: CallerProof,
    /// What the instance runs; `None` where the request does not tell: the last one that was reported counts.
    pub version: Option<Version>,
    pub hostname: Option<String>,
    pub usage: Option<serde_json::Value>,
    /// Only these backends; unknown names were left out.
    pub backends: Option<Vec<BackendName>>,
    /// Only these unit primitives, each of which must be granted.
    pub scopes: Option<Vec<UnitPrimitiveName>>,
    pub form: TokenForm,
    pub explain: bool,
    /// The one-time value that it brings; `None` for a caller that takes no part.
    pub line: Option<Brought>,
    /// Digest of the caller's `Idempotency-Key`.
    pub idempotency: Option<[u8; 16]>,
}

/// Into how many tokens goes what is granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenForm {
    /// One for all backends that were asked for and share an algorithm, for callers that can hold only one.
    Joint { lifetime: TimeDelta },
    /// One for each backend, two where some of its scopes end before the others.
    PerBackend,
}

/// What a sync is answered.
#[derive(Clone, Debug)]
pub struct SyncAnswer {
    pub instance_uid: InstanceUid,
    pub synced_at: DateTime<Utc>,
    pub schedule: SyncSchedule,
    pub next_change_at: Option<DateTime<Utc>>,
    /// What to bring the next time, for a caller that takes part.
    pub sync_value: Option<String>,
    /// Whether two installations are known to use this identity.
    pub is_contested: bool,
    /// Sorted by backend.
    pub tokens: Vec<IssuedToken>,
    /// Backends that host something granted and get no token, since no key may sign with their algorithm.
    pub withheld: Vec<Withheld>,
    /// What the explanation is made from, where it was asked for.
    pub explained: Option<Box<(Situation, Decision)>>,
    pub catalog: Arc<LoadedCatalog>,
    pub key_set_version: Option<i64>,
    /// Whether the tokens are those of an earlier, identical sync.
    pub is_retry: bool,
}

/// A backend for which no key may sign now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Withheld {
    /// Index into the catalog's backends.
    pub backend: usize,
    pub alg: Algorithm,
}

/// A token whose record is durable.
#[derive(Clone)]
pub struct IssuedToken {
    /// Index into the catalog's backends.
    pub backend: usize,
    /// Indexes into the catalog's unit primitives.
    pub scopes: Vec<usize>,
    pub expires_at: DateTime<Utc>,
    pub ends_with_grant: bool,
    pub token: String,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken")
            .field("backend", &self.backend)
            .field("scopes", &self.scopes)
            .field("expires_at", &self.expires_at)
            .field("token", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Unknown, wrong or expired credential: which of these is not told.
    #[error("not authenticated")]
    Unauthenticated,
    /// A scope was asked for that is not granted; an answer with less would be taken for the whole.
    #[error("`{0}` is not granted")]
    NotGranted(UnitPrimitiveName),
    /// Known, but not allowed.
    #[error("refused: {}", .0.code())]
    Refused(Obstacle),
    /// Too much is waiting, it took too long, or the database cannot be reached. Retry.
    #[error("{0}")]
    Unavailable(&'static str),
    /// Logged where it happened; told without detail.
    #[error("could not decide, record or sign the sync")]
    Fault(#[source] Arc<dyn std::error::Error + Send + Sync>),
}
