//! A published key set on its way into a backend's repository.

use std::fs;
use std::path::Path;

use super::EmbeddingError;
use super::checks::{Policy, check};
use super::files::{DENY_LIST, Folder, read};
use crate::deny_list::{DenyList, DenyListError};
use crate::digest::Digest;
use crate::embedded::OpenKeySet;
use crate::lock::Lock;
use crate::manifest::{Manifest, ManifestError, SignedManifest};
use crate::root::{Root, RootError, SignedRoot};
use crate::signed::Verified;

/// A key set as the issuer publishes it. Nothing of it is believed yet.
#[derive(Clone, Debug)]
pub struct Published {
    /// The roots that are there, oldest first: at least from the trusted one to the one that signed.
    pub roots: Vec<Vec<u8>>,
    /// `0007.manifest.json`.
    pub manifest: Vec<u8>,
    /// `0007.jwks.json`.
    pub jwks: Vec<u8>,
    /// The latest deny list, if the source has one.
    pub deny_list: Option<Vec<u8>>,
}

/// Where trust begins.
#[derive(Clone, Debug)]
pub enum Trust {
    /// With the embedding before, which also says what must not become older.
    Lock {
        /// Its `keyset.lock`.
        lock: Lock,
        /// Its deny list: kept while it is the latest. An issuer signs an unchanged list anew every hour, which
        /// would make two builds differ.
        deny_list: Option<Vec<u8>>,
        /// Its manifest: the same version must be it, and the next one must follow it.
        manifest: Option<Vec<u8>>,
    },
    /// With the root of this digest, which the person who embeds knows from elsewhere.
    Root(Digest),
}

/// A key set that may be embedded.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// What it says.
    pub set: OpenKeySet,
    /// What to write. The same inputs give the same bytes, at any time and on any machine.
    pub folder: Folder,
}

const MANIFEST_ENDING: &str = ".manifest.json";

impl Published {
    /// Reads a version, or the highest one, from a folder as issuers publish it (`keys/<environment>`).
    ///
    /// # Errors
    /// The folder has no such version, or cannot be read.
    pub fn read(folder: &Path, version: Option<u32>) -> Result<Self, EmbeddingError> {
        let versions = numbers(folder, MANIFEST_ENDING)?;
        let nothing = |what: String| EmbeddingError::Nothing { what, folder: folder.to_owned() };
        let version = match version {
            Some(version) => version,
            None => versions.into_iter().max().ok_or_else(|| nothing(format!("0001{MANIFEST_ENDING}")))?,
        };
        let required = |name: String| read(&folder.join(&name))?.ok_or_else(|| nothing(name));
        let mut roots = Vec::new();
        let mut root_versions = numbers(&folder.join("root"), ".root.json")?;
        root_versions.sort_unstable();
        for root in root_versions {
            roots.push(required(format!("root/{root}.root.json"))?);
        }
        Ok(Self {
            roots,
            manifest: required(format!("{version:04}{MANIFEST_ENDING}"))?,
            jwks: required(format!("{version:04}.jwks.json"))?,
            deny_list: read(&folder.join(DENY_LIST))?,
        })
    }

    /// Makes every check there is on a key set before it becomes part of a build.
    ///
    /// # Errors
    /// See [`EmbeddingError`].
    pub fn check(&self, trust: &Trust, policy: &Policy) -> Result<Embedding, EmbeddingError> {
        // 1. Who signed: from the trusted root to the one that the manifest names, none left out.
        let manifest = SignedManifest::parse(&self.manifest).map_err(ManifestError::from)?;
        let (signed_root, root) = self.follow(trust, manifest.unverified().root_version)?;
        let verified = manifest.verify(&root)?;
        verified.matches(&self.jwks)?;

        // 2. Nothing goes back.
        if let Trust::Lock { lock, manifest, .. } = trust {
            goes_on(lock, &verified)?;
            if let Some(embedded) = manifest {
                self.follows(embedded, trust, &verified)?;
            }
        }

        // 3. The deny list comes along.
        let (deny_list, serial) = match self.latest_deny_list(trust, &verified, policy)? {
            Some((jws, serial)) => (Some(jws), Some(serial)),
            None => (None, None),
        };

        // 4. What is written is what a build will read: it passes the build's own checks.
        let lock = Lock {
            issuer: verified.issuer.clone(),
            environment: verified.environment.clone(),
            root_version: root.version,
            root_digest: root.digest(),
            key_set_version: verified.version,
            key_set_digest: verified.jwks_sha256,
            deny_list_serial: serial,
        };
        let root = signed_root.to_canonical_json().into_bytes();
        let manifest = manifest.to_canonical_json().into_bytes();
        let folder = Folder::of(&lock, [root, manifest, self.jwks.clone()], deny_list);
        let set = folder.open()?;
        check(&set, policy)?;
        Ok(Embedding { set, folder })
    }

    /// Checks a set against the one that is embedded. One that was left out in between leaves nothing to compare.
    fn follows(
        &self,
        embedded: &[u8],
        trust: &Trust,
        manifest: &Verified<Manifest>,
    ) -> Result<(), EmbeddingError> {
        let embedded = SignedManifest::parse(embedded).map_err(ManifestError::from)?;
        let (_, root) = self.follow(trust, embedded.unverified().root_version)?;
        let embedded = embedded.verify(&root)?;
        if manifest.version == embedded.version && manifest.digest() != embedded.digest() {
            let (found, locked) = (manifest.digest(), embedded.digest());
            return Err(EmbeddingError::Fork { version: manifest.version, found, locked });
        }
        if embedded.version.checked_add(1) == Some(manifest.version) {
            manifest.follows(&embedded)?;
        }
        Ok(())
    }

    /// The list to embed and its serial, which is never lower than the embedded one's.
    fn latest_deny_list(
        &self,
        trust: &Trust,
        manifest: &Verified<Manifest>,
        policy: &Policy,
    ) -> Result<Option<(Vec<u8>, u64)>, EmbeddingError> {
        let serial_of = |jws: &[u8]| {
            let jws = str::from_utf8(jws).map_err(|_| DenyListError::Malformed)?;
            DenyList::verify(jws, manifest, policy.now).map(|list| list.serial)
        };
        let offered = self.deny_list.as_ref().map(|jws| [jws.trim_ascii_end(), b"\n"].concat());
        let offered = offered.map(|jws| serial_of(&jws).map(|serial| (jws, serial))).transpose()?;
        let Trust::Lock { lock: Lock { deny_list_serial: Some(locked), .. }, deny_list, .. } = trust else {
            return Ok(offered);
        };
        match offered {
            None => Err(EmbeddingError::DenyListMissing(*locked)),
            Some((_, found)) if found < *locked => {
                Err(EmbeddingError::DenyListRollback { found, locked: *locked })
            }
            Some((jws, found)) => {
                let same = deny_list.as_ref().filter(|kept| serial_of(kept) == Ok(found));
                Ok(Some((same.cloned().unwrap_or(jws), found)))
            }
        }
    }

    fn follow(&self, trust: &Trust, version: u32) -> Result<(SignedRoot, Verified<Root>), EmbeddingError> {
        let trusted = match trust {
            Trust::Lock { lock, .. } => lock.root_digest,
            Trust::Root(digest) => *digest,
        };
        let roots = self.roots.iter().map(|json| SignedRoot::parse(json).map_err(RootError::from));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        let first = roots.iter().find(|root| root.digest() == trusted).ok_or_else(|| {
            let seen = roots.iter().map(|root| root.digest().to_string()).collect();
            EmbeddingError::RootUnknown { trusted, seen }
        })?;
        let (mut signed, mut root) = (first, first.verify_pinned(trusted)?);
        while root.version < version {
            let next = root.version + 1;
            signed = roots
                .iter()
                .find(|root| root.unverified().version == next)
                .ok_or(EmbeddingError::RootMissing(next))?;
            root = signed.verify_successor(&root)?;
        }
        Ok((signed.clone(), root))
    }
}

fn goes_on(lock: &Lock, manifest: &Verified<Manifest>) -> Result<(), EmbeddingError> {
    for (what, found, expected) in [
        ("the issuer", &manifest.issuer, &lock.issuer),
        ("the environment", &manifest.environment, &lock.environment),
    ] {
        if found != expected {
            let (found, expected) = (found.clone(), expected.clone());
            return Err(EmbeddingError::Foreign { what, found, expected });
        }
    }
    let (found, locked) = (manifest.version, lock.key_set_version);
    if found < locked {
        return Err(EmbeddingError::Rollback { found, locked });
    }
    if found == locked && manifest.jwks_sha256 != lock.key_set_digest {
        let (found, locked) = (manifest.jwks_sha256, lock.key_set_digest);
        return Err(EmbeddingError::Fork { version: manifest.version, found, locked });
    }
    Ok(())
}

/// The numbers of the files in the folder with this ending; none if there is no such folder.
fn numbers(folder: &Path, ending: &str) -> Result<Vec<u32>, EmbeddingError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EmbeddingError::io("read", folder)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(EmbeddingError::io("read", folder))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(ending)?.parse::<u32>().ok()));
    }
    Ok(numbers)
}
