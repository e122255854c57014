//! One running service, as `serve` and `dev` start it, look after it and stop it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::CliError;
use crate::app::{App, WatchRhythm, deliver_webhooks, hold_background, keep_house, watch_keys, watch_risks};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::difference::CatalogDifference;
use crate::http::{self, Running};
use crate::keystore::Keystore;
use crate::storage::{Database, StorageError};
use crate::telemetry::Metrics;

/// Where a service listens, held before anything else is started.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) public: TcpListener,
    pub(crate) metrics: TcpListener,
}

/// Listens where the setting `name` says.
pub(crate) fn listen_on(name: &str, address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address)
        .map_err(CliError::fault(format!("could not listen on {address} (setting `{name}`)")))
}

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
        // The ports first: one that is taken must not leave half a service.
        let sockets = Sockets {
            public: listen_on("listen", settings.listen)?,
            metrics: listen_on("metrics_listen", settings.metrics_listen)?,
        };
        Self::start_on(sockets, settings, database, keystore, catalog).await
    }

    /// The same, where somebody listens already.
    pub(crate) async fn start_on(
        sockets: Sockets,
        settings: Arc<Settings>,
        database: Database,
        keystore: Keystore,
        catalog: Catalog,
    ) -> Result<Self, CliError> {
        let issuer = settings.issuer()?.as_str().to_owned();
        let metrics_address = sockets
            .metrics
            .local_addr()
            .map_err(CliError::fault("could not learn the port of the metrics"))?;
        let metrics = Metrics::install().map_err(CliError::fault("could not keep metrics"))?;

        let app = App::start(Clock::system(), settings, issuer, database, Arc::new(keystore), catalog)
            .await
            .map_err(CliError::fault("could not start on this database"))?;
        // An old copy of the database answers, and says that it is one; it mints nothing.
        app.check_anchors()
            .await
            .map_err(CliError::fault("could not compare the database with what was signed"))?;
        let app = Arc::new(app);
        let sampled = Arc::clone(&app);
        let metrics_server = metrics
            .serve(sockets.metrics, move || sampled.show_gauges())
            .map_err(CliError::fault("could not serve metrics (setting `metrics_listen`)"))?;
        let (running, serving) = http::serve(Arc::clone(&app), sockets.public)
            .map_err(CliError::fault("could not serve where it listens (setting `listen`)"))?;

        let background = vec![
            tokio::spawn(async move {
                if let Err(error) = metrics_server.await {
                    tracing::error!(%error, "metrics are served no longer");
                }
            }),
            tokio::spawn(async move { metrics.keep_up().await }),
            tokio::spawn(hold_background(Arc::clone(&app))),
            tokio::spawn(keep_house(Arc::clone(&app))),
            tokio::spawn(deliver_webhooks(Arc::clone(&app))),
            tokio::spawn(watch_keys(Arc::clone(&app), WatchRhythm::default())),
            tokio::spawn(watch_risks(Arc::clone(&app))),
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

    /// What changes the catalog of this service while it runs.
    pub(crate) fn catalog_changer(&self) -> CatalogChanger {
        CatalogChanger(Arc::clone(&self.app))
    }

    /// Answers until `stop` is done, then accepts nothing more, finishes what has begun, hands its background work to
    /// another replica, and returns.
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
                    ((), ()) = async { tokio::join!(self.running.stop(), self.app.hand_background_over()) } => Ok(()),
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

/// Changes the catalog of a service that runs.
#[derive(Debug)]
pub(crate) struct CatalogChanger(Arc<App>);

impl CatalogChanger {
    /// From the next batch on, this catalog decides. Returns how it differs; `None` if it is the one that decides.
    pub(crate) async fn change(
        &self,
        catalog: Catalog,
        actor: &str,
    ) -> Result<Option<CatalogDifference>, StorageError> {
        self.0.change_catalog(catalog, actor).await
    }
}
