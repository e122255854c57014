//! The life of signing keys: what the pure key ring decides, made durable.
//!
//! Every change is one transaction: the fence that holds mints off, the step, its rows,
//! one audit row per change. Files follow the commit, from what was committed, so that
//! a crash between the two is mended by running the same command again.

pub mod anchors;
mod audit;
pub mod beat;
pub mod compromise;
pub mod deny_list;
mod draining;
pub mod fleet_view;
pub mod generate;
pub mod horizon;
pub mod init;
mod key_set_draft;
pub mod lifecycle;
pub mod lost_kek;
pub mod manifests;
pub mod overview;
pub mod plan;
mod probing;
pub mod publish;
pub mod published_files;
pub mod recover;
pub mod roots;
mod site;
mod transition;

pub use self::site::Site;

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use token_authority_verifier::{DenyListError, KeySetError, ManifestError, RootError, SignedError};

use self::published_files::PublishError;
use crate::domain::key_ring::recovery::RecoveryRefusal;
use crate::domain::key_ring::{Algorithm, KeyRefusal, Kid, Purpose};
use crate::keystore::KeystoreError;
use crate::keystore::root_key::RootKeyError;
use crate::storage::StorageError;

/// How long the published JWKS may be kept by those that discover keys: its `max-age`.
pub const JWKS_MAX_AGE: TimeDelta = TimeDelta::minutes(5);

/// A key should be followed by another while it has this much of its life left.
pub const ROTATE_BEFORE_END: TimeDelta = TimeDelta::days(30);

/// Why a change of keys did not happen. The first group is told to whoever asked; the
/// second is a fault.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("this environment has its first key set already; roots are replaced by `keys root record`")]
    AlreadyBorn,
    #[error("a key for {purpose} is EdDSA, not {alg}: only tokens have readers that know nothing else")]
    AlgorithmUnavailable { alg: Algorithm, purpose: Purpose },
    #[error("another change, or a stuck mint, holds the keys for too long; try again")]
    Busy,
    #[error(
        "the audit is needed: it was signed up to event {signed}, and what was given ends with {exported}. Give the \
         export with `--audit FILE`, or say with `--without-audit REASON` that it is lost"
    )]
    AuditNeeded { signed: u64, exported: u64 },
    #[error("the deny list is not signed by a key of this environment's key sets")]
    DenyListRefused,
    #[error("the root was made for development; it signs nothing for `{environment}`")]
    DevelopmentRoot { environment: String },
    #[error(
        "the root has signed another key set {version} than this database holds: it is no older copy of the one \
         that published, but another. Restore that one"
    )]
    Forked { version: u32 },
    #[error("this database is not behind anything that was signed; there is nothing to recover")]
    NotInSafeMode,
    #[error(
        "this database belongs to the issuer {stored}; `issuer` is {given}. Instances trust the first: it never changes"
    )]
    OtherIssuer { stored: String, given: String },
    #[error(
        "{path} was published before, but this database knows no key set of `{environment}`: \
         restore the database that published it, or choose another `keys_dir`"
    )]
    PublishedElsewhere { environment: String, path: String },
    #[error(
        "no root: outside the environment `development` the root stays offline. To let it live beside the \
         service all the same, set `allow_local_root` and `root_key_file`"
    )]
    NoRoot,
    #[error("the key-encryption key is not lost: it opens what this database holds")]
    KekNotLost,
    #[error("a key may live until {latest} at the most, not until {not_after}")]
    LivesTooLong { not_after: DateTime<Utc>, latest: DateTime<Utc> },
    #[error("the manifest is refused: {0}")]
    ManifestRefused(#[source] Box<ManifestError>),
    #[error("no keys in the environment `{environment}` yet; run `token-authority init`")]
    NotInitialized { environment: String },
    #[error("the manifest says another purpose, algorithm or end of {kid} than this database")]
    OtherKey { kid: Kid },
    #[error(
        "the manifest names version {version} of the root, which is not recorded here: see `keys root record`"
    )]
    UnknownRoot { version: u32 },
    #[error("the root is not the first one of this issuer and environment, or another one is recorded here")]
    OtherRoot,
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
    #[error(transparent)]
    Recovery(#[from] RecoveryRefusal),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error("the root is refused: {0}")]
    RootRefused(#[source] Box<RootError>),
    #[error(
        "safe mode: {reason}. No key changes until `token-authority recover` has told this database what it forgot"
    )]
    SafeMode { reason: String },
    #[error(transparent)]
    Publish(#[from] PublishError),

    #[error("the deny list cannot be signed")]
    DenyList(#[from] DenyListError),
    #[error("could not read or write {}", path.display())]
    Anchor { path: PathBuf, source: std::io::Error },
    #[error("the stored public half of {0} is missing")]
    MissingKey(Kid),
    #[error("someone else changed the keys at the same time")]
    Raced,
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error("the key set cannot be written down")]
    KeySet(#[from] KeySetError),
    #[error("the key set that was just signed does not verify")]
    Manifest(#[from] ManifestError),
    #[error("a root that was recorded or just signed does not verify")]
    Root(#[from] RootError),
    #[error("the document cannot be signed")]
    Signed(#[from] SignedError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}
