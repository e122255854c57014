//! What must be the same at the next start: the issuer, and the credentials of the demonstration.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CliError;
use super::data_directory::DataDirectory;
use super::listening::Listening;
use crate::domain::credential::{Credential, CredentialKind};
use crate::keystore::replace;

/// What the demonstration's user needs, shown at every start.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) activation_code: Credential,
    pub(super) admin_token: Credential,
}

/// Remembered from one start to the next.
#[derive(Debug, Default)]
pub(super) struct State {
    copied_example: Option<String>,
    credentials: Option<Credentials>,
    issuer: Option<String>,
}

/// As it is written: only its owner may read the file.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    activation_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token: Option<String>,
    /// The digest of the example catalog that was copied into the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_example: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
}

impl State {
    /// What the previous start wrote; nothing at the first one.
    pub(super) fn read_or_new(directory: &DataDirectory) -> Result<Self, CliError> {
        let file = directory.state_file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CliError::fault(format!("could not read {}", file.display()))(error)),
        };
        // The reason would quote what it could not read.
        let damaged =
            || CliError::refused(format!("{} is damaged; start anew with `--reset`", file.display()));
        let written: Written = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let credentials = match (written.activation_code, written.admin_token) {
            (Some(code), Some(token)) => Some(Credentials {
                activation_code: Credential::parse(CredentialKind::ActivationCode, &code)
                    .ok_or_else(damaged)?,
                admin_token: Credential::parse(CredentialKind::AdminToken, &token).ok_or_else(damaged)?,
            }),
            _ => None,
        };
        Ok(Self { copied_example: written.copied_example, credentials, issuer: written.issuer })
    }

    /// Replaces the file, all at once.
    pub(super) fn save(&self, directory: &DataDirectory) -> Result<(), CliError> {
        let exposed = |credential: &Credential| credential.expose().to_owned();
        let written = Written {
            activation_code: self.credentials.as_ref().map(|known| exposed(&known.activation_code)),
            admin_token: self.credentials.as_ref().map(|known| exposed(&known.admin_token)),
            copied_example: self.copied_example.clone(),
            issuer: self.issuer.clone(),
        };
        let text = serde_json::to_vec_pretty(&written)
            .map_err(CliError::fault("could not write down the state of this deployment"))?;
        replace_file(&directory.state_file(), &text)
    }

    /// The port of the first start.
    pub(super) fn port(&self) -> Option<u16> {
        self.issuer.as_deref()?.rsplit_once(':')?.1.parse().ok()
    }

    /// The issuer of the first start, which is now unless there was one: tokens name it, and verifiers compare
    /// it byte for byte.
    pub(super) fn fix_issuer(&mut self, listening: &Listening) -> &str {
        self.issuer.get_or_insert_with(|| format!("http://{}", listening.address()))
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn set_credentials(&mut self, credentials: Credentials) {
        self.credentials = Some(credentials);
    }

    pub(super) fn copied_example(&self) -> Option<&str> {
        self.copied_example.as_deref()
    }

    pub(super) fn copy_example(&mut self, digest: &str) {
        self.copied_example = Some(digest.to_owned());
    }
}

/// Replaces a file that only its owner may read. After a crash it is the old one or the new one.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> Result<(), CliError> {
    replace(path, content, 0o600).map_err(CliError::fault(format!("could not write {}", path.display())))
}
