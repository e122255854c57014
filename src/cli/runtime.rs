//! The asynchronous runtime of a command that talks to the database or serves.

use std::future::Future;

use super::CliError;

/// Runs `work` to its end on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CliError::fault("could not start the asynchronous runtime"))?
        .block_on(work)
}
