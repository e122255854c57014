//! What the commands that change keys share: who does it, and how a "no" is told.

use nix::unistd::{User, getuid};

use super::CliError;
use crate::config::Settings;
use crate::rotation::RotationError;
use crate::rotation::anchors::Anchors;

/// Who changes keys by the command line, for the audit.
pub(super) fn actor() -> String {
    let uid = getuid();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    format!("command_line:{name}")
}

/// Where this deployment keeps what no restore of its database can take back.
pub(super) fn anchors(settings: &Settings) -> Anchors {
    Anchors::new(&settings.keys_dir, settings.environment.as_str(), settings.anchors_dir.as_deref())
}

/// Tells a refusal as it is, and a fault with what the command was `doing`.
pub(super) fn refusal_or_fault(doing: &'static str) -> impl FnOnce(RotationError) -> CliError {
    move |error| match error {
        RotationError::Refused(refusal) => CliError::refused(format!("{refusal} ({})", refusal.code())),
        RotationError::AlreadyBorn
        | RotationError::OtherRoot
        | RotationError::AlgorithmUnavailable { .. }
        | RotationError::AuditNeeded { .. }
        | RotationError::Busy
        | RotationError::DenyListRefused
        | RotationError::Forked { .. }
        | RotationError::KekNotLost
        | RotationError::NotInSafeMode
        | RotationError::Recovery(_)
        | RotationError::SafeMode { .. }
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
