//! The keystore of a command: the key-encryption key from its file, and the digest key from the database.

use std::sync::Arc;

use super::CliError;
use crate::config::Settings;
use crate::domain::sealed::SecretName;
use crate::keystore::{Keystore, kek_file};
use crate::storage::{Database, sealed_secrets};

/// Opens the keystore of this deployment, which `init` made.
///
/// Refuses when `kek_file` is not set or holds no key, and before `init`.
pub(crate) async fn open_keystore(settings: &Settings, database: &Database) -> Result<Keystore, CliError> {
    // The file first: a setting that is missing is told without a database.
    let kek = kek_file::read(settings.kek_file()?).map_err(CliError::fault("could not use `kek_file`"))?;
    let mut tx = database.begin().await.map_err(CliError::fault("could not read the digest key"))?;
    let environment = settings.environment.as_str();
    let digest_key = sealed_secrets::find_latest(&mut tx, environment, SecretName::DigestKey)
        .await
        .map_err(CliError::fault("could not read the digest key"))?
        .ok_or_else(|| {
            CliError::refused(format!(
                "the environment `{environment}` has no keys yet; run `token-authority init`"
            ))
        })?;
    Keystore::open(Arc::new(kek), &digest_key)
        .map_err(CliError::fault("could not open what is sealed; is `kek_file` the one of this deployment?"))
}
