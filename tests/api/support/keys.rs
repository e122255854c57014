//! A deployment whose first keys are to be made, with everything that it keeps outside the database.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use token_authority::clock::Clock;
use token_authority::domain::key_ring::Algorithm;
use token_authority::keystore::sealing::{KeyEncryption, LocalKek};
use token_authority::rotation::RotationError;
use token_authority::rotation::init::{Birth, Born, init};

use super::database::Database;

/// Its folder goes with this value.
pub(crate) struct NewDeployment {
    pub(crate) folder: TempDir,
    pub(crate) clock: Clock,
    pub(crate) issuer: String,
    pub(crate) kek: Arc<dyn KeyEncryption>,
}

impl NewDeployment {
    pub(crate) fn in_temporary_folder() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::pinned("2026-11-20T12:00:00.5Z".parse().unwrap()),
            issuer: "https://licensing.example".to_owned(),
            kek: Arc::new(LocalKek::new(&[7; 32]).unwrap()),
        }
    }

    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub(crate) fn root_key_file(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    pub(crate) async fn init(&self, database: &Database) -> Result<Born, RotationError> {
        let birth = Birth {
            environment: "development",
            issuer: &self.issuer,
            keys_dir: &self.keys_dir(),
            kek: &*self.kek,
            root_key_file: Some(&self.root_key_file()),
            token_algs: &[Algorithm::EdDsa],
            is_development: true,
            actor: "test",
        };
        init(&database.storage(), &birth, &self.clock).await
    }
}
