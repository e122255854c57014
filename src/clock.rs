//! Where the time comes from: the system's clock, or an instant pinned by a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};

/// The clock of one process. Clones share what they show.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Microseconds since the Unix epoch, moved by hand.
    Pinned(Arc<AtomicI64>),
    System,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::set`] moves it. For tests.
    #[must_use]
    pub fn pinned(at: DateTime<Utc>) -> Self {
        Self(Source::Pinned(Arc::new(AtomicI64::new(at.timestamp_micros()))))
    }

    /// The time now, to the microsecond, which is what PostgreSQL keeps.
    ///
    /// Read once per request, at the edge.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match &self.0 {
            Source::Pinned(at) => at.load(Ordering::SeqCst),
            Source::System => system_now().timestamp_micros(),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// What is issued is dated by the database's clock, so that replicas agree;
    /// a pinned clock stands in for that one too.
    #[must_use]
    pub fn settle(&self, database_now: DateTime<Utc>) -> DateTime<Utc> {
        match &self.0 {
            Source::Pinned(_) => self.now(),
            Source::System => database_now,
        }
    }

    /// Moves a pinned clock. The system's clock stays as it is.
    pub fn set(&self, to: DateTime<Utc>) {
        if let Source::Pinned(at) = &self.0 {
            at.store(to.timestamp_micros(), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_now() -> DateTime<Utc> {
    Utc::now()
}
