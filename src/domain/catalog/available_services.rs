//! The older view of what is sold: services that bundle unit primitives, by the rules that older instances know.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{AddOnName, Catalog, Realm, Service, UnitPrimitive, UnitPrimitiveName};

/// One service, or one unit primitive under its own name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AvailableService {
    pub name: String,
    /// When free access ends, which is when the service is sold; `None`: never.
    pub service_start_time: Option<DateTime<Utc>>,
    /// Which unit primitives of it each add-on brings. Empty where none is needed.
    pub bundled_with: BTreeMap<AddOnName, Vec<UnitPrimitiveName>>,
}

/// What instances of this realm are told to exist, sorted by name.
///
/// A service takes its start from its basic primitive, else from its first. A unit primitive that no service is
/// named like is a service of its own.
#[must_use]
pub fn available_services(catalog: &Catalog, realm: Realm) -> Vec<AvailableService> {
    let named: BTreeSet<&str> = catalog.services().iter().map(|service| service.name.as_str()).collect();
    let services = catalog.services().iter().filter(|service| service.realms.contains(&realm));
    let offered = |primitive: &&UnitPrimitive| {
        !named.contains(primitive.name.as_str())
            && primitive.realms.as_ref().is_none_or(|realms| realms.contains(&realm))
    };
    let alone = catalog.unit_primitives().iter().filter(offered);
    let mut all: Vec<_> = services
        .filter_map(|service| of_service(catalog, service))
        .chain(alone.map(|primitive| view(primitive.name.to_string(), primitive, &[primitive])))
        .collect();
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all
}

fn of_service(catalog: &Catalog, service: &Service) -> Option<AvailableService> {
    let members: Vec<_> =
        service.unit_primitives.iter().filter_map(|name| catalog.unit_primitive(name)).collect();
    let basic = service.basic_unit_primitive.as_ref().and_then(|name| catalog.unit_primitive(name));
    let basic = basic.or_else(|| members.first().copied())?;
    Some(view(service.name.to_string(), basic, &members))
}

fn view(name: String, basic: &UnitPrimitive, members: &[&UnitPrimitive]) -> AvailableService {
    let mut bundled_with: BTreeMap<AddOnName, Vec<UnitPrimitiveName>> = BTreeMap::new();
    for primitive in members {
        for add_on in &primitive.add_ons {
            bundled_with.entry(add_on.clone()).or_default().push(primitive.name.clone());
        }
    }
    AvailableService { name, service_start_time: basic.cut_off_date, bundled_with }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog() -> Catalog {
        let primitive = |name: &str, add_ons: &[&str], cut_off: Option<&str>| json!({"name": name, "description": "x", "feature_category": "x", "add_ons": add_ons, "cut_off_date": cut_off});
        let parts = json!({
            "add_ons": [{"name": "pro"}, {"name": "max"}],
            "services": [
                {"name": "chat", "basic_unit_primitive": "talk", "gitlab_realm": ["gitlab-com", "self-managed"],
                 "unit_primitives": ["chat", "talk"]},
                {"name": "scans", "gitlab_realm": ["gitlab-com"], "unit_primitives": ["scan"]},
            ],
            "unit_primitives": [
                primitive("chat", &["max"], Some("2025-01-01T00:00:00Z")),
                primitive("talk", &["max", "pro"], Some("2024-10-17T00:00:00Z")),
                primitive("scan", &[], None),
                primitive("free", &[], None),
            ],
        });
        Catalog::new(serde_json::from_value(parts).unwrap()).unwrap()
    }

    #[test]
    fn services_come_by_realm_and_primitives_that_are_not_named_like_one_beside_them() {
        let names = |realm| -> Vec<String> {
            available_services(&catalog(), realm).into_iter().map(|service| service.name).collect()
        };
        assert_eq!(names(Realm::SelfManaged), ["chat", "free", "talk"]);
        assert_eq!(names(Realm::GitlabCom), ["chat", "free", "scan", "scans", "talk"]);
    }

    #[test]
    fn a_service_starts_as_its_basic_primitive_does_and_says_what_each_add_on_brings() {
        let services = available_services(&catalog(), Realm::SelfManaged);
        assert_eq!(services[0].service_start_time, Some("2024-10-17T00:00:00Z".parse().unwrap()));
        let bundled: Vec<_> = services[0]
            .bundled_with
            .iter()
            .map(|(add_on, names)| {
                (add_on.to_string(), names.iter().map(ToString::to_string).collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            bundled,
            [
                ("max".to_owned(), vec!["chat".to_owned(), "talk".to_owned()]),
                ("pro".to_owned(), vec!["talk".to_owned()])
            ]
        );
        assert!(services[1].bundled_with.is_empty());
    }
}
