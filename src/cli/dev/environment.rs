//! The settings of a development deployment, as variables: for this process and for every other command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::data_directory::DataDirectory;
use super::listening::Listening;
use super::state::replace_file;
use super::{CliError, GlobalArgs};
use crate::config::{PREFIX, Settings};

/// What `dev` decides by itself, whatever the caller's variables say: they may be those of another deployment,
/// and this one is filled with demo data.
const DECIDED: [&str; 10] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "DIRECT_DATABASE_URL",
    "DIRECT_DATABASE_URL_FILE",
    "ENVIRONMENT",
    "ISSUER",
    "KEK_FILE",
    "KEYS_DIR",
    "LISTEN",
    "ROOT_KEY_FILE",
];

/// Variables, by name, with which every command reaches this deployment.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// All but the database, which is not there yet. The caller's catalog is taken, if a variable names one.
    pub(super) fn new(directory: &DataDirectory, issuer: &str) -> Result<Self, CliError> {
        let catalog = match caller_set("CATALOG_DIR") {
            Some(named) => {
                std::path::absolute(named).map_err(CliError::fault("could not find the catalog"))?
            }
            None => directory.catalog(),
        };
        let mut environment = Self(BTreeMap::new());
        environment.set("ENVIRONMENT", "development".to_owned());
        environment.set("ISSUER", issuer.to_owned());
        for (name, path) in [
            ("CATALOG_DIR", catalog),
            ("KEK_FILE", directory.kek_file()),
            ("KEYS_DIR", directory.keys()),
            ("ROOT_KEY_FILE", directory.root_key_file()),
        ] {
            environment.set(name, text(&path)?);
        }
        Ok(environment)
    }

    pub(super) fn set_database_url(&mut self, url: String) {
        self.set("DATABASE_URL", url);
    }

    pub(super) fn database_url(&self) -> &str {
        self.0.get(&format!("{PREFIX}DATABASE_URL")).map_or("", String::as_str)
    }

    /// The settings of the service itself: these, those of the caller that `dev` does not decide, and defaults
    /// that suit a terminal.
    pub(super) fn settings(&self, global: &GlobalArgs, listening: &Listening) -> Result<Settings, CliError> {
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in [
            ("LOG_FORMAT", "text".to_owned()),
            ("METRICS_LISTEN", listening.metrics().to_string()),
            ("SHUTDOWN_TIMEOUT", "5s".to_owned()),
        ] {
            variables.insert(format!("{PREFIX}{name}"), value);
        }
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
                && let Some(short) = name.strip_prefix(PREFIX)
                && !value.is_empty()
                && !DECIDED.contains(&short)
            {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        variables.extend(self.0.clone());
        variables.insert(format!("{PREFIX}LISTEN"), listening.address().to_string());
        Ok(Settings::from_sources(global.config.as_deref(), variables)?)
    }

    /// Writes them as lines that a POSIX shell reads (`. …/environment`).
    pub(super) fn write(&self, directory: &DataDirectory) -> Result<(), CliError> {
        let lines: String =
            self.0.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect();
        replace_file(&directory.environment_file(), lines.as_bytes())
    }

    fn set(&mut self, name: &str, value: String) {
        self.0.insert(format!("{PREFIX}{name}"), value);
    }
}

/// One word for a POSIX shell, whatever is in it.
pub(super) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn caller_set(name: &str) -> Option<PathBuf> {
    std::env::var_os(format!("{PREFIX}{name}")).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(path: &Path) -> Result<String, CliError> {
    // Variables and JSON are text.
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CliError::refused(format!("{} is not UTF-8; name another place with `--data-dir`", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quote("postgres://postgres@%2Ftmp:5432/db"), "postgres://postgres@%2Ftmp:5432/db");
        assert_eq!(quote("it's here"), r"'it'\''s here'");
        assert_eq!(quote("$(reboot)"), "'$(reboot)'");
        assert_eq!(quote(""), "''");
    }
}
