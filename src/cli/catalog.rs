//! `catalog`: is it right, what is in it, what would another one change, and what follows from it for others.

mod check;
mod contracts;
mod diff;
mod export;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) use check::check_token_sizes;

use super::{CliError, GlobalArgs};
use crate::catalog_files::{self, InvalidCatalogFiles};
use crate::config::Settings;
use crate::domain::catalog::Catalog;

/// Check and browse what is sold.
#[derive(Debug, Subcommand)]
pub(crate) enum CatalogArgs {
    Check(check::CheckArgs),
    Diff(diff::DiffArgs),
    Export(export::ExportArgs),
    Show(show::ShowArgs),
}

impl CatalogArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::Check(args) => args.run(global),
            Self::Diff(args) => args.run(global),
            Self::Export(args) => args.run(global),
            Self::Show(args) => args.run(global),
        }
    }
}

/// Which catalog is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceArgs {
    /// The catalog's folder. Otherwise the setting `catalog_dir`, otherwise `catalog`.
    #[arg(long, value_name = "DIR")]
    catalog_dir: Option<PathBuf>,
    /// The example catalog, which is part of this program.
    #[arg(long, conflicts_with = "catalog_dir")]
    example: bool,
}

/// Where a catalog is read from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Example,
    Folder(PathBuf),
}

impl SourceArgs {
    fn source(self, settings: &Settings) -> Source {
        if self.example {
            return Source::Example;
        }
        let folder = self.catalog_dir.or_else(|| settings.catalog_dir.clone());
        Source::Folder(folder.unwrap_or_else(|| PathBuf::from("catalog")))
    }
}

impl Source {
    fn read(&self) -> Result<Catalog, InvalidCatalogFiles> {
        match self {
            Self::Example => catalog_files::example(),
            Self::Folder(folder) => catalog_files::read(folder),
        }
    }
}

impl From<InvalidCatalogFiles> for CliError {
    fn from(error: InvalidCatalogFiles) -> Self {
        Self::Refused(error.to_string())
    }
}
