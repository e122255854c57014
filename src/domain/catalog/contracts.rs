//! Compares what is sold with what the backends say that they enforce.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{BackendName, Catalog, UnitPrimitiveName};

/// What each backend enforces, by the backend's name in its declaration. Several versions of a backend may run at once.
#[derive(Clone, Debug, Default)]
pub struct Contracts(BTreeMap<String, Contract>);

/// What the versions of one backend enforce.
#[derive(Clone, Debug)]
struct Contract {
    /// All of them: what a version leaves out, it gives to anyone.
    everywhere: BTreeSet<String>,
    /// Any of them: what a version demands in vain, nobody gets from it.
    somewhere: BTreeSet<String>,
}

impl Contracts {
    /// Adds what one version of a backend enforces.
    pub fn add(&mut self, backend: &str, enforced: BTreeSet<String>) {
        match self.0.get_mut(backend) {
            Some(contract) => {
                contract.everywhere.retain(|name| enforced.contains(name));
                contract.somewhere.extend(enforced);
            }
            None => {
                let contract = Contract { everywhere: enforced.clone(), somewhere: enforced };
                self.0.insert(backend.to_owned(), contract);
            }
        }
    }
}

/// How the two differ. Everything in it is sorted.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ContractReport {
    /// Sold, and no backend asks for it: customers pay for what anyone gets.
    pub enforced_nowhere: Vec<EnforcedNowhere>,
    /// A backend asks for it, and no token for that backend ever says it: nobody gets it, whatever they pay.
    pub not_sellable: Vec<NotSellable>,
    /// Backends that host something and have declared nothing: of what they alone host, nothing is known.
    pub undeclared: Vec<BackendName>,
}

/// A unit primitive that is sold and enforced nowhere.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct EnforcedNowhere {
    pub unit_primitive: UnitPrimitiveName,
    /// The backends that host it; none: it is hosted nowhere, and no token names it.
    pub backends: Vec<BackendName>,
}

/// A unit primitive that a backend enforces in vain.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NotSellable {
    pub unit_primitive: String,
    pub backend: String,
    pub reason: NotSellableReason,
    /// What it should probably ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<UnitPrimitiveName>,
}

/// Why no token for the backend says it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotSellableReason {
    /// The catalog has no backend of this name.
    BackendUnknown,
    /// It is an older name: tokens say the new one.
    Renamed,
    /// The catalog has it on other backends.
    HostedElsewhere,
    /// The catalog has no unit primitive of this name.
    Unknown,
}

impl NotSellableReason {
    /// As part of a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::BackendUnknown => "the catalog has no such backend",
            Self::HostedElsewhere => "the catalog hosts it on other backends",
            Self::Renamed => "this is an older name; tokens say the new one",
            Self::Unknown => "the catalog has no such unit primitive",
        }
    }
}

impl ContractReport {
    /// Compares the catalog with the contracts.
    #[must_use]
    pub fn new(catalog: &Catalog, contracts: &Contracts) -> Self {
        let mut report = Self::default();
        for primitive in catalog.unit_primitives() {
            let hosts = &primitive.backend_services;
            let contract_of = |host: &BackendName| contracts.0.get(host.as_str());
            let enforced = hosts
                .iter()
                .filter_map(contract_of)
                .any(|contract| contract.everywhere.contains(primitive.name.as_str()));
            if !enforced && hosts.iter().all(|host| contract_of(host).is_some()) {
                let (unit_primitive, backends) = (primitive.name.clone(), hosts.clone());
                report.enforced_nowhere.push(EnforcedNowhere { unit_primitive, backends });
            }
        }
        for (backend, contract) in &contracts.0 {
            for name in &contract.somewhere {
                if let Some((reason, instead)) = in_vain(catalog, backend, name) {
                    let (unit_primitive, backend) = (name.clone(), backend.clone());
                    report.not_sellable.push(NotSellable { unit_primitive, backend, reason, instead });
                }
            }
        }
        let hosting: BTreeSet<_> =
            catalog.unit_primitives().iter().flat_map(|primitive| &primitive.backend_services).collect();
        let undeclared = hosting.into_iter().filter(|name| !contracts.0.contains_key(name.as_str()));
        report.undeclared = undeclared.cloned().collect();
        report
    }

    /// Whether anything differs. What is undeclared is not known to differ.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.enforced_nowhere.is_empty() && self.not_sellable.is_empty()
    }
}

/// Why no token for `backend` ever names `name`, if none does.
fn in_vain(
    catalog: &Catalog,
    backend: &str,
    name: &str,
) -> Option<(NotSellableReason, Option<UnitPrimitiveName>)> {
    let known = BackendName::new(backend).ok().filter(|backend| catalog.backend(backend).is_some());
    let Some(backend) = known else { return Some((NotSellableReason::BackendUnknown, None)) };
    let found = UnitPrimitiveName::new(name).ok().and_then(|name| catalog.unit_primitive(&name));
    match found {
        None => Some((NotSellableReason::Unknown, None)),
        Some(primitive) if primitive.name.as_str() != name => {
            Some((NotSellableReason::Renamed, Some(primitive.name.clone())))
        }
        Some(primitive) if !primitive.backend_services.contains(&backend) => {
            Some((NotSellableReason::HostedElsewhere, None))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog() -> Catalog {
        let primitive = |name: &str, backends: &[&str], aliases: &[&str]| {
            json!({
                "name": name, "description": "x", "feature_category": "x",
                "backend_services": backends, "alias_names": aliases,
            })
        };
        let parts = json!({
            "backend_services": [{"name": "ai", "jwt_aud": "a"}, {"name": "scans", "jwt_aud": "b"}],
            "unit_primitives": [
                primitive("ask", &["ai"], &["question"]),
                primitive("both", &["ai", "scans"], &[]),
                primitive("scan", &["scans"], &[]),
            ],
        });
        Catalog::new(serde_json::from_value(parts).unwrap()).unwrap()
    }

    fn report(contracts: &[(&str, &[&str])]) -> ContractReport {
        let mut all = Contracts::default();
        for (backend, names) in contracts {
            all.add(backend, names.iter().map(|name| (*name).to_owned()).collect());
        }
        ContractReport::new(&catalog(), &all)
    }

    fn nowhere(report: &ContractReport) -> Vec<&str> {
        report.enforced_nowhere.iter().map(|entry| entry.unit_primitive.as_str()).collect()
    }

    #[test]
    fn what_every_host_enforces_between_them_holds() {
        let report = report(&[("ai", &["ask", "both"]), ("scans", &["scan"])]);
        assert!(report.holds() && report.undeclared.is_empty(), "{report:?}");
    }

    #[test]
    fn what_is_sold_must_be_enforced_somewhere() {
        let report = report(&[("ai", &["ask"]), ("scans", &["scan"])]);
        assert_eq!(nowhere(&report), ["both"]);
        assert!(!report.holds());
    }

    #[test]
    fn of_backends_that_declare_nothing_nothing_is_concluded() {
        let report = report(&[("ai", &["ask"])]);
        assert!(report.holds(), "{report:?}");
        assert_eq!(report.undeclared.iter().map(BackendName::as_str).collect::<Vec<_>>(), ["scans"]);
    }

    #[test]
    fn of_two_versions_that_run_either_can_give_away_or_lock_out() {
        let report = report(&[("ai", &["ask", "both"]), ("ai", &["ask", "fly"]), ("scans", &["scan"])]);
        assert_eq!(nowhere(&report), ["both"], "the second version gives it to anyone");
        let in_vain: Vec<_> = report.not_sellable.iter().map(|entry| entry.unit_primitive.as_str()).collect();
        assert_eq!(in_vain, ["fly"], "the second version gives it to nobody");
    }

    #[test]
    fn what_no_token_says_is_enforced_in_vain() {
        let report = report(&[
            ("ai", &["ask", "both", "fly", "question", "scan"]),
            ("moon", &["ask"]),
            ("scans", &["scan"]),
        ]);
        let found: Vec<_> = report
            .not_sellable
            .iter()
            .map(|entry| (entry.backend.as_str(), entry.unit_primitive.as_str(), entry.reason))
            .collect();
        assert_eq!(
            found,
            [
                ("ai", "fly", NotSellableReason::Unknown),
                ("ai", "question", NotSellableReason::Renamed),
                ("ai", "scan", NotSellableReason::HostedElsewhere),
                ("moon", "ask", NotSellableReason::BackendUnknown),
            ]
        );
        assert_eq!(report.not_sellable[1].instead.as_ref().map(UnitPrimitiveName::as_str), Some("ask"));
    }
}
