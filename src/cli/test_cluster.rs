//! `test-cluster`, hidden: keeps the throw-away cluster that the test processes of one checkout share.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use super::output::{print, warn};
use crate::embedded_postgres::{Search, supervise};

/// Runs until nobody has used the cluster for three seconds.
#[derive(Args, Debug)]
pub(crate) struct TestClusterArgs {
    /// The folder whose locks say who uses it.
    directory: PathBuf,
    /// As the setting of that name. No other setting matters here, and none that is wrong may break a test.
    #[arg(long, env = "TOKEN_AUTHORITY_POSTGRES_BIN")]
    postgres_bin: Option<PathBuf>,
}

impl TestClusterArgs {
    pub(crate) fn run(self) -> Result<(), CliError> {
        let named = self.postgres_bin.filter(|folder| !folder.as_os_str().is_empty());
        let search = Search::everywhere(named, warn);
        let mut told = Ok(());
        supervise(&self.directory, &search, |ready| told = print(ready)).map_err(CliError::from)?;
        told
    }
}
