// The crate's page is its README, whose examples are compiled and run as tests.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "actix")]
pub mod actix;
mod algorithm;
mod audit_checkpoint;
mod base64url;
#[cfg(feature = "build")]
pub mod build;
mod canonical_json;
mod claims;
mod denials;
mod deny_list;
mod digest;
mod ed25519;
mod embedded;
mod header;
mod issued_document;
mod jwk;
mod jws;
mod key_set;
mod kid;
mod live;
mod lock;
mod manifest;
mod members;
mod prepared_key;
mod reason;
mod request;
mod root;
mod signed;
mod timestamp;
#[cfg(feature = "tower")]
pub mod tower;
mod trusted_key;
mod unverified;
mod verdicts;
mod verify;
mod verify_error;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use audit_checkpoint::{AuditCheckpoint, AuditCheckpointError};
pub use claims::{Claim, Claims, ClaimsError};
pub use deny_list::{DenyList, DenyListEntry, DenyListError};
pub use digest::{Digest, DigestError};
pub use embedded::{EmbeddedError, EmbeddedKeySet, OpenKeySet};
pub use jwk::{Jwk, JwkError};
pub use jws::{ProtectedHeader, Typ, compact};
pub use key_set::{KeySet, KeySetError};
pub use kid::{Kid, KidError};
pub use live::{DENY_LIST_STALE_AFTER, DenyListState, LiveVerifier, REMEMBERED_TOKENS};
pub use lock::{Lock, LockError};
pub use manifest::{Denial, Manifest, ManifestError, ManifestKey, Purpose, SignedManifest, UnknownPurpose};
pub use reason::Reason;
pub use request::{Headers, RequestError, RequestVerifier, TokenHeader};
pub use root::{Root, RootError, SignedRoot};
pub use signed::{Contradiction, Payload, Signed, SignedError, Verified};
pub use timestamp::{Timestamp, TimestampError};
pub use unverified::Unverified;
pub use verify::{KeySetName, LEEWAY, MAX_TOKEN_BYTES, MAX_TOKEN_TTL, Verifier};
pub use verify_error::{Malformed, VerifyError};

/// Brings in what [`build::BuildScript`] wrote: `KEY_SET`, and with a contract `BACKEND`, `ENFORCES` and
/// `unit_primitives`.
///
/// ```ignore
/// mod embedded {
///     token_authority_verifier::include_key_set!();
/// }
/// let keys = embedded::KEY_SET.open()?;
/// let verifier = keys.verifier("gitlab-ai-gateway", SystemTime::now())?;
/// ```
#[macro_export]
macro_rules! include_key_set {
    () => {
        include!(concat!(env!("OUT_DIR"), "/key_set.rs"));
    };
}
