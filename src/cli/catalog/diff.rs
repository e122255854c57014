//! `catalog diff`: what another catalog would change, in its records and for the live subscriptions.

use std::path::PathBuf;

use chrono::{SecondsFormat, TimeDelta};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Source, SourceArgs};
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::difference::CatalogDifference;
use crate::fulfillment::catalog_effects::{CatalogEffect, CatalogEffects, catalog_effects};
use crate::storage::catalogs;

/// Tell what a catalog changes against the one that decides now, before it decides anything.
///
/// Reads the deployment's database, and decides for every instance twice: as things are, and by the catalog in DIR.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    /// The folder of the catalog that is to come.
    #[arg(value_name = "DIR", conflicts_with_all = ["catalog_dir", "example"])]
    dir: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
    /// Compare with the catalog in this folder instead, record by record, without any database.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Exit with 1 if anybody loses anything.
    #[arg(long, conflicts_with = "against")]
    refuse_losses: bool,
}

impl DiffArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let after = self.dir.map_or_else(|| self.source.source(&settings), Source::Folder).read()?;
        let (difference, effects) = match self.against {
            Some(folder) => (CatalogDifference::between(&Source::Folder(folder).read()?, &after), None),
            None => {
                let (before, effects) = block_on(compare(&settings, &after))?;
                (CatalogDifference::between(&before, &after), Some(effects))
            }
        };
        match global.format {
            Format::Json => print_json(&Document::new(&difference, effects.as_ref()))?,
            Format::Table => print_difference(&difference, effects.as_ref())?,
        }
        match effects {
            Some(effects) if self.refuse_losses && !effects.lost.is_empty() => Err(CliError::refused(
                format!("{} unit primitives would be lost by somebody", effects.lost.len()),
            )),
            _ => Ok(()),
        }
    }
}

/// The catalog that decides now, and what another one does to the instances of the deployment.
async fn compare(settings: &Settings, after: &Catalog) -> Result<(Catalog, CatalogEffects), CliError> {
    let database = open_migrated(settings).await?;
    let doing = "could not read the deployment's records";
    let mut tx = database.begin().await.map_err(CliError::fault(doing))?;
    let now = Clock::system().now();
    let before = catalogs::find_active_at(&mut tx, now).await.map_err(CliError::fault(doing))?;
    let before = before.ok_or_else(|| {
        CliError::refused("no catalog has decided anything here yet; compare folders with `--against DIR`")
    })?;
    let grace = TimeDelta::days(i64::from(settings.grace_days));
    let effects =
        catalog_effects(&mut tx, &before, after, grace, now).await.map_err(CliError::fault(doing))?;
    Ok((before, effects))
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    difference: &'a CatalogDifference,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<EffectsDocument>,
}

#[derive(Serialize)]
struct EffectsDocument {
    /// How many instances were compared.
    instances: u64,
    gained: Vec<EffectDocument>,
    lost: Vec<EffectDocument>,
}

#[derive(Serialize)]
struct EffectDocument {
    unit_primitive: String,
    instances: u64,
    subscriptions: u64,
    /// From when on, for the first of them.
    at: String,
    /// Some of the instances.
    some: Vec<String>,
}

impl<'a> Document<'a> {
    fn new(difference: &'a CatalogDifference, effects: Option<&CatalogEffects>) -> Self {
        let documents = |effects: &[CatalogEffect]| effects.iter().map(EffectDocument::new).collect();
        let effects = effects.map(|effects| EffectsDocument {
            instances: effects.instances,
            gained: documents(&effects.gained),
            lost: documents(&effects.lost),
        });
        Self { difference, effects }
    }
}

impl EffectDocument {
    fn new(effect: &CatalogEffect) -> Self {
        Self {
            unit_primitive: effect.unit_primitive.to_string(),
            instances: effect.instances,
            subscriptions: effect.subscriptions,
            at: effect.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            some: effect.some.iter().map(ToString::to_string).collect(),
        }
    }
}

fn print_difference(
    difference: &CatalogDifference,
    effects: Option<&CatalogEffects>,
) -> Result<(), CliError> {
    if difference.is_empty() {
        return print(&format!("Nothing differs: both are {}.", difference.after));
    }
    print(&format!("From {}\n  to {}\n", difference.before, difference.after))?;
    let whole = |sign: &str, record: &crate::domain::catalog::difference::CatalogRecord| {
        [sign.to_owned(), record.kind.clone(), record.name.clone(), String::new()]
    };
    let added = difference.added.iter().map(|record| whole("added", record));
    let removed = difference.removed.iter().map(|record| whole("removed", record));
    let changed = difference.changed.iter().map(|changed| {
        let members = changed.members.iter();
        let members = members
            .map(|member| format!("{}: {} → {}", member.name, said(&member.before), said(&member.after)));
        let members = members.collect::<Vec<_>>().join("\n");
        ["changed".to_owned(), changed.record.kind.clone(), changed.record.name.clone(), members]
    });
    print_table(&["record", "of", "name", "members"], added.chain(removed).chain(changed))?;
    let Some(effects) = effects else { return Ok(()) };
    print(&format!("\nFor {} instances:\n", effects.instances))?;
    if effects.gained.is_empty() && effects.lost.is_empty() {
        return print("Nobody gains or loses anything.");
    }
    let row = |what: &str, effect: &CatalogEffect| {
        let document = EffectDocument::new(effect);
        let (instances, subscriptions) = (effect.instances.to_string(), effect.subscriptions.to_string());
        let some = document.some.first().cloned().unwrap_or_default();
        [document.unit_primitive, what.to_owned(), instances, subscriptions, document.at, some]
    };
    let rows = effects.lost.iter().map(|effect| row("lost", effect));
    let rows = rows.chain(effects.gained.iter().map(|effect| row("gained", effect)));
    print_table(&["unit primitive", "is", "instances", "subscriptions", "from", "such as"], rows)
}

/// A member's value for people.
fn said(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(said).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
