//! What is built, as options of the command line.

use std::error::Error;

use clap::Args;
use token_authority_verifier::build::{EmbeddingError, Policy, build_time};

use crate::cli::CliError;

/// What the build is for.
#[derive(Args, Clone, Debug)]
pub(super) struct PolicyArgs {
    /// The environment that the build is for: a set of another one is refused.
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The backend's audience (the catalog's `jwt_aud`): a set without a key for it is refused.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// Trust a root that was made for development.
    #[arg(long)]
    development: bool,
}

impl PolicyArgs {
    /// At this moment, or at `SOURCE_DATE_EPOCH`.
    pub(super) fn policy(self) -> Policy {
        Policy {
            environment: self.environment,
            audience: self.audience,
            allow_development: self.development,
            now: build_time(),
        }
    }

    pub(super) fn environment(&self) -> Option<&str> {
        self.environment.as_deref()
    }
}

/// A "no" of the build's checks, with what to say on the command line.
pub(super) fn refusal(error: EmbeddingError) -> CliError {
    match error {
        EmbeddingError::Development { .. } => {
            CliError::refused(format!("{error}; say --development if that is what you want"))
        }
        error if error.source().is_some() => CliError::Fault {
            doing: "the key set is not fit to be embedded".to_owned(),
            source: Box::new(error),
        },
        error => CliError::refused(error.to_string()),
    }
}
