//! A root or a manifest on its way from draft to published: who has signed it, and who still has to.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use token_authority_verifier::{
    Digest, Jwk, Kid, Root, SignedError, SignedManifest, SignedRoot, Timestamp, Verified,
};

use super::CeremonyError;
use crate::keystore::replace;

/// What the root's keys sign. A draft is the same file without signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    Manifest(SignedManifest),
    Root(SignedRoot),
}

/// How far a document has come with the keys of one root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The version of the root whose keys are meant.
    pub root_version: u32,
    pub threshold: u32,
    /// Its keys that have signed.
    pub signed: Vec<Kid>,
    /// Its keys that have not.
    pub missing: Vec<Kid>,
}

impl Standing {
    /// How many more of these keys have to sign.
    #[must_use]
    pub fn needed(&self) -> usize {
        usize::try_from(self.threshold).unwrap_or(usize::MAX).saturating_sub(self.signed.len())
    }
}

impl Document {
    /// Reads a file and checks its form, but no signature.
    ///
    /// # Errors
    /// The file cannot be read, or is neither a root nor a manifest.
    pub fn read(path: &Path) -> Result<Self, CeremonyError> {
        let bytes = fs::read(path).map_err(CeremonyError::io(path))?;
        Self::parse(&bytes).map_err(|source| CeremonyError::Malformed { path: path.into(), source })
    }

    /// The same, for what was read already.
    ///
    /// # Errors
    /// It is neither a root nor a manifest.
    pub fn parse(json: &[u8]) -> Result<Self, SignedError> {
        match SignedManifest::parse(json) {
            Ok(manifest) => Ok(Self::Manifest(manifest)),
            Err(refusal) => match SignedRoot::parse(json) {
                Ok(root) => Ok(Self::Root(root)),
                // The refusal of the kind that it was meant to be is the one that helps.
                Err(other) => Err(if is_meant_as_root(json) { other } else { refusal }),
            },
        }
    }

    /// Writes it in place of its draft.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CeremonyError> {
        replace(path, self.to_canonical_json().as_bytes(), 0o644).map_err(CeremonyError::io(path))
    }

    /// Adds the signatures of another copy of the same document.
    ///
    /// # Errors
    /// The other one says something else, or a key has signed the two in different ways.
    pub fn merged(self, other: &Self) -> Result<Self, SignedError> {
        match (self, other) {
            (Self::Manifest(one), Self::Manifest(other)) => one.merged(other).map(Self::Manifest),
            (Self::Root(one), Self::Root(other)) => one.merged(other).map(Self::Root),
            _ => Err(SignedError::OtherPayload),
        }
    }

    /// "manifest" or "root".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "manifest",
            Self::Root(_) => "root",
        }
    }

    #[must_use]
    pub fn version(&self) -> u32 {
        match self {
            Self::Manifest(manifest) => manifest.unverified().version,
            Self::Root(root) => root.unverified().version,
        }
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        match self {
            Self::Manifest(manifest) => &manifest.unverified().issuer,
            Self::Root(root) => &root.unverified().issuer,
        }
    }

    #[must_use]
    pub fn environment(&self) -> &str {
        match self {
            Self::Manifest(manifest) => &manifest.unverified().environment,
            Self::Root(root) => &root.unverified().environment,
        }
    }

    #[must_use]
    pub fn created(&self) -> Timestamp {
        match self {
            Self::Manifest(manifest) => manifest.unverified().created,
            Self::Root(root) => root.unverified().created,
        }
    }

    /// The digest of what is signed; signatures do not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Manifest(manifest) => manifest.digest(),
            Self::Root(root) => root.digest(),
        }
    }

    /// The keys that claim to have signed, whatever their signatures are worth.
    #[must_use]
    pub fn signers(&self) -> Vec<Kid> {
        match self {
            Self::Manifest(manifest) => manifest.signers().collect(),
            Self::Root(root) => root.signers().collect(),
        }
    }

    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        match self {
            Self::Manifest(manifest) => manifest.to_canonical_json(),
            Self::Root(root) => root.to_canonical_json(),
        }
    }

    /// How far it has come with the keys of `root`.
    ///
    /// # Errors
    /// The signature under one of these keys is wrong.
    pub fn standing(&self, root: &Root) -> Result<Standing, SignedError> {
        let signed = self.signed_by(&root.keys)?;
        let missing = root.keys.iter().map(Jwk::kid).filter(|kid| !signed.contains(kid)).collect();
        Ok(Standing { root_version: root.version, threshold: root.threshold, signed, missing })
    }

    /// How far it has come with everyone who has to sign it: for a root its own keys and those of
    /// the one before it, for a manifest the keys of its root.
    ///
    /// # Errors
    /// The signature under one of these keys is wrong.
    pub fn standings(&self, newest: Option<&Verified<Root>>) -> Result<Vec<Standing>, SignedError> {
        let others = newest.into_iter().map(|root| self.standing(root));
        match self {
            Self::Manifest(_) => others.collect(),
            Self::Root(root) => {
                let new = root.unverified();
                let others =
                    others.filter(|standing| !matches!(standing, Ok(old) if old.root_version == new.version));
                others.chain([self.standing(new)]).collect()
            }
        }
    }

    fn signed_by(&self, keys: &[Jwk]) -> Result<Vec<Kid>, SignedError> {
        let signed = match self {
            Self::Manifest(manifest) => manifest.signed_by(keys),
            Self::Root(root) => root.signed_by(keys),
        };
        Ok(signed?.into_iter().collect())
    }
}

/// Only roots have a threshold.
fn is_meant_as_root(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        payload: String,
    }
    use base64::Engine;
    serde_json::from_slice::<Envelope>(json)
        .ok()
        .and_then(|envelope| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(envelope.payload).ok())
        .and_then(|payload| serde_json::from_slice::<serde_json::Value>(&payload).ok())
        .is_some_and(|payload| payload.get("threshold").is_some())
}
