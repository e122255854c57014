//! Signing with the keys of the key-set root, where they are kept: without the service,
//! its settings, its database or a network.
//!
//! Each of n holders has one key; k of them have to sign a root or a manifest. A key
//! remembers beside itself what it has signed, and signs nothing but what follows the
//! published chain: no older number again, no second document under one number, no
//! root or manifest that the holder has not seen the whole way to.

mod changes;
mod document;
mod memory;
mod published;
mod review;

use std::io;
use std::path::PathBuf;

use token_authority_verifier::{Digest, JwkError, Kid, ManifestError, RootError, SignedError};

pub use self::changes::Change;
pub use self::document::{Document, Standing};
pub use self::published::Published;
pub use self::review::{Request, Review, Signature};

use crate::keystore::root_key::RootKeyError;

/// Why nothing was signed, drafted or merged.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    #[error("{} is published already, and says something else: {published}, not {given}", path.display())]
    AlreadyPublished { path: PathBuf, published: Digest, given: Digest },
    #[error("{} does not name the digest of the one before it", path.display())]
    BrokenChain { path: PathBuf },
    #[error(
        "this key has signed another {what} {version}: {signed}. Two under one number are a fork. If the other one \
         was given up before it was published, say so with `--instead-of {signed}`"
    )]
    Fork { what: &'static str, version: u32, signed: Digest },
    #[error("{} cannot be taken for a key: {source}", path.display())]
    HolderKey { path: PathBuf, source: JwkError },
    #[error("{} is no root and no manifest: {source}", path.display())]
    Malformed { path: PathBuf, source: SignedError },
    #[error("{} is damaged; without it nothing tells what this key has signed", path.display())]
    MemoryDamaged { path: PathBuf },
    #[error(
        "this key has signed nothing yet, so it cannot tell the true chain from another: name the digest of a root \
         that you trust with `--trust-root sha256:…`"
    )]
    NoTrust,
    #[error("the {what} is refused: {source}")]
    NotNext { what: &'static str, source: Box<RefusedDocument> },
    #[error("the next {what} is {next}, not {given}")]
    OutOfOrder { what: &'static str, next: u32, given: u32 },
    #[error("this key signs for {expected}; the document is for {given}")]
    OtherChain { expected: String, given: String },
    #[error("the key {kid} is none of the root's: its signature would count for nothing")]
    NotAHolder { kid: Kid },
    #[error(
        "{} lacks {what} {version}, which this key has seen published: it is an old copy",
        path.display()
    )]
    OldCopy { path: PathBuf, what: &'static str, version: u32 },
    #[error("root {newest} is published; the manifest names root {named}")]
    OldRoot { newest: u32, named: u32 },
    #[error("name the folder of what was published before with `--published keys/<environment>`")]
    PublishedNeeded,
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error("no root in {} is {digest}", path.display())]
    TrustNotFound { path: PathBuf, digest: Digest },
    #[error("{} is not to be trusted: {source}", path.display())]
    Untrusted { path: PathBuf, source: Box<RefusedDocument> },

    #[error("could not read or write {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the signature could not be made")]
    Signing(#[source] SignedError),
}

/// What the verifier has against a document.
#[derive(Debug, thiserror::Error)]
pub enum RefusedDocument {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl CeremonyError {
    /// Whether the machine is at fault, not what it was asked.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Signing(_))
    }

    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
