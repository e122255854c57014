//! Tells what became of each line, in the order of the lines, as far as it is committed.
//!
//! What is told is read from the database: a sender that reads nothing before it has sent everything costs no
//! memory, and stops nothing.

use actix_web::web::{Bytes, Data};
use futures_util::Stream;
use futures_util::stream::try_unfold;
use serde_json::Value;
use tokio::sync::watch;

use super::run::Progress;
use super::sealing;
use crate::app::App;
use crate::domain::ids::ImportId;
use crate::domain::import::ImportState;
use crate::http::error::ApiError;
use crate::storage::imports::{self as rows, ResultFilter, ResultRow};

/// Whom to tell of what.
pub(super) struct Telling {
    pub(super) app: Data<App>,
    pub(super) id: ImportId,
    pub(super) attempt: i32,
    pub(super) progress: watch::Receiver<Progress>,
}

impl Telling {
    /// One line of JSON for each line of the import. An import that stops breaks the stream off, so that
    /// nobody takes a part for the whole.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, Interrupted>> {
        try_unfold((self, 0), |(mut telling, told)| async move {
            Ok(telling.next(told).await?.map(|(bytes, told)| (bytes, (telling, told))))
        })
    }

    /// What comes after line `told`; `None` when everything is told.
    async fn next(&mut self, told: i64) -> Result<Option<(Bytes, i64)>, Interrupted> {
        loop {
            let progress = *self.progress.borrow_and_update();
            if told < progress.line {
                return self.read(told, progress.line).await.map(Some).map_err(|error| {
                    tracing::error!(import.id = %self.id, %error, "the results of an import could not be read");
                    Interrupted
                });
            }
            match progress.end {
                Some(ImportState::Finished) => return Ok(None),
                Some(ImportState::Interrupted | ImportState::Running) => return Err(Interrupted),
                None => self.progress.changed().await.map_err(|_| Interrupted)?,
            }
        }
    }

    async fn read(&self, after: i64, up_to: i64) -> Result<(Bytes, i64), ApiError> {
        let mut tx = self.app.database.begin().await?;
        let filter = ResultFilter { after, up_to, outcome: None };
        let found = rows::list_results(&mut tx, self.id, filter, MOST_AT_ONCE).await?;
        let mut text = Vec::new();
        for row in &found {
            serde_json::to_writer(&mut text, &self.view(row)?).map_err(ApiError::fault)?;
            text.push(b'\n');
        }
        // Blank lines may follow the last one that has a result.
        let told = found.last().map_or(up_to, |row| row.line);
        Ok((Bytes::from(text), told))
    }

    fn view(&self, row: &ResultRow) -> Result<Value, ApiError> {
        let mut result = row.result.clone();
        if let Some(sealed) = &row.sealed_secret {
            let code = sealing::open(&self.app.keystore, self.id, row.line, sealed)?;
            result["activation_code"] = code.into();
        }
        if row.attempt < self.attempt {
            result["replayed"] = true.into();
        }
        Ok(result)
    }
}

/// The import stopped before its end; what is committed stays.
#[derive(Debug, thiserror::Error)]
#[error("the import was interrupted; send it again")]
pub(super) struct Interrupted;

const MOST_AT_ONCE: i64 = 500;
