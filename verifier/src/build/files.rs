//! The folder in a backend's repository that holds its key set.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::EmbeddingError;
use crate::embedded::{EmbeddedKeySet, OpenKeySet};
use crate::lock::Lock;

/// Says what is embedded, and where trust begins.
pub const LOCK: &str = "keyset.lock";
/// The trusted root.
pub const ROOT: &str = "root.json";
/// What the root says about the keys.
pub const MANIFEST: &str = "manifest.json";
/// The keys: a plain set for any JWT library.
pub const JWKS: &str = "jwks.json";
/// The deny list that was taken along, if there was one.
pub const DENY_LIST: &str = "deny-list.jws";

/// The folder's files. Their names stay the same from version to version, so that code can name them.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    pub(super) lock: Vec<u8>,
    pub(super) root: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    pub(super) jwks: Vec<u8>,
    pub(super) deny_list: Option<Vec<u8>>,
}

impl Folder {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is missing or cannot be read.
    pub fn read(path: &Path) -> Result<Self, EmbeddingError> {
        let required = |name: &str| {
            read(&path.join(name))?.ok_or_else(|| EmbeddingError::Nothing {
                what: format!("{name} (`token-authority key-set embed` writes it)"),
                folder: path.to_owned(),
            })
        };
        Ok(Self {
            path: path.to_owned(),
            lock: required(LOCK)?,
            root: required(ROOT)?,
            manifest: required(MANIFEST)?,
            jwks: required(JWKS)?,
            deny_list: read(&path.join(DENY_LIST))?,
        })
    }

    /// The lock alone; `None` before the first embedding.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn lock(path: &Path) -> Result<Option<Lock>, EmbeddingError> {
        Ok(read(&path.join(LOCK))?.map(|json| Lock::parse(&json)).transpose()?)
    }

    /// Verifies the files against each other.
    ///
    /// # Errors
    /// See [`EmbeddedError`](crate::EmbeddedError).
    pub fn open(&self) -> Result<OpenKeySet, EmbeddingError> {
        Ok(self.embedded().open()?)
    }

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as what is compiled in.
    #[must_use]
    pub fn embedded(&self) -> EmbeddedKeySet<'_> {
        EmbeddedKeySet {
            lock: &self.lock,
            root: &self.root,
            manifest: &self.manifest,
            jwks: &self.jwks,
            deny_list: self.deny_list.as_deref(),
        }
    }

    /// Each file with its name.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        // The lock comes last: a folder that was left half written does not fit its old lock, and says so.
        [
            Some((ROOT, self.root.as_slice())),
            Some((MANIFEST, self.manifest.as_slice())),
            Some((JWKS, self.jwks.as_slice())),
            self.deny_list.as_deref().map(|list| (DENY_LIST, list)),
            Some((LOCK, self.lock.as_slice())),
        ]
        .into_iter()
        .flatten()
    }

    /// Writes the files into a folder, each all at once. Returns the names of those that changed.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, into: &Path) -> Result<Vec<&'static str>, EmbeddingError> {
        fs::create_dir_all(into).map_err(EmbeddingError::io("make", into))?;
        let mut changed = Vec::new();
        for (name, content) in self.files() {
            let path = into.join(name);
            if read(&path)?.as_deref() == Some(content) {
                continue;
            }
            let half = into.join(format!(".{name}.new"));
            fs::write(&half, content).map_err(EmbeddingError::io("write", &half))?;
            fs::rename(&half, &path).map_err(EmbeddingError::io("write", &path))?;
            changed.push(name);
        }
        Ok(changed)
    }

    pub(super) fn of(lock: &Lock, [root, manifest, jwks]: [Vec<u8>; 3], deny_list: Option<Vec<u8>>) -> Self {
        Self { path: PathBuf::new(), lock: lock.to_json().into_bytes(), root, manifest, jwks, deny_list }
    }
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, EmbeddingError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddingError::io("read", path)(error)),
    }
}
