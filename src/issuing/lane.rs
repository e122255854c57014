//! One lane: a connection, and the batches that run on it one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::context::FutureExt;
use opentelemetry::trace::TraceContextExt;
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::answers::Answers;
use super::batch::{self, BatchError};
use super::request::{SyncError, SyncRequest};
use super::scope_sets::ScopeSets;
use super::{Shared, Waiting};
use crate::storage::fences;
use crate::telemetry::traces;

/// Answers what waits until the last sender is gone.
pub(super) async fn run(index: usize, shared: Arc<Shared>, mut waiting: mpsc::Receiver<Waiting>) {
    let most = shared.settings.sync_batch_size.get();
    let mut lane = Lane { index, shared, connection: None, scope_sets: ScopeSets::default() };
    let mut batch = Vec::with_capacity(most);
    while waiting.recv_many(&mut batch, most).await > 0 {
        lane.answer(&mut batch).await;
        lane.shared.metrics.set_in_hand(index, None);
    }
}

struct Lane {
    index: usize,
    shared: Arc<Shared>,
    /// `None` before the first batch, and after the connection was lost.
    connection: Option<PgConnection>,
    scope_sets: ScopeSets,
}

impl Lane {
    async fn answer(&mut self, batch: &mut Vec<Waiting>) {
        let deadline = self.shared.settings.sync_deadline;
        // Nobody waits for these any more; they hear of it by their own deadline.
        batch.retain(|one| !one.answer.is_closed() && one.since.elapsed() < deadline);
        let Some(oldest) = batch.iter().map(|one| one.since).min() else { return };
        let metrics = &self.shared.metrics;
        metrics.set_in_hand(self.index, Some(oldest));
        metrics.batch_size.record(batch.len() as f64);
        let started = Instant::now();
        let size = KeyValue::new("batch.size", i64::try_from(batch.len()).unwrap_or(i64::MAX));
        let trace =
            traces::shared("batch of syncs", batch.iter().filter_map(|one| one.trace.clone()), [size]);

        let (requests, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|one| (one.request, one.answer)).unzip();
        let mut answers = Vec::with_capacity(requests.len());
        // Halves of what failed, so that one bad row fails only its own request.
        let mut ahead: Vec<_> = std::iter::once(0..requests.len()).collect();
        while let Some(range) = ahead.pop() {
            let attempt = self.attempt(&requests[range.clone()]);
            let attempted = match &trace {
                Some(trace) => attempt.with_context(trace.clone()).await,
                None => attempt.await,
            };
            match attempted {
                Ok(answered) => answers.extend(answered),
                Err(error) if range.len() > 1 && error.may_be_one_row() => {
                    let middle = range.start + range.len() / 2;
                    ahead.push(middle..range.end);
                    ahead.push(range.start..middle);
                }
                Err(error) => {
                    error.log(range.len());
                    answers.extend(range.map(|_| Err(error.told())));
                }
            }
        }
        if let Some(trace) = trace {
            trace.span().end();
        }
        self.shared.metrics.batch_duration.record(started.elapsed().as_secs_f64());
        for (answer, waiting) in answers.into_iter().zip(waiting) {
            // A caller that is gone will ask again and be told the same.
            let _ = waiting.send(answer);
        }
    }

    /// One transaction; once more on a new connection if the old one turns out to be dead.
    ///
    /// That is safe even where the first one did commit: an identical sync finds its tokens.
    async fn attempt(&mut self, requests: &[SyncRequest]) -> Result<Answers, LaneError> {
        let is_reused = self.connection.is_some();
        match self.attempt_once(requests).await {
            Err(LaneError::Batch(error)) if is_reused && error.is_unavailable() => {
                tracing::warn!(%error, "the connection of a lane was lost; trying on a new one");
                self.connection = None;
                self.attempt_once(requests).await
            }
            outcome => outcome,
        }
    }

    /// One transaction. After an error the connection is clean, or gone.
    async fn attempt_once(&mut self, requests: &[SyncRequest]) -> Result<Answers, LaneError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection =
                    self.shared.database.connect_for_batches().await.map_err(BatchError::from)?;
                self.shared.connection_check.check().await.map_err(BatchError::from)?;
                connection
            }
        };
        let answering = batch::answer(&mut connection, &self.shared, &mut self.scope_sets, requests);
        let answered = tokio::time::timeout(self.shared.settings.sync_deadline, answering).await;
        match answered {
            Ok(Ok(answers)) => {
                self.connection = Some(connection);
                Ok(answers)
            }
            Ok(Err(error)) => {
                self.scope_sets.forget();
                let rolled_back =
                    tokio::time::timeout(ROLLBACK_TIME, fences::roll_back_batch(&mut connection)).await;
                if matches!(rolled_back, Ok(Ok(()))) {
                    self.connection = Some(connection);
                }
                Err(LaneError::Batch(Arc::new(error)))
            }
            Err(_) => {
                // Whether it commits is unknown; the retry finds out. The connection is dropped.
                self.scope_sets.forget();
                Err(LaneError::TimedOut)
            }
        }
    }
}

const ROLLBACK_TIME: Duration = Duration::from_secs(1);

/// Why an attempt came to nothing.
enum LaneError {
    Batch(Arc<BatchError>),
    TimedOut,
}

impl LaneError {
    /// Whether a part of the batch may succeed where the whole did not.
    fn may_be_one_row(&self) -> bool {
        match self {
            Self::Batch(error) => matches!(error.as_ref(), BatchError::Storage(_)) && !error.is_unavailable(),
            Self::TimedOut => false,
        }
    }

    fn told(&self) -> SyncError {
        match self {
            Self::Batch(error) if error.is_unavailable() => {
                SyncError::Unavailable("The database cannot be reached.")
            }
            Self::Batch(error) => SyncError::Fault(Arc::clone(error) as _),
            Self::TimedOut => SyncError::Unavailable("The database did not answer in time."),
        }
    }

    /// Once for the batch, where its requests are only told that they shall come again. A fault is logged with
    /// each request that it failed.
    fn log(&self, requests: usize) {
        match self {
            Self::Batch(error) if error.is_unavailable() => {
                tracing::error!(requests, error = %error, "a batch of syncs could not reach the database");
            }
            Self::Batch(_) => {}
            Self::TimedOut => {
                tracing::error!(requests, "a batch of syncs was not answered by the database in time")
            }
        }
    }
}

impl From<BatchError> for LaneError {
    fn from(error: BatchError) -> Self {
        Self::Batch(Arc::new(error))
    }
}
