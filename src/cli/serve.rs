//! `serve`: the service for production, from settings alone.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::catalog::check_token_sizes;
use super::database::open_migrated;
use super::keystore::open_keystore;
use super::runtime::block_on;
use super::service::{CatalogChanger, Service};
use super::signals::StopSignals;
use super::{CliError, GlobalArgs};
use crate::catalog_files;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::telemetry::{Traces, start_logs};
use crate::webhooks::courier;

/// Answer instances, backends and administrators until SIGTERM or Ctrl-C.
///
/// Refuses a database whose schema lacks a migration, or is one that this program cannot run on. SIGHUP reads the catalog
/// again: a good one decides from then on, a bad one is told in the log and changes nothing.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {}

impl ServeArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        settings.check_complete_for_serving()?;
        start_logs(settings.log_format, &settings.log_filter).map_err(CliError::fault("could not log"))?;
        let traces = settings.otlp_endpoint.as_ref().map(|collector| {
            Traces::start(collector, settings.trace_ratio.get(), settings.environment.as_str())
        });
        let traces = traces.transpose().map_err(CliError::fault("could not trace"))?;
        let served = block_on(serve(settings));
        traces.inspect(Traces::finish);
        served
    }
}

async fn serve(settings: Settings) -> Result<(), CliError> {
    let mut signals = StopSignals::listen()?;
    // From here on it ends no process: what comes before the service answers is read when it does.
    let hangups = signal(SignalKind::hangup()).map_err(CliError::fault("could not listen for signals"))?;
    let catalog = read_catalog(settings.catalog_dir()?)?;
    if let Some(path) = &settings.webhook_ca_file {
        courier::read_authorities(path)
            .map_err(|error| CliError::refused(format!("the setting `webhook_ca_file`: {error}")))?;
    }
    check_token_sizes(&catalog, &settings)?;
    let database = open_migrated(&settings).await?;
    let keystore = open_keystore(&settings, &database).await?;
    let settings = Arc::new(settings);
    let service = Service::start(Arc::clone(&settings), database, keystore, catalog).await?;
    let reloads = tokio::spawn(reload_at_each(hangups, settings, service.catalog_changer()));
    // The first signal asks, the second one insists.
    let mut insist = StopSignals::listen()?;
    let served = service
        .run_until(async move { signals.next().await }, async move {
            insist.next().await;
            insist.next().await;
        })
        .await;
    reloads.abort();
    served
}

/// Reads the catalog again at each signal, all or nothing.
async fn reload_at_each(mut hangups: Signal, settings: Arc<Settings>, changer: CatalogChanger) {
    while hangups.recv().await.is_some() {
        match reload(&settings, &changer).await {
            Ok(true) => {}
            Ok(false) => tracing::info!("the catalog was read again, and is the same"),
            Err(error) => {
                tracing::error!("the catalog was not replaced, the earlier one goes on: {}", error.report());
            }
        }
    }
}

async fn reload(settings: &Arc<Settings>, changer: &CatalogChanger) -> Result<bool, CliError> {
    let read = {
        let settings = Arc::clone(settings);
        tokio::task::spawn_blocking(move || {
            let catalog = read_catalog(settings.catalog_dir()?)?;
            check_token_sizes(&catalog, &settings)?;
            Ok::<_, CliError>(catalog)
        })
    };
    let catalog = read.await.map_err(CliError::fault("could not read the catalog"))??;
    let changed = changer.change(catalog, SIGNALED).await;
    Ok(changed.map_err(CliError::fault("could not record the catalog"))?.is_some())
}

fn read_catalog(folder: &Path) -> Result<Catalog, CliError> {
    Ok(catalog_files::read(folder)?)
}

/// Who changed the catalog, for the audit.
const SIGNALED: &str = "service:hangup";
