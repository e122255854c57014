//! Takes an import from its stream to the database: some lines at a time, each time in one transaction with
//! their audit rows and what is told of them.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{ResponseError, rt};
use futures_util::Stream;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

use super::lines::{Line, Lines};
use super::record::{Told, Words};
use super::sealing;
use crate::domain::ids::ImportId;
use crate::domain::import::{ImportState, LineOutcome};
use crate::fulfillment::Circumstances;
use crate::http::admin::desk::{Caller, Desk};
use crate::http::error::ApiError;
use crate::http::problems;
use crate::storage::imports::{self as rows, Advance, ResultFilter, ResultRow};
use crate::storage::{StorageError, fences};

/// Who sends an import, and which.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) desk: Desk,
    pub(super) caller: Caller,
    pub(super) id: ImportId,
    pub(super) attempt: i32,
}

/// How far an import has come, for whoever tells its results.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Progress {
    /// Up to this line everything is committed.
    pub(super) line: i64,
    pub(super) end: Option<ImportState>,
}

/// Why an attempt goes no further.
enum Stop {
    /// The stream was cut off, or the database stayed away.
    Interrupted,
    /// The import was sent again, and another goes on with it.
    Superseded,
}

impl Sender {
    /// Runs to the end of the stream, whether or not anybody reads what is told of it.
    pub(super) fn start<S>(self, lines: Lines<S>) -> watch::Receiver<Progress>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
    {
        let (progress, watched) = watch::channel(Progress::default());
        rt::spawn(async move {
            let state = match self.run(lines, &progress).await {
                Ok(()) => ImportState::Finished,
                Err(Stop::Interrupted | Stop::Superseded) => ImportState::Interrupted,
            };
            let ended = self.end(state).await;
            let state = if ended { state } else { ImportState::Interrupted };
            tracing::info!(import.id = %self.id, attempt = self.attempt, "import {} {state}", self.id);
            progress.send_modify(|progress| progress.end = Some(state));
        });
        watched
    }

    async fn run<S>(&self, mut lines: Lines<S>, progress: &watch::Sender<Progress>) -> Result<(), Stop>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        loop {
            let some = lines.next(MOST_LINES).await.map_err(|_| Stop::Interrupted)?;
            let Some(last) = some.last().map(|line| line.number) else { return Ok(()) };
            self.deal_with(&some, lines.bytes_read()).await?;
            progress.send_modify(|progress| progress.line = last);
        }
    }

    /// Commits these lines: together where nothing stands in the way, else one after the other.
    async fn deal_with(&self, lines: &[Line], bytes_read: i64) -> Result<(), Stop> {
        match self.commit(lines, bytes_read, Some(PATIENCE_OF_MANY)).await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(Stop::Superseded),
            // Someone else holds what one of them needs, or one of them is what the database refuses.
            Err(error) => tracing::debug!(import.id = %self.id, %error, "lines are dealt with one by one"),
        }
        for line in lines {
            self.deal_with_one(line, bytes_read).await?;
        }
        Ok(())
    }

    async fn deal_with_one(&self, line: &Line, bytes_read: i64) -> Result<(), Stop> {
        let mut delays = DELAYS.into_iter();
        loop {
            let error = match self.commit(std::slice::from_ref(line), bytes_read, None).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Stop::Superseded),
                Err(error) => error,
            };
            match delays.next() {
                Some(delay) if is_passing(&error) => rt::time::sleep(delay).await,
                _ => {
                    tracing::error!(import.id = %self.id, line = line.number, %error, "an import stopped");
                    return Err(Stop::Interrupted);
                }
            }
        }
    }

    /// One transaction with everything that becomes of these lines. `false` where the import was sent again.
    ///
    /// `patience` bounds the wait for locks. Of two who wait for each other in a ring it is the import that
    /// lets go, long before the database would choose one of them.
    async fn commit(
        &self,
        lines: &[Line],
        bytes_read: i64,
        patience: Option<Duration>,
    ) -> Result<bool, ApiError> {
        let app = &self.desk.app;
        let mut tx = app.database.begin().await?;
        if let Some(patience) = patience {
            fences::limit_waits(&mut tx, patience).await?;
        }
        if !rows::hold(&mut tx, self.id, self.attempt).await? {
            return Ok(false);
        }

        // 1. What a former attempt was told stays told: a retry gets the first answer.
        let mut former = self.former_results(&mut tx, lines).await?;

        // 2. Each line in a savepoint, so that one that is refused leaves nothing behind.
        let mut results = Vec::with_capacity(lines.len());
        let mut advance = Advance { bytes_read, ..Advance::default() };
        for line in lines {
            let digest = digest(line);
            let former = former.remove(&line.number).filter(|row| row.outcome != LineOutcome::Refused);
            let outcome = match former {
                Some(row) if row.digest == digest => row.outcome,
                Some(_) => {
                    let told = self.reused(line);
                    let row = self.result(line, digest, told)?;
                    results.push(row);
                    LineOutcome::Refused
                }
                None => {
                    let told = self.tell(&mut tx, line).await?;
                    let outcome = told.outcome;
                    results.push(self.result(line, digest, told)?);
                    outcome
                }
            };
            match outcome {
                LineOutcome::Created => advance.created += 1,
                LineOutcome::Refused => advance.refused += 1,
                LineOutcome::Unchanged => advance.unchanged += 1,
            }
            advance.last_line = line.number;
        }

        // 3. What is told, and how far the import has come.
        rows::upsert_results(&mut tx, self.id, &results).await?;
        rows::advance(&mut tx, self.id, advance, app.now()).await?;
        tx.commit().await.map_err(StorageError::from)?;
        Ok(true)
    }

    /// What becomes of one line.
    ///
    /// # Errors
    /// A fault. What is refused is told.
    pub(super) async fn tell(&self, connection: &mut PgConnection, line: &Line) -> Result<Told, ApiError> {
        let app = &self.desk.app;
        let catalog = app.catalog.load();
        let circumstances = Circumstances {
            clock: &app.clock,
            catalog: &catalog.catalog,
            environment: app.settings.environment.as_str(),
            grace: app.grace(),
            keystore: &app.keystore,
        };
        let (words, read) = Words::read(line, app.settings.max_body_bytes.get());
        if let Err(refusal) = read {
            return Ok(words.refused(self, line.number, &refusal));
        }
        let mut savepoint = connection.begin().await.map_err(StorageError::from)?;
        match words.record(self, &mut savepoint, &circumstances, line.number).await {
            Ok(told) => {
                savepoint.commit().await.map_err(StorageError::from)?;
                Ok(told)
            }
            Err(error) if error.status_code().is_server_error() => Err(error),
            Err(refusal) => {
                savepoint.rollback().await.map_err(StorageError::from)?;
                Ok(words.refused(self, line.number, &refusal))
            }
        }
    }

    /// Another line than before under the same number of the same import.
    fn reused(&self, line: &Line) -> Told {
        let detail = "This Idempotency-Key came before with another line here.";
        let refusal = ApiError::refused(&problems::IDEMPOTENCY_KEY_REUSED, detail);
        let (words, _) = Words::read(line, self.desk.app.settings.max_body_bytes.get());
        words.refused(self, line.number, &refusal)
    }

    fn result(&self, line: &Line, digest: [u8; 32], told: Told) -> Result<ResultRow, ApiError> {
        let Told { outcome, result, secret } = told;
        let sealed_secret = match secret {
            Some(secret) => Some(sealing::seal(&self.desk.app.keystore, self.id, line.number, &secret)?),
            None => None,
        };
        Ok(ResultRow { line: line.number, attempt: self.attempt, digest, outcome, result, sealed_secret })
    }

    async fn former_results(
        &self,
        connection: &mut PgConnection,
        lines: &[Line],
    ) -> Result<HashMap<i64, ResultRow>, StorageError> {
        let (1, Some(first), Some(last)) = (self.attempt.min(2) - 1, lines.first(), lines.last()) else {
            return Ok(HashMap::new());
        };
        let filter = ResultFilter { after: first.number - 1, up_to: last.number, outcome: None };
        let found = rows::list_results(connection, self.id, filter, last.number - first.number + 1).await?;
        Ok(found.into_iter().map(|row| (row.line, row)).collect())
    }

    /// Whether the end of this attempt could be noted.
    async fn end(&self, state: ImportState) -> bool {
        let app = &self.desk.app;
        let noted = async {
            let mut tx = app.database.begin().await?;
            rows::end(&mut tx, self.id, self.attempt, state, app.now()).await?;
            tx.commit().await.map_err(StorageError::from)
        };
        match noted.await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(import.id = %self.id, %error, "the end of an import could not be noted");
                false
            }
        }
    }
}

/// Of the line as it came.
fn digest(line: &Line) -> [u8; 32] {
    Sha256::digest(line.content.as_deref().unwrap_or_default()).into()
}

/// Whether the same may succeed a little later.
fn is_passing(error: &ApiError) -> bool {
    error.status_code() == StatusCode::SERVICE_UNAVAILABLE || error.is_deadlock()
}

/// How many lines share a transaction: enough that its commit weighs little, few enough that nobody waits
/// long for what it holds.
const MOST_LINES: usize = 64;
/// Less than the second after which the database looks for rings of those who wait.
const PATIENCE_OF_MANY: Duration = Duration::from_millis(300);
/// A database that restarts is waited for.
const DELAYS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
