//! What is sold: unit primitives, backends, add-ons, license types, services.
//!
//! A [`Catalog`] can only be had checked whole: every link in it resolves, no name or alias is taken twice,
//! and no two backends share an audience.

pub mod available_services;
pub mod check;
pub mod contracts;
pub mod difference;
mod digest;
mod links;
mod names;
mod problem;
mod records;
pub mod token_size;

use std::collections::{BTreeSet, HashMap};

pub use digest::CatalogDigest;
pub use links::{HttpUrl, InvalidUrl};
pub use names::MAX_LENGTH as MAX_NAME_LENGTH;
pub use names::{AddOnName, BackendName, InvalidName, LicenseTypeName, ServiceName, UnitPrimitiveName};
pub use problem::{InvalidCatalog, Problem, ProblemCode, Site};
pub use records::{
    AddOn, Backend, CatalogParts, LicenseType, Realm, RecordKind, Service, UnitPrimitive, UnknownRealm,
};

/// One version of what is sold. Every list is sorted by name.
#[derive(Clone, Debug)]
pub struct Catalog {
    parts: CatalogParts,
    canonical_json: String,
    digest: CatalogDigest,
    add_on_indexes: HashMap<AddOnName, usize>,
    backend_indexes: HashMap<BackendName, usize>,
    /// Aliases too.
    unit_primitive_indexes: HashMap<UnitPrimitiveName, usize>,
}

/// A stored catalog that cannot be read again.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Invalid(#[from] InvalidCatalog),
    #[error("the catalog cannot be written or read as JSON")]
    Json(#[from] serde_json::Error),
}

impl Catalog {
    /// A catalog of these records, in any order.
    ///
    /// Refuses records that do not fit together, with every problem at once.
    pub fn new(mut parts: CatalogParts) -> Result<Self, CatalogError> {
        refuse_problems(&parts)?;
        sort(&mut parts);
        let canonical_json = digest::canonical_json(&serde_json::to_value(&parts)?);
        Ok(Self::index(parts, canonical_json))
    }

    /// The catalog that was stored as this [`Catalog::canonical_json`], under the same digest.
    ///
    /// Members that this program does not know are ignored, for a newer one may have stored it. What is
    /// checked here may therefore never become stricter for catalogs that once decided something.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        let mut parts: CatalogParts = serde_json::from_str(text)?;
        refuse_problems(&parts)?;
        sort(&mut parts);
        Ok(Self::index(parts, text.to_owned()))
    }

    /// `parts` are sorted and free of problems.
    fn index(mut parts: CatalogParts, canonical_json: String) -> Self {
        let add_on_indexes: HashMap<_, _> = indexed(parts.add_ons.iter().map(|add_on| &add_on.name));
        let backend_indexes: HashMap<_, _> = indexed(parts.backends.iter().map(|backend| &backend.name));
        let mut unit_primitive_indexes = HashMap::new();
        for (index, primitive) in parts.unit_primitives.iter_mut().enumerate() {
            for name in primitive.alias_names.iter().chain([&primitive.name]) {
                unit_primitive_indexes.insert(name.clone(), index);
            }
            primitive.add_on_indexes =
                primitive.add_ons.iter().filter_map(|name| add_on_indexes.get(name).copied()).collect();
            primitive.backend_indexes = primitive
                .backend_services
                .iter()
                .filter_map(|name| backend_indexes.get(name).copied())
                .collect();
            primitive.realms = realms_of(&primitive.name, &parts.services);
        }
        let digest = CatalogDigest::of(&canonical_json);
        Self { parts, canonical_json, digest, add_on_indexes, backend_indexes, unit_primitive_indexes }
    }

    /// What identifies this version: the SHA-256 of [`Catalog::canonical_json`].
    #[must_use]
    pub fn digest(&self) -> &CatalogDigest {
        &self.digest
    }

    /// All records as JSON with sorted members and no blanks. Holds what the files hold, nothing derived.
    #[must_use]
    pub fn canonical_json(&self) -> &str {
        &self.canonical_json
    }

    /// Everything that is sold, sorted by name.
    #[must_use]
    pub fn unit_primitives(&self) -> &[UnitPrimitive] {
        &self.parts.unit_primitives
    }

    /// The hosted services, sorted by name.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        &self.parts.backends
    }

    /// What can be bought in addition to a plan, sorted by name.
    #[must_use]
    pub fn add_ons(&self) -> &[AddOn] {
        &self.parts.add_ons
    }

    /// The plans, sorted by name.
    #[must_use]
    pub fn license_types(&self) -> &[LicenseType] {
        &self.parts.license_types
    }

    /// The older view, sorted by name.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.parts.services
    }

    /// The unit primitive of this name or alias.
    #[must_use]
    pub fn unit_primitive(&self, name: &UnitPrimitiveName) -> Option<&UnitPrimitive> {
        self.unit_primitive_index(name).map(|index| &self.parts.unit_primitives[index])
    }

    /// The index in [`Catalog::unit_primitives`] of this name or alias.
    #[must_use]
    pub fn unit_primitive_index(&self, name: &UnitPrimitiveName) -> Option<usize> {
        self.unit_primitive_indexes.get(name).copied()
    }

    /// The backend of this name.
    #[must_use]
    pub fn backend(&self, name: &BackendName) -> Option<&Backend> {
        self.backend_index(name).map(|index| &self.parts.backends[index])
    }

    /// The index in [`Catalog::backends`].
    #[must_use]
    pub fn backend_index(&self, name: &BackendName) -> Option<usize> {
        self.backend_indexes.get(name).copied()
    }

    /// The add-on of this name.
    #[must_use]
    pub fn add_on(&self, name: &AddOnName) -> Option<&AddOn> {
        self.add_on_index(name).map(|index| &self.parts.add_ons[index])
    }

    /// The index in [`Catalog::add_ons`].
    #[must_use]
    pub fn add_on_index(&self, name: &AddOnName) -> Option<usize> {
        self.add_on_indexes.get(name).copied()
    }

    /// The plan of this name.
    #[must_use]
    pub fn license_type(&self, name: &LicenseTypeName) -> Option<&LicenseType> {
        find(&self.parts.license_types, name, |license_type| &license_type.name)
    }

    /// The service of this name.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        find(&self.parts.services, name, |service| &service.name)
    }
}

fn refuse_problems(parts: &CatalogParts) -> Result<(), InvalidCatalog> {
    let problems = check::problems(parts, &BTreeSet::new());
    if problems.is_empty() { Ok(()) } else { Err(InvalidCatalog(problems)) }
}

/// Sorts what has no order of its own, so that moving lines about changes no digest. The primitives of a
/// service keep theirs: the first one counts.
fn sort(parts: &mut CatalogParts) {
    parts.add_ons.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    parts.backends.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    parts.license_types.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    parts.services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    parts.unit_primitives.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for service in &mut parts.services {
        service.realms.sort_unstable();
    }
    for primitive in &mut parts.unit_primitives {
        primitive.add_ons.sort_unstable();
        primitive.alias_names.sort_unstable();
        primitive.backend_services.sort_unstable();
        primitive.license_types.sort_unstable();
    }
}

fn indexed<'a, N: Clone + Eq + std::hash::Hash + 'a>(
    names: impl Iterator<Item = &'a N>,
) -> HashMap<N, usize> {
    names.enumerate().map(|(index, name)| (name.clone(), index)).collect()
}

fn realms_of(name: &UnitPrimitiveName, services: &[Service]) -> Option<Vec<Realm>> {
    let realms: BTreeSet<_> = services
        .iter()
        .filter(|service| service.unit_primitives.contains(name))
        .flat_map(|service| service.realms.iter().copied())
        .collect();
    (!realms.is_empty()).then(|| realms.into_iter().collect())
}

/// Finds by name in a list sorted by name.
fn find<'a, T, N: Ord>(records: &'a [T], name: &N, name_of: impl Fn(&T) -> &N) -> Option<&'a T> {
    records.binary_search_by(|record| name_of(record).cmp(name)).ok().map(|index| &records[index])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parts(document: Value) -> CatalogParts {
        serde_json::from_value(document).unwrap()
    }

    fn primitive(name: &str, backends: &[&str], add_ons: &[&str]) -> Value {
        json!({
            "name": name, "description": "x", "feature_category": "x",
            "backend_services": backends, "add_ons": add_ons,
        })
    }

    fn small() -> Value {
        json!({
            "add_ons": [{"name": "pro"}, {"name": "core"}],
            "backend_services": [{"name": "scans", "jwt_aud": "b"}, {"name": "ai", "jwt_aud": "a"}],
            "license_types": [{"name": "premium"}],
            "services": [
                {"name": "chat", "gitlab_realm": ["self-managed"], "unit_primitives": ["chat", "ask"]},
                {"name": "ask", "gitlab_realm": ["gitlab-com"], "unit_primitives": ["ask"]},
            ],
            "unit_primitives": [
                primitive("scan", &["scans", "ai"], &[]),
                primitive("chat", &["ai"], &["pro", "core"]),
                primitive("ask", &["ai"], &["pro"]),
            ],
        })
    }

    fn named<'a>(catalog: &'a Catalog, name: &str) -> &'a UnitPrimitive {
        catalog.unit_primitive(&name.parse().unwrap()).unwrap()
    }

    #[test]
    fn records_are_sorted_and_found_by_name_and_index() {
        let catalog = Catalog::new(parts(small())).unwrap();
        let names: Vec<_> =
            catalog.unit_primitives().iter().map(|primitive| primitive.name.as_str()).collect();
        assert_eq!(names, ["ask", "chat", "scan"]);
        let scan = named(&catalog, "scan");
        let backends: Vec<_> =
            scan.backend_indexes.iter().map(|index| catalog.backends()[*index].name.as_str()).collect();
        assert_eq!(backends, ["ai", "scans"]);
        let chat = named(&catalog, "chat");
        let add_ons: Vec<_> =
            chat.add_on_indexes.iter().map(|index| catalog.add_ons()[*index].name.as_str()).collect();
        assert_eq!(add_ons, ["core", "pro"]);
        assert_eq!(catalog.add_on_index(&"pro".parse().unwrap()), Some(1));
        assert!(catalog.backend(&"scans".parse().unwrap()).is_some());
        assert!(catalog.license_type(&"premium".parse().unwrap()).is_some());
        assert!(catalog.license_type(&"ultimate".parse().unwrap()).is_none());
        assert!(catalog.service(&"ask".parse().unwrap()).is_some());
    }

    #[test]
    fn a_primitive_is_offered_where_any_service_that_names_it_is() {
        let catalog = Catalog::new(parts(small())).unwrap();
        assert_eq!(named(&catalog, "ask").realms, Some(vec![Realm::GitlabCom, Realm::SelfManaged]));
        assert_eq!(named(&catalog, "chat").realms, Some(vec![Realm::SelfManaged]));
        assert_eq!(named(&catalog, "scan").realms, None);
    }

    #[test]
    fn order_changes_no_digest_and_content_does() {
        let catalog = Catalog::new(parts(small())).unwrap();
        let mut other = parts(small());
        other.unit_primitives.reverse();
        other.unit_primitives[1].add_ons.reverse();
        assert_eq!(Catalog::new(other.clone()).unwrap().digest(), catalog.digest());
        other.unit_primitives[0].description.push('!');
        assert_ne!(Catalog::new(other).unwrap().digest(), catalog.digest());
    }

    #[test]
    fn a_stored_catalog_comes_back_under_its_digest() {
        let catalog = Catalog::new(parts(small())).unwrap();
        let stored = Catalog::from_json(catalog.canonical_json()).unwrap();
        assert_eq!(stored.digest(), catalog.digest());
        assert_eq!(stored.unit_primitives(), catalog.unit_primitives());
        assert_eq!(CatalogDigest::of(catalog.canonical_json()), *catalog.digest());
    }

    #[test]
    fn what_a_newer_program_stored_is_read_and_keeps_its_digest() {
        let mut newer = small();
        newer["unit_primitives"][0]["regions"] = json!(["moon"]);
        let text = digest::canonical_json(&newer);
        let stored = Catalog::from_json(&text).unwrap();
        assert_eq!(stored.digest(), &CatalogDigest::of(&text));
        assert_eq!(stored.canonical_json(), text);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut document = small();
        document["add_ons"] = json!([{"name": "pro"}, {"name": "pro", "description": " "}]);
        document["backend_services"][0]["jwt_aud"] = json!("a");
        document["services"][0]["unit_primitives"] = json!(["chat", "ghost"]);
        document["unit_primitives"][1]["description"] = json!("a\u{7}b");
        let Err(CatalogError::Invalid(InvalidCatalog(problems))) = Catalog::new(parts(document)) else {
            panic!("it must be refused")
        };
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "add_ons/pro, name: another add-on has this name (duplicate_name)",
                "add_ons/pro, description: the text is empty (invalid_text)",
                "backend_services/ai, jwt_aud: scans has this audience: tokens for one backend would pass at the \
                 other (duplicate_audience)",
                "services/chat, unit_primitives[1]: there is no unit primitive ghost (unknown_link)",
                "unit_primitives/chat, description: the text holds control characters (invalid_text)",
                "unit_primitives/chat, add_ons[1]: there is no add-on core (unknown_link)",
            ]
        );
    }
}
