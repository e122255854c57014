//! `config list`: every setting, with its variable, default and meaning.

use clap::Subcommand;
use serde::Serialize;

use super::output::{print_json, print_table};
use super::{CliError, Format, GlobalArgs};
use crate::config::FIELDS;

/// Show the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigArgs {
    /// List every setting with its variable, default, unit and meaning.
    List,
}

impl ConfigArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::List => list(global.format),
        }
    }
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    variable: String,
    unit: &'static str,
    default: Option<&'static str>,
    about: String,
}

fn list(format: Format) -> Result<(), CliError> {
    let rows = FIELDS.iter().map(|field| Row {
        name: field.name,
        variable: field.variable(),
        unit: field.unit,
        default: field.default,
        about: field.summary(),
    });
    match format {
        Format::Json => print_json(&rows.collect::<Vec<_>>()),
        Format::Table => print_table(
            &["setting", "default", "unit", "meaning"],
            rows.map(|row| {
                [row.name.to_owned(), row.default.unwrap_or("-").to_owned(), row.unit.to_owned(), row.about]
            }),
        ),
    }
}
