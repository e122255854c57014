//! Why a command ended with exit code 1: it was refused, or something broke.

use std::error::Error;

use crate::config::SettingsError;
use crate::embedded_postgres::ClusterError;

/// What a command answers instead of "done".
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Something broke on the way. Printed with its chain of sources.
    #[error("{doing}")]
    Fault {
        /// What the command was doing, as a sentence: "could not read the catalog".
        doing: String,
        /// What broke.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is no. The sentence says why, and what to do about it.
    #[error("{0}")]
    Refused(String),
}

impl CliError {
    /// A "no" with its sentence.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }

    /// Says what the command was doing when `source` broke it; for `map_err`.
    pub fn fault<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let doing = doing.into();
        move |source| Self::Fault { doing, source: source.into() }
    }

    /// What is printed: the sentence, and below it one line per source that says something new.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = self.to_string();
        let mut said = report.clone();
        let mut next = self.source();
        while let Some(source) = next {
            let sentence = source.to_string();
            // Many errors repeat their source in their own sentence.
            if !said.contains(&sentence) {
                report.push_str("\n  because: ");
                report.push_str(&sentence);
                said = sentence;
            }
            next = source.source();
        }
        report
    }
}

/// All of its sentences are for the person at the terminal; those with a source were a fault of the system.
impl From<ClusterError> for CliError {
    fn from(error: ClusterError) -> Self {
        let sentence = error.to_string();
        match error.source() {
            Some(_) => Self::Fault { doing: sentence, source: Box::new(error) },
            None => Self::Refused(sentence),
        }
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        Self::Refused(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("could not connect")]
    struct Outer(#[source] Inner);

    #[test]
    fn a_fault_is_reported_with_everything_that_caused_it() {
        let error: CliError =
            Err::<(), _>(Outer(Inner)).map_err(CliError::fault("could not serve")).unwrap_err();
        assert_eq!(
            error.report(),
            "could not serve\n  because: could not connect\n  because: connection refused"
        );
    }

    #[test]
    fn a_refusal_is_its_sentence_alone() {
        assert_eq!(CliError::refused("no such key").report(), "no such key");
    }
}
