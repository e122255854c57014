//! Logs and metrics: what this process tells its operator.

pub mod metric_names;

mod logs;
mod recorder;

pub use logs::start_logs;
pub use recorder::Metrics;

/// Why logs or metrics could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A histogram of the table has no buckets.
    #[error("a histogram has no buckets")]
    Buckets(#[source] metrics_exporter_prometheus::BuildError),
    /// The log filter cannot be read.
    #[error("the log filter cannot be read")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Nobody can be answered there.
    #[error("cannot serve metrics where it listens")]
    Serve(#[source] std::io::Error),
    /// Something else in this process already logs.
    #[error("this process already logs elsewhere")]
    LogsAreTaken,
    /// Something else in this process already keeps metrics.
    #[error("this process already keeps its metrics elsewhere")]
    MetricsAreTaken,
}
