//! `serve`: the service for production, from settings alone.

use std::sync::Arc;

use clap::Args;

use super::catalog::check_token_sizes;
use super::database::open_migrated;
use super::keystore::open_keystore;
use super::runtime::block_on;
use super::service::Service;
use super::signals::StopSignals;
use super::{CliError, GlobalArgs};
use crate::catalog_files;
use crate::config::Settings;
use crate::telemetry::{Traces, start_logs};

/// Answer instances, backends and administrators until SIGTERM or Ctrl-C.
///
/// Refuses a database whose schema is not the one that this program expects.
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
    let catalog =
        catalog_files::read(settings.catalog_dir()?).map_err(|error| CliError::refused(error.to_string()))?;
    check_token_sizes(&catalog, &settings)?;
    let database = open_migrated(&settings).await?;
    let keystore = open_keystore(&settings, &database).await?;
    let service = Service::start(Arc::new(settings), database, keystore, catalog).await?;
    // The first signal asks, the second one insists.
    let mut insist = StopSignals::listen()?;
    service
        .run_until(async move { signals.next().await }, async move {
            insist.next().await;
            insist.next().await;
        })
        .await
}
