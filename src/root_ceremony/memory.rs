//! What a root key remembers, in a file beside it: the chain it signs for, and how far it has seen and signed it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use token_authority_verifier::Digest;

use super::CeremonyError;
use crate::keystore::replace;

/// A numbered document, and the digest of what it says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub(super) version: u32,
    pub(super) digest: Digest,
}

/// Only ever grows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) issuer: String,
    pub(super) environment: String,
    /// The newest root that was followed to: trust goes on from here.
    pub(super) trusted_root: Option<Mark>,
    /// The newest key set that was seen published.
    pub(super) published_key_set: Option<Mark>,
    pub(super) signed_root: Option<Mark>,
    pub(super) signed_key_set: Option<Mark>,
    /// Signed, and given up before it was published.
    pub(super) given_up: Vec<Digest>,
}

/// The memory of one key, which no other process reads until this value goes.
#[derive(Debug)]
pub(super) struct MemoryFile {
    path: PathBuf,
    /// Locked.
    _key: File,
}

impl MemoryFile {
    /// Waits until nobody else signs with this key.
    pub(super) fn lock(key_file: &Path) -> Result<Self, CeremonyError> {
        let key = File::open(key_file).map_err(CeremonyError::io(key_file))?;
        key.lock().map_err(CeremonyError::io(key_file))?;
        let mut path = key_file.as_os_str().to_owned();
        path.push(".signed.json");
        Ok(Self { path: path.into(), _key: key })
    }

    /// What is remembered; `None` for a key that has signed nothing.
    pub(super) fn read(&self) -> Result<Option<Memory>, CeremonyError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|_| CeremonyError::MemoryDamaged { path: self.path.clone() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CeremonyError::io(&self.path)(error)),
        }
    }

    /// Remembers, durably: a signature leaves only afterwards.
    pub(super) fn write(&self, memory: &Memory) -> Result<(), CeremonyError> {
        let text = serde_json::to_vec_pretty(memory)
            .map_err(|error| CeremonyError::io(&self.path)(std::io::Error::other(error)))?;
        replace(&self.path, &text, 0o600).map_err(CeremonyError::io(&self.path))
    }
}
