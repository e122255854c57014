//! The life of signing keys: what the pure key ring decides, made durable.
//!
//! Every change is one transaction: the fence that holds mints off, the step, its rows,
//! one audit row per change. Files follow the commit, from what was committed, so that
//! a crash between the two is mended by running the same command again.

mod audit;
pub mod beat;
pub mod deny_list;
pub mod init;
mod key_set_draft;
pub mod manifests;
pub mod overview;
mod probing;
pub mod published_files;
pub mod roots;
mod transition;

use token_authority_verifier::{DenyListError, KeySetError, ManifestError, RootError, SignedError};

use self::published_files::PublishError;
use crate::domain::key_ring::{KeyRefusal, Kid};
use crate::keystore::KeystoreError;
use crate::keystore::root_key::RootKeyError;
use crate::storage::StorageError;

/// Why a change of keys did not happen. The first group is told to whoever asked; the
/// second is a fault.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("the root was made for development; it signs nothing for `{environment}`")]
    DevelopmentRoot { environment: String },
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
    #[error("no keys in the environment `{environment}` yet; run `token-authority init`")]
    NotInitialized { environment: String },
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error("the root is refused: {0}")]
    RootRefused(#[source] Box<RootError>),
    #[error(transparent)]
    Publish(#[from] PublishError),

    #[error("the deny list cannot be signed")]
    DenyList(#[from] DenyListError),
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
