//! A key set as it is compiled into a backend: five files, verified again each time the backend starts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::deny_list::{DenyList, DenyListError};
use crate::digest::Digest;
use crate::key_set::KeySet;
use crate::live::LiveVerifier;
use crate::lock::{Lock, LockError};
use crate::manifest::{Manifest, ManifestError, SignedManifest};
use crate::root::{Root, RootError, SignedRoot};
use crate::signed::{SignedError, Verified};
use crate::timestamp::Timestamp;
use crate::verify::Verifier;

/// The files that `token-authority key-set embed` writes, as bytes of the program.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedKeySet<'a> {
    /// `keyset.lock`.
    pub lock: &'a [u8],
    /// `root.json`.
    pub root: &'a [u8],
    /// `manifest.json`.
    pub manifest: &'a [u8],
    /// `jwks.json`.
    pub jwks: &'a [u8],
    /// `deny-list.jws`, if one was taken along.
    pub deny_list: Option<&'a [u8]>,
}

/// An embedded key set that is what its lock and its root say.
#[derive(Clone, Debug)]
pub struct OpenKeySet {
    pub(crate) lock: Lock,
    pub(crate) root: Verified<Root>,
    pub(crate) manifest: Verified<Manifest>,
    pub(crate) keys: KeySet,
    pub(crate) deny_list: Option<Verified<DenyList>>,
    deny_list_jws: Option<String>,
}

/// Why an embedded key set was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The deny list is refused.
    #[error("the embedded deny list is refused: {0}")]
    DenyList(#[from] DenyListError),
    /// The lock cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The manifest or the plain set is refused.
    #[error("the embedded key set is refused: {0}")]
    Manifest(#[from] ManifestError),
    /// The files and the lock do not belong together.
    #[error("{member} is {found}, but keyset.lock says {locked}; embed the key set again")]
    Mismatch {
        /// What differs.
        member: &'static str,
        /// What the files say.
        found: String,
        /// What the lock says.
        locked: String,
    },
    /// The files are of an older key set than the lock.
    #[error(
        "key set {found} is older than the one in keyset.lock ({locked}): embedding never goes back; build the \
         code that you want with the newest set"
    )]
    Rollback {
        /// The version of the files.
        found: u32,
        /// The version in the lock.
        locked: u32,
    },
    /// The root is refused.
    #[error("the embedded root is refused: {0}")]
    Root(#[from] RootError),
}

impl From<SignedError> for EmbeddedError {
    fn from(error: SignedError) -> Self {
        Self::Manifest(error.into())
    }
}

impl EmbeddedKeySet<'_> {
    /// Verifies everything that does not depend on the time: the root against the lock, the manifest against the
    /// root, the plain set against the manifest. An embedded set never expires as a whole: single keys end.
    ///
    /// # Errors
    /// See [`EmbeddedError`]. A build that went through [`build`](crate::build) has none.
    pub fn open(&self) -> Result<OpenKeySet, EmbeddedError> {
        let lock = Lock::parse(self.lock)?;
        let root = SignedRoot::parse(self.root).map_err(RootError::from)?;
        same("the root's digest", root.digest(), lock.root_digest)?;
        let root = root.verify_pinned(lock.root_digest)?;
        same("the root's version", root.version, lock.root_version)?;

        let manifest = SignedManifest::parse(self.manifest)?.verify(&root)?;
        same("the issuer", &manifest.issuer, &lock.issuer)?;
        same("the environment", &manifest.environment, &lock.environment)?;
        if manifest.version < lock.key_set_version {
            let (found, locked) = (manifest.version, lock.key_set_version);
            return Err(EmbeddedError::Rollback { found, locked });
        }
        same("the key set's version", manifest.version, lock.key_set_version)?;
        same("the key set's digest", Digest::of(self.jwks), lock.key_set_digest)?;
        let keys = manifest.matches(self.jwks)?;

        // Its key may have ended since. What it denies stays denied.
        let deny_list_jws = match self.deny_list {
            Some(jws) => Some(str::from_utf8(jws).map_err(|_| DenyListError::Malformed)?.to_owned()),
            None => None,
        };
        let deny_list = deny_list_jws
            .as_ref()
            .map(|jws| DenyList::verify(jws, &manifest, at(manifest.created)))
            .transpose()?;
        let serial = |serial: Option<u64>| serial.map_or_else(|| "none".to_owned(), |n| n.to_string());
        let found = deny_list.as_ref().map(|list| list.serial);
        same("the deny list's serial", serial(found), serial(lock.deny_list_serial))?;
        Ok(OpenKeySet { lock, root, manifest, keys, deny_list, deny_list_jws })
    }
}

fn at(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.unix()).unwrap_or_default())
}

fn same<T: PartialEq + ToString>(member: &'static str, found: T, locked: T) -> Result<(), EmbeddedError> {
    if found == locked {
        return Ok(());
    }
    Err(EmbeddedError::Mismatch { member, found: found.to_string(), locked: locked.to_string() })
}

impl OpenKeySet {
    /// A verifier for these keys that obeys the embedded deny list.
    ///
    /// # Errors
    /// No key of the set is for `audience`.
    pub fn verifier(&self, audience: impl Into<String>, now: SystemTime) -> Result<Verifier, ManifestError> {
        let jwks = self.keys.to_canonical_json();
        let verifier = Verifier::from_manifest(&self.manifest, jwks.as_bytes(), audience)?;
        Ok(match &self.deny_list {
            Some(list) => verifier.with_denials(list.denials(now)),
            None => verifier,
        })
    }

    /// The same with what changes while a process runs: later deny lists, remembered tokens.
    ///
    /// # Errors
    /// No key of the set is for `audience`.
    pub fn live_verifier(
        &self,
        audience: impl Into<String>,
        now: SystemTime,
    ) -> Result<LiveVerifier, EmbeddedError> {
        let jwks = self.keys.to_canonical_json();
        let verifier = LiveVerifier::new(self.manifest.clone(), jwks.as_bytes(), audience)?;
        if let Some(jws) = &self.deny_list_jws {
            // Its key may have ended since: then its entries count all the same, from the moment it was made.
            let made = self.deny_list.as_ref().map_or(now, |list| at(list.created));
            verifier.take_deny_list(jws, made)?;
        }
        Ok(verifier)
    }

    /// What to report of this build: issuer, environment, version and digest.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What the root says about the keys. Deny lists that come later are verified with it.
    #[must_use]
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// The trusted root.
    #[must_use]
    pub fn root(&self) -> &Verified<Root> {
        &self.root
    }

    /// The plain set.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The deny list that was taken along.
    #[must_use]
    pub fn deny_list(&self) -> Option<&Verified<DenyList>> {
        self.deny_list.as_ref()
    }
}
