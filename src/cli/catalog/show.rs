//! `catalog show`: what is sold, narrowed to an add-on, a plan or a backend.

use chrono::SecondsFormat;
use clap::Args;
use serde::Serialize;

use super::SourceArgs;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::catalog::check::nearest;
use crate::domain::catalog::{
    AddOn, AddOnName, Backend, BackendName, Catalog, LicenseType, LicenseTypeName, Realm, RecordKind,
    Service, UnitPrimitive,
};

/// Show what is sold: each unit primitive with what grants it and who hosts it.
///
/// Each option narrows the list to the unit primitives that have one of the named; several options narrow it
/// further.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Only what this add-on grants. May be given several times.
    #[arg(long, value_name = "NAME")]
    add_on: Vec<AddOnName>,
    /// Only what this plan may have. May be given several times.
    #[arg(long, value_name = "NAME")]
    license_type: Vec<LicenseTypeName>,
    /// Only what this backend hosts. May be given several times.
    #[arg(long, value_name = "NAME")]
    backend: Vec<BackendName>,
    #[command(flatten)]
    source: SourceArgs,
}

impl ShowArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let catalog = self.source.clone().source(&global.settings()?).read()?;
        self.refuse_unknown_names(&catalog)?;
        let shown: Vec<_> =
            catalog.unit_primitives().iter().filter(|primitive| self.is_shown(primitive)).collect();
        match global.format {
            Format::Json => print_json(&Document::new(&catalog, &shown)),
            Format::Table => self.print_tables(&catalog, &shown),
        }
    }

    /// A mistyped filter must not look like a catalog that sells nothing.
    fn refuse_unknown_names(&self, catalog: &Catalog) -> Result<(), CliError> {
        let add_ons: Vec<_> = catalog.add_ons().iter().map(|add_on| add_on.name.as_str()).collect();
        let plans: Vec<_> = catalog.license_types().iter().map(|plan| plan.name.as_str()).collect();
        let backends: Vec<_> = catalog.backends().iter().map(|backend| backend.name.as_str()).collect();
        refuse_unknown(RecordKind::AddOn, &self.add_on, &add_ons)?;
        refuse_unknown(RecordKind::LicenseType, &self.license_type, &plans)?;
        refuse_unknown(RecordKind::Backend, &self.backend, &backends)
    }

    fn is_shown(&self, primitive: &UnitPrimitive) -> bool {
        let plans = &primitive.license_types;
        has_any(&self.add_on, &primitive.add_ons)
            && (plans.is_empty() || has_any(&self.license_type, plans))
            && has_any(&self.backend, &primitive.backend_services)
    }

    fn is_everything(&self) -> bool {
        self.add_on.is_empty() && self.license_type.is_empty() && self.backend.is_empty()
    }

    fn print_tables(&self, catalog: &Catalog, shown: &[&UnitPrimitive]) -> Result<(), CliError> {
        print(&format!("{} of {} unit primitives\n", shown.len(), catalog.unit_primitives().len()))?;
        print_table(
            &[
                "unit primitive",
                "add-ons",
                "plans",
                "backends",
                "free until",
                "version free / paid",
                "realms",
            ],
            shown.iter().map(|primitive| row(primitive)),
        )?;
        if !self.is_everything() {
            return Ok(());
        }
        print("")?;
        print_table(
            &["backend service", "audience", "unit primitives"],
            catalog.backends().iter().map(|backend| {
                let hosted = count(catalog, |primitive| primitive.backend_services.contains(&backend.name));
                [backend.name.to_string(), backend.audience.clone(), hosted]
            }),
        )?;
        print("")?;
        print_table(
            &["add-on", "unit primitives", "description"],
            catalog.add_ons().iter().map(|add_on| {
                let granted = count(catalog, |primitive| primitive.add_ons.contains(&add_on.name));
                [add_on.name.to_string(), granted, add_on.description.clone().unwrap_or_default()]
            }),
        )?;
        print(&format!("\n{}", catalog.digest()))
    }
}

fn refuse_unknown<T: AsRef<str>>(kind: RecordKind, asked: &[T], known: &[&str]) -> Result<(), CliError> {
    let Some(unknown) = asked.iter().map(AsRef::as_ref).find(|name| !known.contains(name)) else {
        return Ok(());
    };
    let mut sentence = format!("the catalog has no {} {unknown}", kind.noun());
    if let Some(near) = nearest(unknown, known.iter().copied()) {
        sentence.push_str(&format!("; did you mean {near}?"));
    }
    Err(CliError::refused(sentence))
}

/// Whether any of the wanted is there; nothing wanted is everything.
fn has_any<T: PartialEq>(wanted: &[T], have: &[T]) -> bool {
    wanted.is_empty() || wanted.iter().any(|name| have.contains(name))
}

fn count(catalog: &Catalog, has: impl Fn(&UnitPrimitive) -> bool) -> String {
    catalog.unit_primitives().iter().filter(|primitive| has(primitive)).count().to_string()
}

fn row(primitive: &UnitPrimitive) -> [String; 7] {
    let free_until = primitive
        .cut_off_date
        .map_or_else(|| "for good".to_owned(), |date| date.to_rfc3339_opts(SecondsFormat::Secs, true));
    let free = primitive.min_gitlab_version_for_free_access.as_ref();
    let versions = match (free, &primitive.min_gitlab_version) {
        (None, None) => "any".to_owned(),
        (free, paid) => format!("{} / {}", version(free), version(paid.as_ref())),
    };
    let realms = primitive.realms.as_ref().map_or_else(|| "all".to_owned(), |realms| listed(realms, "none"));
    [
        primitive.name.to_string(),
        listed(&primitive.add_ons, "-"),
        listed(&primitive.license_types, "all"),
        listed(&primitive.backend_services, "none"),
        free_until,
        versions,
        realms,
    ]
}

fn version(minimum: Option<&impl ToString>) -> String {
    minimum.map_or_else(|| "any".to_owned(), ToString::to_string)
}

fn listed<T: ToString>(names: &[T], none: &str) -> String {
    if names.is_empty() {
        return none.to_owned();
    }
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is shown, as in the files, and where each unit primitive is offered.
#[derive(Serialize)]
struct Document<'a> {
    digest: &'a str,
    unit_primitives: Vec<ShownPrimitive<'a>>,
    add_ons: &'a [AddOn],
    backend_services: &'a [Backend],
    license_types: &'a [LicenseType],
    services: &'a [Service],
}

#[derive(Serialize)]
struct ShownPrimitive<'a> {
    #[serde(flatten)]
    primitive: &'a UnitPrimitive,
    /// `null`: everywhere.
    realms: Option<&'a [Realm]>,
}

impl<'a> Document<'a> {
    fn new(catalog: &'a Catalog, shown: &[&'a UnitPrimitive]) -> Self {
        Self {
            digest: catalog.digest().as_str(),
            unit_primitives: shown
                .iter()
                .map(|primitive| ShownPrimitive { primitive, realms: primitive.realms.as_deref() })
                .collect(),
            add_ons: catalog.add_ons(),
            backend_services: catalog.backends(),
            license_types: catalog.license_types(),
            services: catalog.services(),
        }
    }
}
