//! One thing that was looked at: what it is called, how it stands, and what to do about it.

use serde::Serialize;

/// How a thing stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Could not be looked at, because of something else that is told.
    Unknown,
    /// Works, and will not for ever.
    Warning,
    /// Something does not work, or is not safe.
    Problem,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    /// Stable, for scripts; each is explained in `docs/operations.md`.
    pub(super) code: &'static str,
    pub(super) level: Level,
    /// One sentence.
    pub(super) says: String,
    /// What to do; there for warnings and problems.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(code: &'static str, says: impl Into<String>) -> Self {
        Self { code, level: Level::Good, says: says.into(), remedy: None }
    }

    pub(super) fn unknown(code: &'static str, says: impl Into<String>) -> Self {
        Self { code, level: Level::Unknown, says: says.into(), remedy: None }
    }

    pub(super) fn warning(code: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, level: Level::Warning, says: says.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn problem(code: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, level: Level::Problem, says: says.into(), remedy: Some(remedy.into()) }
    }
}

/// What is looked at, in the order in which it is told.
pub(super) mod codes {
    pub(in crate::cli::doctor) const SETTINGS: &str = "settings";
    pub(in crate::cli::doctor) const LISTEN: &str = "listen";
    pub(in crate::cli::doctor) const DISK: &str = "disk";
    pub(in crate::cli::doctor) const CATALOG: &str = "catalog";
    pub(in crate::cli::doctor) const KEY_ENCRYPTION_KEY: &str = "key_encryption_key";
    pub(in crate::cli::doctor) const DATABASE: &str = "database";
    pub(in crate::cli::doctor) const DIRECT_CONNECTION: &str = "direct_connection";
    pub(in crate::cli::doctor) const DATABASE_VERSION: &str = "database_version";
    pub(in crate::cli::doctor) const DURABILITY: &str = "durability";
    pub(in crate::cli::doctor) const CLOCK: &str = "clock";
    pub(in crate::cli::doctor) const CONNECTIONS: &str = "connections";
    pub(in crate::cli::doctor) const ROLE: &str = "role";
    pub(in crate::cli::doctor) const MIGRATIONS: &str = "migrations";
    pub(in crate::cli::doctor) const PARTITIONS: &str = "partitions";
    pub(in crate::cli::doctor) const ACTIVE_KEYS: &str = "active_keys";
    pub(in crate::cli::doctor) const STANDBY_KEYS: &str = "standby_keys";
    pub(in crate::cli::doctor) const KEY_ENDS: &str = "key_ends";
    pub(in crate::cli::doctor) const PRIVATE_HALVES: &str = "private_halves";
    pub(in crate::cli::doctor) const KEY_SETS: &str = "key_sets";
    pub(in crate::cli::doctor) const ISSUER: &str = "issuer";

    /// All of them.
    #[cfg(test)]
    pub(in crate::cli::doctor) const ALL: &[&str] = &[
        SETTINGS,
        LISTEN,
        DISK,
        CATALOG,
        KEY_ENCRYPTION_KEY,
        DATABASE,
        DIRECT_CONNECTION,
        DATABASE_VERSION,
        DURABILITY,
        CLOCK,
        CONNECTIONS,
        ROLE,
        MIGRATIONS,
        PARTITIONS,
        ACTIVE_KEYS,
        STANDBY_KEYS,
        KEY_ENDS,
        PRIVATE_HALVES,
        KEY_SETS,
        ISSUER,
    ];
}
