//! What a build does with key sets: takes a published one into the backend's repository, checks the one that is
//! there, and hands it to the compiler. Reads files, never the network.

mod checks;
mod contract;
mod files;
mod published;
mod script;

pub use checks::{Policy, check};
pub use contract::{Contract, ContractError};
pub use files::{DENY_LIST, Folder, JWKS, LOCK, MANIFEST, ROOT};
pub use published::{Embedding, Published, Trust};
pub use script::{BuildScript, build_time};

use std::io;
use std::path::PathBuf;

use crate::algorithm::Algorithm;
use crate::deny_list::DenyListError;
use crate::digest::Digest;
use crate::embedded::EmbeddedError;
use crate::lock::LockError;
use crate::manifest::ManifestError;
use crate::root::RootError;
use crate::timestamp::Timestamp;

/// Why a key set is not embedded, or not built with. Each is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// No key of the set is for the backend's audience.
    #[error("no key of the set may sign for the audience {0}; compare it with the catalog's `jwt_aud`")]
    Audience(String),
    /// The declaration of what the backend enforces cannot be used.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The deny list is refused.
    #[error("the deny list is refused: {0}")]
    DenyList(#[from] DenyListError),
    /// The source has no deny list, though one was embedded before.
    #[error(
        "the source has no deny list, but keyset.lock says that list {0} was embedded; take the latest from the \
         service (`--from https://…`), or put it beside the key sets as deny-list.jws"
    )]
    DenyListMissing(u64),
    /// The deny list is older than the embedded one.
    #[error("deny list {found} is older than the one in keyset.lock ({locked}); take the latest")]
    DenyListRollback {
        /// The serial at hand.
        found: u64,
        /// The serial in the lock.
        locked: u64,
    },
    /// The root was made for development.
    #[error(
        "the root of `{environment}` was made for development, and this is not a development build: whoever has \
         that root's file can make keys that this build would trust"
    )]
    Development {
        /// The root's environment.
        environment: String,
    },
    /// The files in the folder are refused.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The set is of another environment or issuer.
    #[error("the key set is for {what} `{found}`, but this build is for `{expected}`")]
    Foreign {
        /// Which of the two.
        what: &'static str,
        /// What the set says.
        found: String,
        /// What is expected.
        expected: String,
    },
    /// One version with two contents.
    #[error(
        "key set {version} has the digest {found}, but keyset.lock says {locked}: one of them is forged, or two \
         services issue under one name; embed nothing until you know which"
    )]
    Fork {
        /// The version that both have.
        version: u32,
        /// The digest at hand.
        found: Digest,
        /// The digest in the lock.
        locked: Digest,
    },
    /// A file cannot be read or written.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// "read" or "write".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The lock cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The manifest or the plain set is refused.
    #[error("the key set is refused: {0}")]
    Manifest(#[from] ManifestError),
    /// There is no key set in the folder.
    #[error("there is no {} in {}", what, folder.display())]
    Nothing {
        /// What is missing.
        what: String,
        /// Where.
        folder: PathBuf,
    },
    /// The set is older than the embedded one.
    #[error(
        "key set {found} is older than the one in keyset.lock ({locked}): embedding never goes back; build the \
         code that you want with the newest set"
    )]
    Rollback {
        /// The version at hand.
        found: u32,
        /// The version in the lock.
        locked: u32,
    },
    /// A root is refused.
    #[error("the root is refused: {0}")]
    Root(#[from] RootError),
    /// A root that the chain needs is missing.
    #[error(
        "root {0} is missing: trust is followed from the root in keyset.lock, one version after the other"
    )]
    RootMissing(u32),
    /// No root at hand is the trusted one.
    #[error("none of the roots is {trusted}; there are: {}", seen.join(", "))]
    RootUnknown {
        /// The digest that is trusted.
        trusted: Digest,
        /// The digests of what is there.
        seen: Vec<String>,
    },
    /// The set is too old to build with.
    #[error(
        "key set {version} may be built with before {build_before} only; take a newer one \
         (`token-authority key-set embed`)"
    )]
    Stale {
        /// Its version.
        version: u32,
        /// The manifest's `build_before`.
        build_before: Timestamp,
    },
    /// A rotation would find this build without the next key.
    #[error(
        "key set {version} holds {usable} {alg} keys that are neither denied nor ended, and needs two: one that \
         signs, and its standby; ask the operator of the issuer to publish a standby"
    )]
    TooFewKeys {
        /// Its version.
        version: u32,
        /// The algorithm.
        alg: Algorithm,
        /// How many are left.
        usable: usize,
    },
}

impl EmbeddingError {
    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
