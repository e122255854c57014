//! `config list` and `config show`: what can be set, and what holds.

use std::collections::BTreeMap;

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
    /// Show what holds here, from the file, the environment and the defaults. Secrets are redacted.
    Show,
}

impl ConfigArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::List => list(global.format),
            Self::Show => show(global),
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

fn show(global: &GlobalArgs) -> Result<(), CliError> {
    let effective = global.settings()?.effective();
    let settings = FIELDS.iter().map(|field| field.name).zip(effective);
    match global.format {
        Format::Json => print_json(&settings.collect::<BTreeMap<_, _>>()),
        Format::Table => print_table(
            &["setting", "value"],
            settings.map(|(name, value)| [name.to_owned(), value.unwrap_or_else(|| "-".to_owned())]),
        ),
    }
}
