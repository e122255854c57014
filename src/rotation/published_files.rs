//! Published files are append-only: written once, byte for byte, and never replaced.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use super::RotationError;
use crate::domain::key_ring::Digest;
use crate::keystore::{replace, write_once};
use crate::storage::key_sets::{self, KeySetSummary};

/// The folder of one environment's key sets.
#[derive(Clone, Debug)]
pub struct PublishedFiles {
    folder: PathBuf,
}

impl PublishedFiles {
    /// `keys_dir/<environment>`. Nothing is made yet.
    #[must_use]
    pub fn new(keys_dir: &Path, environment: &str) -> Self {
        Self { folder: keys_dir.join(environment) }
    }

    #[must_use]
    pub fn jwks(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}.jwks.json"))
    }

    #[must_use]
    pub fn manifest(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}.manifest.json"))
    }

    #[must_use]
    pub fn root(&self, version: u32) -> PathBuf {
        self.folder.join("root").join(format!("{version}.root.json"))
    }

    /// Where the manifest of a version waits for its signatures: the same file without them.
    #[must_use]
    pub fn draft(&self, version: u32) -> PathBuf {
        self.folder.join("drafts").join(format!("{version:04}.manifest.json"))
    }

    /// Writes a draft. A draft is nothing that was published: it may be replaced.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_draft(&self, version: u32, content: &[u8]) -> Result<PathBuf, PublishError> {
        let path = self.draft(version);
        let failed = |source| PublishError::Io { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        replace(&path, content, 0o644).map_err(failed)?;
        Ok(path)
    }

    /// Takes a draft away whose manifest was published. A draft that is not there is no fault.
    pub fn drop_draft(&self, version: u32) {
        // Whatever stays of it is refused as a version out of order.
        let _ = fs::remove_file(self.draft(version));
    }

    /// The first file found that was published here; `None` in a fresh folder.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn any(&self) -> Result<Option<PathBuf>, PublishError> {
        for folder in [self.folder.clone(), self.folder.join("root")] {
            let unreadable = |source| PublishError::Io { path: folder.clone(), source };
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            for entry in entries {
                let path = entry.map_err(unreadable)?.path();
                if path.extension().is_some_and(|extension| extension == "json") {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }

    /// Writes a file that is not there yet, durably and all at once; a file that is
    /// there with the same content is what was wanted.
    ///
    /// Returns whether it was written now.
    ///
    /// # Errors
    ///
    /// The file is there with other content, or cannot be written.
    pub fn publish(&self, path: &Path, content: &[u8]) -> Result<bool, PublishError> {
        let failed = |source| PublishError::Io { path: path.into(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match write_once(path, content, 0o644) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if fs::read(path).map_err(failed)? == content {
                    Ok(false)
                } else {
                    Err(PublishError::Differs { path: path.into() })
                }
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// What is published now.
#[derive(Clone, Debug)]
pub struct Written {
    /// The files that were written just now.
    pub paths: Vec<PathBuf>,
    /// The newest root's.
    pub root_digest: Option<Digest>,
    /// The newest key set.
    pub head: Option<KeySetSummary>,
}

/// Writes every file that was recorded and is not there: a crash may have come between the commit and it.
///
/// # Errors
///
/// A file is there with other content, or the database cannot be read.
pub async fn publish_missing(
    connection: &mut PgConnection,
    environment: &str,
    files: &PublishedFiles,
) -> Result<Written, RotationError> {
    let mut written = Written { paths: Vec::new(), root_digest: None, head: None };
    let mut publish = |path: PathBuf, content: &[u8]| -> Result<(), PublishError> {
        if files.publish(&path, content)? {
            written.paths.push(path);
        }
        Ok(())
    };
    for root in key_sets::list_roots(connection, environment).await? {
        publish(files.root(root.version), &root.file)?;
        written.root_digest = Some(root.digest);
    }
    for summary in key_sets::list(connection, environment).await? {
        if let Some(key_set) = key_sets::find(connection, environment, summary.version).await? {
            publish(files.jwks(key_set.version), &key_set.jwks)?;
            publish(files.manifest(key_set.version), &key_set.manifest)?;
        }
        written.head = Some(summary);
    }
    Ok(written)
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(
        "{} is published already, with other content; published files are never changed",
        path.display()
    )]
    Differs { path: PathBuf },
    #[error("could not publish {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_file_is_written_once_and_never_changed() {
        let keys_dir = tempfile::tempdir().unwrap();
        let files = PublishedFiles::new(keys_dir.path(), "development");
        assert_eq!(files.any().unwrap(), None);

        let path = files.jwks(7);
        assert!(path.ends_with("development/0007.jwks.json"));
        assert!(files.publish(&path, b"{}").unwrap());
        assert!(!files.publish(&path, b"{}").unwrap(), "the same content is fine");
        let refusal = files.publish(&path, b"{ }").unwrap_err();
        assert!(matches!(refusal, PublishError::Differs { .. }), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(files.any().unwrap(), Some(path));
    }
}
