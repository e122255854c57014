//! One running service, as `serve` and `dev` start it, look after it and stop it.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::CliError;
use crate::app::{App, keep_house};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::http::{self, Running};
use crate::keystore::Keystore;
use crate::storage::Database;
use crate::telemetry::Metrics;

/// A service that answers.
#[derive(Debug)]
pub(crate) struct Service {
    app: Arc<App>,
    running: Running,
    serving: JoinHandle<std::io::Result<()>>,
    background: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts to answer at `settings.listen` and `settings.metrics_listen`, on a migrated database.
    pub(crate) async fn start(
        settings: Arc<Settings>,
        database: Database,
        keystore: Keystore,
        catalog: Catalog,
    ) -> Result<Self, CliError> {
        let listen = settings.listen;
        // The port first: one that is taken must not leave half a service.
        let listener = TcpListener::bind(listen)
            .map_err(CliError::fault(format!("could not listen on {listen} (setting `listen`)")))?;
        Self::start_on(listener, settings, database, keystore, catalog).await
    }

    /// The same, where somebody listens already.
    pub(crate) async fn start_on(
        listener: TcpListener,
        settings: Arc<Settings>,
        database: Database,
        keystore: Keystore,
        catalog: Catalog,
    ) -> Result<Self, CliError> {
        let issuer = settings.issuer()?.as_str().to_owned();
        let metrics_listen = settings.metrics_listen;
        let metrics = Metrics::install().map_err(CliError::fault("could not keep metrics"))?;

        let app = App::start(Clock::system(), settings, issuer, database, Arc::new(keystore), catalog)
            .await
            .map_err(CliError::fault("could not start on this database"))?;
        let app = Arc::new(app);
        let sampled = Arc::clone(&app);
        let (metrics_address, metrics_server) = metrics
            .serve(metrics_listen, move || sampled.show_gauges())
            .map_err(CliError::fault("could not serve metrics (setting `metrics_listen`)"))?;
        let (running, serving) = http::serve(Arc::clone(&app), listener)
            .map_err(CliError::fault("could not serve where it listens (setting `listen`)"))?;

        let background = vec![
            tokio::spawn(async move {
                if let Err(error) = metrics_server.await {
                    tracing::error!(%error, "metrics are served no longer");
                }
            }),
            tokio::spawn(async move { metrics.keep_up().await }),
            tokio::spawn(keep_house(Arc::clone(&app))),
        ];
        tracing::info!(
            listen = %running.address,
            metrics_listen = %metrics_address,
            issuer = app.issuer(),
            environment = %app.settings.environment,
            catalog.digest = %app.catalog.load().catalog.digest(),
            "token-authority {} answers on {}", env!("CARGO_PKG_VERSION"), running.address
        );
        Ok(Self { app, running, serving: tokio::spawn(serving), background })
    }

    /// Answers until `stop` is done, then accepts nothing more, finishes what has begun, and returns.
    ///
    /// Fails when the server ends by itself, or when `stop_now` is done before everything has finished.
    pub(crate) async fn run_until(
        mut self,
        stop: impl Future<Output = ()>,
        stop_now: impl Future<Output = ()>,
    ) -> Result<(), CliError> {
        let outcome = tokio::select! {
            ended = &mut self.serving => ended
                .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
                .and(Err(std::io::Error::other("the server ended by itself")))
                .map_err(CliError::fault("could not go on serving")),
            () = stop => {
                let time = self.app.settings.shutdown_timeout;
                tracing::info!("stopping; what has begun has {time:?} to finish");
                tokio::select! {
                    () = self.running.stop() => Ok(()),
                    () = stop_now => Err(CliError::refused("stopped at once; what had begun was cut off")),
                }
            }
        };
        for task in &self.background {
            task.abort();
        }
        if outcome.is_ok() {
            tracing::info!("stopped");
        }
        outcome
    }
}
