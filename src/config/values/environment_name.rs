//! The name of an environment, which is also that of a folder.

use std::fmt;
use std::str::FromStr;

use super::Value;

/// The name of an environment: it is also a folder under `keys_dir`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the environment in which a development root, plain `http` and the like are allowed.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.0 == "development"
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for EnvironmentName {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let named = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed);
        if named && text.len() <= 40 {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a name of lower-case letters, digits and `-` that starts with a letter, of 40 \
                 characters at most"
                .to_owned())
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromStr for EnvironmentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_cannot_leave_its_folder() {
        assert!(EnvironmentName::parse("development").unwrap().is_development());
        assert!(!EnvironmentName::parse("staging-2").unwrap().is_development());
        for wrong in ["", "..", "a/b", "Production", "-a", "2a", "a_b"] {
            assert!(EnvironmentName::parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
