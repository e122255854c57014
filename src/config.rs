//! Typed settings from a TOML file and `TOKEN_AUTHORITY_…` variables: unknown names are refused, and all
//! problems are told at once.

mod fields;
mod reader;
#[cfg(test)]
mod reference;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub use fields::{FIELDS, Field, Settings};
pub(crate) use values::parse_duration;
pub use values::{EnvironmentName, Issuer, LogFilter, LogFormat, Network, Ratio};

use reader::Reader;

/// What the name of every variable starts with.
pub const PREFIX: &str = "TOKEN_AUTHORITY_";

/// Variables with our prefix that are no settings: they choose where settings come from.
const RESERVED_VARIABLES: &[&str] = &["TOKEN_AUTHORITY_CONFIG"];

/// What the manifests of our key sets tell verifiers (`max_token_ttl`).
const LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

/// The longest month, and the days that a token lives.
const SHORTEST_LEDGER_RETENTION_DAYS: u16 = 35;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The setting as its author wrote it: a variable, or a key and its file.
    pub setting: String,
    /// What is wrong. Never holds the value.
    pub says: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.setting, self.says)
    }
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsError(
    /// One or more.
    pub Vec<Problem>,
);

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [problem] => write!(f, "the settings are wrong: {problem}"),
            problems => {
                write!(f, "the settings are wrong in {} places:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl Settings {
    /// Reads the file, if there is one, and this process's variables, which win over it.
    ///
    /// # Errors
    /// Everything that is wrong, all at once.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut unreadable = Vec::new();
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) => variables.push((name.to_owned(), value)),
                Err(_) => {
                    unreadable.push(Problem { setting: name.to_owned(), says: "is not UTF-8".to_owned() })
                }
            }
        }
        match Self::from_sources(file, variables) {
            Ok(settings) if unreadable.is_empty() => Ok(settings),
            Ok(_) => Err(SettingsError(unreadable)),
            Err(SettingsError(problems)) => Err(SettingsError([unreadable, problems].concat())),
        }
    }

    /// Reads the file, if there is one, and `variables`, which win over it.
    ///
    /// # Errors
    /// Everything that is wrong, all at once.
    pub fn from_sources(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut reader = Reader::collect(file, variables).map_err(SettingsError)?;
        let settings = Self::read(&mut reader);
        if let Some(settings) = &settings {
            settings.check_between_fields(&mut reader);
        }
        match settings {
            Some(settings) if reader.problems.is_empty() => Ok(settings),
            _ => Err(SettingsError(reader.problems)),
        }
    }

    /// The database's URL, from the setting or from its file.
    ///
    /// # Errors
    /// Neither is set, or the file cannot be read.
    pub fn database_url(&self) -> Result<SecretString, SettingsError> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(path)) => read_secret("database_url_file", path),
            (None, None) => Err(missing(&["database_url", "database_url_file"], "where the database is")),
        }
    }

    /// The database's URL without the pooler in between; `None` where there is none.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn direct_database_url(&self) -> Result<Option<SecretString>, SettingsError> {
        match (&self.direct_database_url, &self.direct_database_url_file) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(path)) => read_secret("direct_database_url_file", path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The file of the key-encryption key.
    ///
    /// # Errors
    /// It is not set.
    pub fn kek_file(&self) -> Result<&Path, SettingsError> {
        required(self.kek_file.as_deref(), "kek_file", "the key-encryption key that seals signing keys")
    }

    /// The file of the key-set root's private half, for development.
    ///
    /// # Errors
    /// It is not set.
    pub fn root_key_file(&self) -> Result<&Path, SettingsError> {
        required(self.root_key_file.as_deref(), "root_key_file", "the root that signs key sets")
    }

    /// The folder of the catalog.
    ///
    /// # Errors
    /// It is not set.
    pub fn catalog_dir(&self) -> Result<&Path, SettingsError> {
        required(self.catalog_dir.as_deref(), "catalog_dir", "the catalog of what is sold")
    }

    /// Who issues the tokens.
    ///
    /// # Errors
    /// It is not set.
    pub fn issuer(&self) -> Result<&Issuer, SettingsError> {
        required(self.issuer.as_ref(), "issuer", "the `iss` of every token")
    }

    /// Whether everything is there that `serve` needs.
    ///
    /// # Errors
    /// Each setting that is missing, all at once.
    pub fn check_complete_for_serving(&self) -> Result<(), SettingsError> {
        let problems: Vec<Problem> =
            [self.database_url().err(), self.kek_file().err(), self.catalog_dir().err(), self.issuer().err()]
                .into_iter()
                .flatten()
                .flat_map(|SettingsError(problems)| problems)
                .collect();
        if problems.is_empty() { Ok(()) } else { Err(SettingsError(problems)) }
    }

    fn check_between_fields(&self, reader: &mut Reader) {
        if self.database_url.is_some() && self.database_url_file.is_some() {
            reader.complain("database_url", "and `database_url_file` are both set; keep one of them");
        }
        if self.direct_database_url.is_some() && self.direct_database_url_file.is_some() {
            reader.complain(
                "direct_database_url",
                "and `direct_database_url_file` are both set; keep one of them",
            );
        }
        if self.ledger_retention_days < SHORTEST_LEDGER_RETENTION_DAYS {
            reader.complain(
                "ledger_retention_days",
                "must be 35 at least, or a token of last month is forgotten",
            );
        }
        if self.tls_certificate_file.is_some() != self.tls_key_file.is_some() {
            reader.complain(
                "tls_certificate_file",
                "and `tls_key_file` go together: set both, or none of them",
            );
        }
        if self.issuer.as_ref().is_some_and(Issuer::is_exposed) && !self.environment.is_development() {
            reader.complain("issuer", "must be `https`, since its host is not this machine");
        }
        if self.sync_interval >= self.token_lifetime {
            reader.complain(
                "sync_interval",
                "must be shorter than `token_lifetime`, or access lapses between syncs",
            );
        }
        if self.token_lifetime > LONGEST_TOKEN_LIFETIME {
            reader
                .complain("token_lifetime", "must be 72h at most: verifiers refuse tokens that live longer");
        }
        if self.joint_token_lifetime > LONGEST_TOKEN_LIFETIME {
            reader.complain(
                "joint_token_lifetime",
                "must be 72h at most: verifiers refuse tokens that live longer",
            );
        }
        if self.token_algs.is_empty() {
            reader.complain("token_algs", "must name an algorithm: without one nothing can be signed");
        }
        if self.sync_batch_size > self.sync_queue_limit {
            reader.complain("sync_queue_limit", "must hold at least one batch (`sync_batch_size`)");
        }
        if self.root_key_file.is_some() && !self.environment.is_development() && !self.allow_local_root {
            reader.complain(
                "root_key_file",
                "is for `environment = \"development\"`; elsewhere the root stays offline, unless \
                 `allow_local_root` is set",
            );
        }
    }
}

fn required<'a, T: ?Sized>(value: Option<&'a T>, name: &str, what: &str) -> Result<&'a T, SettingsError> {
    value.ok_or_else(|| missing(&[name], what))
}

/// Names what to set, in both of its spellings.
fn missing(names: &[&str], what: &str) -> SettingsError {
    let setting = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let variables: Vec<String> =
        names.iter().map(|name| format!("{PREFIX}{}", name.to_ascii_uppercase())).collect();
    let says = format!("is not set ({what}); set it in the file, or {}", variables.join(" or "));
    SettingsError(vec![Problem { setting, says }])
}

fn read_secret(name: &str, path: &PathBuf) -> Result<SecretString, SettingsError> {
    let problem = |says: String| SettingsError(vec![Problem { setting: format!("`{name}`"), says }]);
    let text = std::fs::read_to_string(path)
        .map_err(|error| problem(format!("names {}, which cannot be read: {error}", path.display())))?;
    // Editors and `echo` end files with a newline that is no part of the secret.
    let secret = SecretString::from(text.trim_end_matches(['\r', '\n']));
    if secret.expose_secret().is_empty() {
        return Err(problem(format!("names {}, which is empty", path.display())));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn from_variables(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_sources(None, owned(variables))
    }

    fn from_file(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Settings::from_sources(Some(file.path()), owned(variables))
    }

    fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn sentence(outcome: Result<Settings, SettingsError>) -> String {
        outcome.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn without_any_source_every_default_holds() {
        let settings = from_variables(&[]).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(settings.token_lifetime.as_secs(), 8 * 3600);
        assert_eq!(settings.grace_days, 14);
        assert_eq!(settings.environment.as_str(), "production");
        assert!(settings.trusted_proxies.is_empty());
        assert!(settings.kek_file.is_none());
        for (field, effective) in FIELDS.iter().zip(settings.effective()) {
            assert_eq!(effective.as_deref(), field.default, "{} is not shown as it is written", field.name);
        }
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let file = "grace_days = 7\nlisten = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
        let settings = from_file(file, &[("TOKEN_AUTHORITY_GRACE_DAYS", "3"), ("UNRELATED", "x")]).unwrap();
        assert_eq!(settings.grace_days, 3);
        assert_eq!(settings.listen.port(), 80);
        assert_eq!(settings.trusted_proxies.len(), 2);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(from_variables(&[("TOKEN_AUTHORITY_GRACE_DAYS", "")]).unwrap().grace_days, 14);
    }

    #[test]
    fn unknown_names_are_refused_and_the_nearest_one_is_suggested() {
        assert_eq!(
            sentence(from_variables(&[("TOKEN_AUTHORITY_KEK_FIL", "x")])),
            "the settings are wrong: TOKEN_AUTHORITY_KEK_FIL is no setting; did you mean `kek_file`?"
        );
        assert_eq!(
            sentence(from_variables(&[("TOKEN_AUTHORITY_QQQQQ", "x")])),
            "the settings are wrong: TOKEN_AUTHORITY_QQQQQ is no setting; `token-authority config list` shows \
             all of them"
        );
        assert!(sentence(from_file("isuer = 'https://a.example'", &[])).contains("did you mean `issuer`?"));
        assert!(sentence(from_file("[database]\nurl = 'x'", &[])).contains("`database` is no setting"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let told = sentence(from_file(
            "grace_days = 'many'\nworkers = 0\nnonsense = 1\nkek_file = { path = 'x' }",
            &[("TOKEN_AUTHORITY_LISTEN", "somewhere"), ("TOKEN_AUTHORITY_LOG_FILTER", "a=b=c")],
        ));
        assert!(told.starts_with("the settings are wrong in 6 places:"), "{told}");
        for part in [
            "`grace_days` in ",
            "`workers` in ",
            "`nonsense` in ",
            "`kek_file` must",
            "_LISTEN ",
            "_LOG_FILTER ",
        ] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let both =
            [("TOKEN_AUTHORITY_DATABASE_URL", "postgres://a"), ("TOKEN_AUTHORITY_DATABASE_URL_FILE", "b")];
        assert!(sentence(from_variables(&both)).contains("are both set"));
        let exposed = ("TOKEN_AUTHORITY_ISSUER", "http://tokens.example.com");
        assert!(sentence(from_variables(&[exposed])).contains("must be `https`"));
        assert!(from_variables(&[exposed, ("TOKEN_AUTHORITY_ENVIRONMENT", "development")]).is_ok());
        assert!(
            sentence(from_variables(&[("TOKEN_AUTHORITY_SYNC_INTERVAL", "8h")])).contains("`token_lifetime`")
        );
        assert!(
            sentence(from_variables(&[("TOKEN_AUTHORITY_TOKEN_LIFETIME", "73h")])).contains("72h at most")
        );
        assert!(sentence(from_variables(&[("TOKEN_AUTHORITY_SYNC_QUEUE_LIMIT", "8")])).contains("one batch"));
        assert!(
            sentence(from_variables(&[("TOKEN_AUTHORITY_ROOT_KEY_FILE", "r")])).contains("stays offline")
        );
    }

    #[test]
    fn what_serving_needs_is_named_in_both_spellings() {
        let settings = from_variables(&[("TOKEN_AUTHORITY_DATABASE_URL", "postgres://a")]).unwrap();
        let told = settings.check_complete_for_serving().unwrap_err().to_string();
        assert!(told.contains("`kek_file` is not set"), "{told}");
        assert!(told.contains("TOKEN_AUTHORITY_KEK_FILE"), "{told}");
        assert!(told.contains("`catalog_dir`") && told.contains("`issuer`"), "{told}");
        assert!(!told.contains("database_url"), "{told}");
    }

    #[test]
    fn the_database_url_comes_from_its_file_without_the_line_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"postgres://user:hunter2@db/authority\n").unwrap();
        let path = file.path().display().to_string();
        let settings = from_variables(&[("TOKEN_AUTHORITY_DATABASE_URL_FILE", &path)]).unwrap();
        let url = settings.database_url().unwrap();
        assert_eq!(url.expose_secret(), "postgres://user:hunter2@db/authority");
        let gone = from_variables(&[("TOKEN_AUTHORITY_DATABASE_URL_FILE", "/nowhere/url")]).unwrap();
        assert!(gone.database_url().unwrap_err().to_string().contains("/nowhere/url"));
    }

    #[test]
    fn no_password_is_printed() {
        let url = ("TOKEN_AUTHORITY_DATABASE_URL", "postgres://user:hunter2@db/authority");
        let settings = from_variables(&[url]).unwrap();
        assert!(!format!("{settings:?} {:?}", settings.effective()).contains("hunter2"));
        // A file that breaks on the very line that holds the password.
        let broken = sentence(from_file("database_url = \"postgres://user:hunter2@db\n", &[]));
        assert!(!broken.contains("hunter2"), "{broken}");
        assert!(broken.contains("line 1"), "{broken}");
        let twice = sentence(from_file("database_url = 'hunter2'\ndatabase_url = 'hunter2'\n", &[]));
        assert!(!twice.contains("hunter2"), "{twice}");
    }

    #[test]
    fn a_settings_file_that_is_not_there_is_refused() {
        let told = sentence(Settings::from_sources(Some(Path::new("/nowhere/settings.toml")), []));
        assert!(told.contains("/nowhere/settings.toml"), "{told}");
    }
}
