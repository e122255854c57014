//! Collects what the file and the environment say, hands it out field by field, and keeps every problem.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Config, ConfigError, Environment, File, FileFormat, Value as Given};

use super::values::Value;
use super::{FIELDS, PREFIX, Problem, RESERVED_VARIABLES};

/// What was given, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Reader {
    given: BTreeMap<String, Given>,
    pub(super) problems: Vec<Problem>,
}

/// The origin that the `config` crate gives to values from variables.
const FROM_ENVIRONMENT: &str = "the environment";

impl Reader {
    /// Reads `file`, if there is one, and the `TOKEN_AUTHORITY_…` among `variables`, which win.
    pub(super) fn collect(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Problem>> {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && !RESERVED_VARIABLES.contains(&name.as_str()))
            .collect();
        let mut sources = Config::builder();
        if let Some(path) = file {
            sources = sources.add_source(File::from(path).format(FileFormat::Toml));
        }
        let environment = Environment::with_prefix(PREFIX.trim_end_matches('_'));
        let collected = sources
            // An empty variable is how compose files and shells say "not set".
            .add_source(environment.prefix_separator("_").ignore_empty(true).source(Some(variables)))
            .build()
            .and_then(|config| config::Source::collect(&config))
            .map_err(|error| vec![unreadable(file, error)])?;
        let mut reader = Self { given: collected.into_iter().collect(), problems: Vec::new() };
        reader.refuse_unknown_names();
        Ok(reader)
    }

    /// The value of one field: what was given, else its default, else "not set".
    ///
    /// `None` says that there was a problem, which is kept.
    pub(super) fn read<T: Value>(&mut self, name: &'static str, default: Option<&str>) -> Option<T> {
        let Some(given) = self.given.remove(name) else {
            return default.map_or_else(T::absent, |default| T::parse(default).ok());
        };
        let setting = told_name(name, &given);
        match text_of(given).and_then(|text| T::parse(&text)) {
            Ok(value) => Some(value),
            Err(says) => {
                self.problems.push(Problem { setting, says });
                None
            }
        }
    }

    /// Tells of a problem between fields.
    pub(super) fn complain(&mut self, name: &str, says: impl Into<String>) {
        self.problems.push(Problem { setting: format!("`{name}`"), says: says.into() });
    }

    fn refuse_unknown_names(&mut self) {
        let known = |name: &str| FIELDS.iter().any(|field| field.name == name);
        for (name, given) in self.given.iter().filter(|(name, _)| !known(name)) {
            let says = match nearest_name(name) {
                Some(nearest) => format!("is no setting; did you mean `{nearest}`?"),
                None => "is no setting; `token-authority config list` shows all of them".to_owned(),
            };
            self.problems.push(Problem { setting: told_name(name, given), says });
        }
    }
}

/// A setting as its author wrote it: a variable, or a key of the file.
fn told_name(name: &str, given: &Given) -> String {
    match given.origin() {
        Some(FROM_ENVIRONMENT) => format!("{PREFIX}{}", name.to_ascii_uppercase()),
        Some(file) => format!("`{name}` in {file}"),
        None => format!("`{name}`"),
    }
}

/// The text of a value; an array of the file becomes the list that a variable would hold.
fn text_of(given: Given) -> Result<String, String> {
    let wrong = || "must be a plain value, not a table".to_owned();
    let one = |value: Given| value.into_string().map_err(|_| wrong());
    match given.clone().into_string() {
        Ok(text) => Ok(text),
        Err(_) => Ok(given
            .into_array()
            .map_err(|_| wrong())?
            .into_iter()
            .map(one)
            .collect::<Result<Vec<_>, _>>()?
            .join(",")),
    }
}

/// Where the file breaks, without the line itself: it may hold a password.
fn unreadable(file: Option<&Path>, error: ConfigError) -> Problem {
    let setting = file.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
    let says = match error {
        ConfigError::FileParse { cause, .. } => {
            let report = cause.to_string();
            let mut lines = report.lines().filter(|line| !line.trim().is_empty());
            let place = lines.next().unwrap_or("is not TOML").trim_end_matches(':').to_owned();
            lines.next_back().map_or(place.clone(), |reason| format!("{place}: {reason}"))
        }
        ConfigError::NotFound(_) => "cannot be read".to_owned(),
        ConfigError::Foreign(cause) => format!("cannot be read: {cause}"),
        _ => "cannot be read as settings".to_owned(),
    };
    Problem { setting, says }
}

/// The known name that differs least, when it differs little.
fn nearest_name(unknown: &str) -> Option<&'static str> {
    FIELDS
        .iter()
        .map(|field| (edit_distance(unknown, field.name), field.name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out or changed to make one name of the other (Levenshtein).
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_setting_and_nonsense_finds_none() {
        assert_eq!(nearest_name("kek_fil"), Some("kek_file"));
        assert_eq!(nearest_name("databse_url"), Some("database_url"));
        assert_eq!(nearest_name("token_liftime"), Some("token_lifetime"));
        assert_eq!(nearest_name("zzzzzzzzzz"), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
