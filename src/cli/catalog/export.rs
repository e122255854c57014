//! `catalog export`: the catalog's backends as the configuration of the single entry point before them.

mod haproxy;
mod routes;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SourceArgs;
use crate::cli::output::{print, warn};
use crate::cli::{CliError, GlobalArgs};
use routes::Routes;

/// Write the configuration of the single entry point: a path prefix for each backend of the catalog.
///
/// Where the backends are is the deployment's business and not the catalog's: a file of routes says it
/// (docs/entry-point.md). Without one, each backend has its own name for a prefix, and no server yet.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// For which proxy.
    #[arg(long, value_name = "PROXY")]
    to: Proxy,
    /// Prefixes, upstreams, health checks and limits, as YAML.
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Proxy {
    /// HAProxy 2.6 or later.
    Haproxy,
}

impl ExportArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let catalog = self.source.source(&global.settings()?).read()?;
        let routes = match &self.routes {
            Some(file) => Routes::read(file, &catalog)?,
            None => {
                warn("no --routes: the backends have no servers yet, and every request is answered 503");
                Routes::by_name(&catalog)
            }
        };
        match self.to {
            Proxy::Haproxy => print(haproxy::configuration(&catalog, &routes).trim_end()),
        }
    }
}
