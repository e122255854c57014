//! What the operator sees of syncs; handles are made once, not per sync.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::LANES;
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
    oldest_waiting: Gauge,
    /// Of each lane, since when the oldest sync of the batch in hand waits.
    in_hand: Arc<[Mutex<Option<Instant>>]>,
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
            in_hand: (0..LANES).map(|_| Mutex::new(None)).collect(),
            batch_size: histogram!(names::BATCH_SIZE),
            batch_duration: histogram!(names::BATCH_DURATION),
        }
    }

    /// A lane takes a batch in hand, or has answered it (`None`).
    pub(super) fn set_in_hand(&self, lane: usize, oldest: Option<Instant>) {
        *self.in_hand[lane].lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    /// Shows how long the oldest sync has waited: what is in hand is older than all that queues behind it.
    pub(super) fn show_oldest_waiting(&self) {
        let since = |lane: &Mutex<Option<Instant>>| *lane.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = self.in_hand.iter().filter_map(since).min();
        self.oldest_waiting.set(oldest.map_or(0.0, |since| since.elapsed().as_secs_f64()));
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
            Self::NotGranted(_) => "not_granted",
            Self::Unavailable(_) => "unavailable",
        }
    }
}
