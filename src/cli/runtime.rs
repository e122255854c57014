//! The asynchronous runtime of a command that talks to the database or serves.

use std::future::Future;
use std::time::Duration;

use super::CliError;

/// Runs `work` to its end on a runtime of its own.
///
/// One thread is enough for the batches of syncs: the database does most of their work, and HTTP has threads
/// of its own. A second one was measured to cost an eighth more of processor time per sync, spent on handing
/// tasks from one thread to the other.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(CliError::fault("could not start the asynchronous runtime"))?;
    let outcome = runtime.block_on(work);
    // What still runs beside it, the look-up of a name perhaps, must not keep the process from its end.
    runtime.shutdown_timeout(LAST_MOMENTS);
    outcome
}

const LAST_MOMENTS: Duration = Duration::from_secs(1);
