//! Logs, metrics and traces: what this process tells its operator.

pub mod metric_names;

mod logs;
mod recorder;
pub(crate) mod traces;

pub use logs::start_logs;
pub use recorder::Metrics;
pub use traces::Traces;

/// Why logs, metrics or traces could not start.
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
    /// The collector's address cannot be used.
    #[error("cannot send traces to the collector (setting `otlp_endpoint`)")]
    Traces(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This process traces already.
    #[error("this process already traces elsewhere")]
    TracesAreTaken,
}
