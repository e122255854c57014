//! What can go wrong with the database.

use std::error::Error;
use std::fmt;

use sqlx::error::DatabaseError;

/// A fault of the database, or what it refused. Never holds a bound value.
#[derive(Debug)]
pub struct StorageError(sqlx::Error);

impl StorageError {
    /// What is stored cannot be what was written: it breaks a rule that the program keeps.
    #[must_use]
    pub fn corrupt(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(sqlx::Error::Decode(why.into()))
    }

    /// Whether the database could not be reached, or is starting, stopping or out of
    /// connections: the same request may succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match &self.0 {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => {
                error.code().is_some_and(|code| UNAVAILABLE.iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        }
    }

    /// Whether two transactions waited for each other, and the database ended this one.
    #[must_use]
    pub fn is_deadlock(&self) -> bool {
        self.sql_state().is_some_and(|state| state == "40P01")
    }

    /// Whether a lock was not to be had within the time that the transaction allowed.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        self.sql_state().is_some_and(|state| state == "55P03")
    }

    /// The constraint that refused a row, if one did.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.0.as_database_error().and_then(DatabaseError::constraint)
    }

    /// The SQLSTATE, if the database answered with one.
    #[must_use]
    pub fn sql_state(&self) -> Option<String> {
        self.0.as_database_error().and_then(DatabaseError::code).map(std::borrow::Cow::into_owned)
    }
}

/// SQLSTATE classes and codes of a server that is away for a while (PostgreSQL, appendix A):
/// connection exceptions, insufficient resources, operator intervention, lock timeouts,
/// read-only after a failover.
const UNAVAILABLE: &[&str] = &["08", "53", "57P", "57014", "55P03", "25006"];

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // The driver's own sentence may quote a row's values in its detail; the message does not.
            sqlx::Error::Database(error) => {
                write!(f, "the database refused: {}", error.message())?;
                if let Some(constraint) = error.constraint() {
                    write!(f, " ({constraint})")?;
                }
                Ok(())
            }
            error => write!(f, "the database failed: {error}"),
        }
    }
}

impl Error for StorageError {}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}
