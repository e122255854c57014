//! What the commands that change keys share: who does it, and how a "no" is told.

use nix::unistd::{User, getuid};

use super::CliError;
use crate::rotation::RotationError;

/// Who changes keys by the command line, for the audit.
pub(super) fn actor() -> String {
    let uid = getuid();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    format!("command_line:{name}")
}

/// Tells a refusal as it is, and a fault with what the command was `doing`.
pub(super) fn refusal_or_fault(doing: &'static str) -> impl FnOnce(RotationError) -> CliError {
    move |error| match error {
        RotationError::Refused(refusal) => CliError::refused(format!("{refusal} ({})", refusal.code())),
        RotationError::AlgorithmUnavailable { .. }
        | RotationError::Busy
        | RotationError::DevelopmentRoot { .. }
        | RotationError::LivesTooLong { .. }
        | RotationError::ManifestRefused(_)
        | RotationError::OtherKey { .. }
        | RotationError::UnknownRoot { .. }
        | RotationError::OtherIssuer { .. }
        | RotationError::PublishedElsewhere { .. }
        | RotationError::NoRoot
        | RotationError::NotInitialized { .. }
        | RotationError::RootRefused(_) => CliError::refused(error.to_string()),
        error => CliError::fault(doing)(error),
    }
}
