//! What the operator sees of syncs; handles are made once, not per sync.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::request::{SyncAnswer, SyncError};
use crate::telemetry::metric_names as names;

/// The handles of the sync's metrics.
#[derive(Clone)]
pub(crate) struct SyncMetrics {
    issued: Counter,
    repeated: Counter,
    nothing_granted: Counter,
    duration: Histogram,
    pub(super) queue_depth: Gauge,
    pub(super) oldest_waiting: Gauge,
    pub(super) batch_size: Histogram,
    pub(super) batch_duration: Histogram,
}

impl std::fmt::Debug for SyncMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncMetrics").finish_non_exhaustive()
    }
}

impl SyncMetrics {
    pub(crate) fn new() -> Self {
        Self {
            issued: counter!(names::SYNCS, "code" => "issued"),
            repeated: counter!(names::SYNCS, "code" => "repeated"),
            nothing_granted: counter!(names::SYNCS, "code" => "nothing_granted"),
            duration: histogram!(names::SYNC_DURATION),
            queue_depth: gauge!(names::QUEUE_DEPTH),
            oldest_waiting: gauge!(names::OLDEST_WAITING),
            batch_size: histogram!(names::BATCH_SIZE),
            batch_duration: histogram!(names::BATCH_DURATION),
        }
    }

    pub(super) fn synced(&self, outcome: &Result<SyncAnswer, SyncError>, took: Duration) {
        self.duration.record(took.as_secs_f64());
        match outcome {
            Ok(answer) if answer.tokens.is_empty() => self.nothing_granted.increment(1),
            Ok(answer) if answer.is_retry => self.repeated.increment(1),
            Ok(_) => self.issued.increment(1),
            // Refusals are rare enough to look their counter up.
            Err(error) => counter!(names::SYNCS, "code" => error.code()).increment(1),
        }
    }
}

impl SyncError {
    /// The stable code, as the problem document names it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fault(_) => "internal",
            Self::Refused(obstacle) => obstacle.code(),
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable(_) => "unavailable",
        }
    }
}
