//! A copy of what was published, followed link by link: roots from one that is trusted, manifests from the first.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use token_authority_verifier::{Digest, Manifest, Root, SignedManifest, SignedRoot, Verified};

use super::memory::Mark;
use super::{CeremonyError, RefusedDocument};

/// `keys/<environment>`, or a copy of it on the medium that came with the draft.
#[derive(Clone, Debug)]
pub struct Published {
    folder: PathBuf,
}

impl Published {
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// Every root from the one with this digest on, each vouched for by the one before.
    ///
    /// # Errors
    /// No root has this digest, or one of them is not to be trusted.
    pub fn roots_from(&self, trusted: Digest) -> Result<Vec<Verified<Root>>, CeremonyError> {
        let mut chain: Vec<Verified<Root>> = Vec::new();
        for version in 1.. {
            let path = self.folder.join("root").join(format!("{version}.root.json"));
            let Some(bytes) = read(&path)? else { break };
            let signed = SignedRoot::parse(&bytes).map_err(untrusted(&path))?;
            let root = match chain.last() {
                Some(previous) => signed.verify_successor(previous),
                None if signed.digest() == trusted => signed.verify_pinned(trusted),
                None => continue,
            };
            chain.push(root.map_err(untrusted(&path))?);
        }
        match chain.is_empty() {
            true => Err(CeremonyError::TrustNotFound { path: self.folder.clone(), digest: trusted }),
            false => Ok(chain),
        }
    }

    /// The newest manifest, once its root has signed it and the digests in the chain lead back from it to `seen`;
    /// `None` where nothing was published.
    pub(super) fn head(
        &self,
        roots: &[Verified<Root>],
        seen: Option<Mark>,
    ) -> Result<Option<Verified<Manifest>>, CeremonyError> {
        let mut chain = Vec::new();
        for version in seen.map_or(1, |seen| seen.version).. {
            let path = self.manifest(version);
            let Some(bytes) = read(&path)? else { break };
            let signed = SignedManifest::parse(&bytes).map_err(untrusted(&path))?;
            chain.push((path, signed));
        }
        // The digests lead all the way back, so that the root's word on the newest is its word on all.
        for ((_, earlier), (path, later)) in chain.iter().zip(chain.iter().skip(1)) {
            let prev = later.unverified().prev;
            if prev != Some(earlier.digest()) {
                return Err(CeremonyError::BrokenChain { path: path.clone() });
            }
        }
        match (seen, chain.first()) {
            (Some(Mark { version, .. }), None) => return Err(self.lacks("key set", version)),
            (Some(seen), Some((path, first))) if first.digest() != seen.digest => {
                let (path, published) = (path.clone(), first.digest());
                return Err(CeremonyError::AlreadyPublished { path, published, given: seen.digest });
            }
            _ => {}
        }
        let Some((path, newest)) = chain.pop() else { return Ok(None) };
        let named = newest.unverified().root_version;
        let trusted = roots.iter().find(|root| root.version == named).cloned();
        let root = match (trusted, roots.first()) {
            (Some(root), _) => root,
            // Trust begins later than this: what it signed is taken as it was published, and the digests lead on.
            (None, Some(first)) if named < first.version => self.root_as_published(named)?,
            (None, _) => {
                let newest = roots.last().map_or(0, |root| root.version);
                return Err(CeremonyError::OldRoot { newest, named });
            }
        };
        newest.verify(&root).map(Some).map_err(untrusted(&path))
    }

    fn root_as_published(&self, version: u32) -> Result<Verified<Root>, CeremonyError> {
        let path = self.folder.join("root").join(format!("{version}.root.json"));
        let bytes = read(&path)?.ok_or_else(|| self.lacks("root", version))?;
        let signed = SignedRoot::parse(&bytes).map_err(untrusted(&path))?;
        signed.verify_pinned(signed.digest()).map_err(untrusted(&path))
    }

    /// That something is not there which was.
    pub(super) fn lacks(&self, what: &'static str, version: u32) -> CeremonyError {
        CeremonyError::OldCopy { path: self.folder.clone(), what, version }
    }

    fn manifest(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}.manifest.json"))
    }
}

fn untrusted<E: Into<RefusedDocument>>(path: &Path) -> impl FnOnce(E) -> CeremonyError {
    let path = path.to_owned();
    |source| CeremonyError::Untrusted { path, source: Box::new(source.into()) }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CeremonyError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CeremonyError::io(path)(error)),
    }
}
