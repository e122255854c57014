//! Keeps the process's metrics and serves them to Prometheus on a port of their own.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::TelemetryError;
use super::metric_names::{BUILD_INFO, Kind, METRICS, describe_all};

/// What this process has counted. One per process: clones show the same.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// How often histogram samples are folded into buckets; between scrapes they would pile up in memory.
const UPKEEP: Duration = Duration::from_secs(5);

impl Metrics {
    /// Starts to keep metrics, or hands out those that this process already keeps.
    ///
    /// # Errors
    /// Something else in this process already keeps metrics.
    pub fn install() -> Result<Self, TelemetryError> {
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS {
            if let Kind::Histogram(buckets) = metric.kind {
                let name = Matcher::Full(metric.name.to_owned());
                builder = builder.set_buckets_for_metric(name, buckets).map_err(TelemetryError::Buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        match metrics::set_global_recorder(recorder) {
            Ok(()) => {
                describe_all();
                gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
                Ok(INSTALLED.get_or_init(|| Self(handle)).clone())
            }
            // Two threads raced and the other one won.
            Err(_) => INSTALLED.get().cloned().ok_or(TelemetryError::MetricsAreTaken),
        }
    }

    /// What Prometheus scrapes: its text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Serves `GET /metrics` on `listener` until the returned server is dropped or stopped. A future: nothing
    /// is answered before it is polled. `sample` is called before each scrape, to set the gauges that nobody
    /// else keeps up to date.
    ///
    /// # Errors
    /// Nobody can be answered there.
    pub fn serve(
        &self,
        listener: TcpListener,
        sample: impl Fn() + Send + Sync + 'static,
    ) -> Result<Server, TelemetryError> {
        let scraped = web::Data::new(Scraped { metrics: self.clone(), sample: Box::new(sample) });
        let server = HttpServer::new(move || {
            App::new().app_data(scraped.clone()).route("/metrics", web::get().to(scrape))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .map_err(TelemetryError::Serve)?
        .run();
        Ok(server)
    }

    /// Folds samples into buckets for as long as it is polled; run it beside the server.
    pub async fn keep_up(&self) {
        let mut beat = tokio::time::interval(UPKEEP);
        loop {
            beat.tick().await;
            self.0.run_upkeep();
        }
    }
}

struct Scraped {
    metrics: Metrics,
    sample: Box<dyn Fn() + Send + Sync>,
}

async fn scrape(scraped: web::Data<Scraped>) -> HttpResponse {
    (scraped.sample)();
    HttpResponse::Ok()
        .insert_header(("Content-Type", "text/plain; version=0.0.4; charset=utf-8"))
        .body(scraped.metrics.render())
}

#[cfg(test)]
mod tests {
    use metrics::{counter, histogram};

    use super::*;
    use crate::telemetry::metric_names::{BATCH_SIZE, OLDEST_WAITING, SYNCS};

    #[tokio::test]
    async fn what_was_counted_is_scraped_with_its_help() {
        let metrics = Metrics::install().unwrap();
        // A code of this test's own: other tests of this process count too.
        counter!(SYNCS, "code" => "scraped").increment(3);
        histogram!(BATCH_SIZE).record(5.0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = metrics.serve(listener, || gauge!(OLDEST_WAITING).set(4.0)).unwrap();
        let running = tokio::spawn(server);
        let scraped = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
        running.abort();
        assert!(scraped.contains("# HELP token_authority_syncs_total Syncs answered"), "{scraped}");
        assert!(scraped.contains("token_authority_syncs_total{code=\"scraped\"} 3"), "{scraped}");
        assert!(scraped.contains("token_authority_batch_size_bucket{le=\"8\"} "), "{scraped}");
        assert!(scraped.contains("token_authority_oldest_waiting_seconds 4"), "{scraped}");
        assert!(scraped.contains("token_authority_build_info{version="), "{scraped}");
    }
}
