//! Published files are append-only: written once, byte for byte, and never replaced.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::keystore::write_once;

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
