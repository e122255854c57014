//! Logs to stderr, as JSON for machines or as text for the eye.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use super::TelemetryError;
use crate::config::{LogFilter, LogFormat};

/// Starts to log this process's events to stderr.
///
/// # Errors
/// Something in this process already logs, or the filter is none.
pub fn start_logs(format: LogFormat, filter: &LogFilter) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(filter.as_str()).map_err(TelemetryError::Filter)?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        // The event's own fields at the top, those of the request that it belongs to under `span`.
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_ansi(false).boxed(),
    };
    tracing_subscriber::registry()
        // For all layers: a filter of this layer alone would forget an event whenever a library asks, through
        // the `log` crate, whether one that is filtered out is wanted.
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_: TryInitError| TelemetryError::LogsAreTaken)
}
