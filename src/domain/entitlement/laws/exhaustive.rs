//! Law 3 on every combination of a small world: what the table says is what is decided and explained.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::generators::{T0, backend, bare_primitive};
use super::{oracle, says_granted};
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::{AddOn, Catalog, CatalogParts, LicenseType, Realm, Service, UnitPrimitive};
use crate::domain::entitlement::{Explanation, Situation, decide};
use crate::domain::instance::{InstanceStanding, InstanceState};
use crate::domain::license::{LicenseKind, LicenseStanding};
use crate::domain::subscription::{Condition, SubscriptionStanding, Term};
use crate::domain::version::Version;

const GRACE: TimeDelta = TimeDelta::days(14);
const MOMENT: TimeDelta = TimeDelta::microseconds(1);
const VERSION: &str = "17.4.0";

/// Situations with one kind of license, times primitives. A change of the small world changes it.
const COMBINATIONS: usize = 3_888 * 165;

/// The instant that is decided on. All else is laid around it.
const AT: DateTime<Utc> = T0;

#[test]
fn every_combination_for_online_licenses_is_explained_as_the_table_says() {
    assert_eq!(compared(LicenseKind::Online), COMBINATIONS);
}

#[test]
fn every_combination_for_offline_licenses_is_explained_as_the_table_says() {
    assert_eq!(compared(LicenseKind::Offline), COMBINATIONS);
}

#[test]
fn every_combination_for_legacy_licenses_is_explained_as_the_table_says() {
    assert_eq!(compared(LicenseKind::Legacy), COMBINATIONS);
}

/// Compares every answer of every situation with such a license; returns how many there were.
fn compared(kind: LicenseKind) -> usize {
    let catalog = catalog();
    let mut compared = 0;
    for situation in situations(kind) {
        let decision = decide(&catalog, &situation, GRACE, AT);
        for (primitive, entitlement) in catalog.unit_primitives().iter().zip(&decision.entitlements) {
            let answer = oracle::answer_for(&catalog, &situation, GRACE, primitive, AT);
            let explanation = Explanation::of(&catalog, &situation, entitlement);
            let (verdict, told) =
                (entitlement.verdict, (says_granted(&explanation), explanation.code.as_ref()));
            assert_eq!(
                (verdict.is_granted(), verdict.is_in_grace(), told),
                (answer.granted, answer.in_grace, (answer.granted, answer.code.as_str())),
                "{primitive:?} in {situation:?}"
            );
            compared += 1;
        }
    }
    compared
}

/// What is recorded: revocation, condition, position in the term, trial, state, what is switched off, what is held.
fn situations(kind: LicenseKind) -> impl Iterator<Item = Situation> {
    let revocations = [None, Some(AT), Some(AT + MOMENT)];
    revocations.into_iter().flat_map(move |revoked_at| {
        Condition::ALL.iter().copied().flat_map(move |condition| {
            [false, true].into_iter().flat_map(move |trial| {
                terms().flat_map(move |term| {
                    InstanceState::ALL.iter().copied().flat_map(move |state| {
                        switches().flat_map(move |(primitives, backends)| {
                            held(term).map(move |purchase| Situation {
                                license: LicenseStanding { kind, revoked_at },
                                subscription: SubscriptionStanding {
                                    license_type: name("premium"),
                                    term,
                                    earlier_ends: Vec::new(),
                                    trial,
                                    condition,
                                },
                                purchases: purchase.into_iter().collect(),
                                instance: InstanceStanding {
                                    state,
                                    version: name(VERSION),
                                    realm: Realm::SelfManaged,
                                    disabled_unit_primitives: primitives
                                        .iter()
                                        .map(|one| name(one))
                                        .collect(),
                                    disabled_backends: backends.iter().map(|one| name(one)).collect(),
                                },
                            })
                        })
                    })
                })
            })
        })
    })
}

/// Terms that lie around [`AT`] with each of their edges on it, or a moment after.
fn terms() -> impl Iterator<Item = Term> {
    let long = TimeDelta::days(365);
    let starting = [AT + MOMENT, AT].map(|starts_at| (starts_at, starts_at + long));
    let ending = [AT + MOMENT, AT, AT - GRACE + MOMENT, AT - GRACE].map(|ends_at| (ends_at - long, ends_at));
    starting
        .into_iter()
        .chain(ending)
        .map(|(starts_at, ends_at)| Term::new(starts_at, ends_at).expect("a year"))
}

/// What the instance's administrator switched off: primitives by name or alias, or all that one backend hosts.
fn switches() -> impl Iterator<Item = (BTreeSet<&'static str>, BTreeSet<&'static str>)> {
    let switches: [(&[&str], &[&str]); 3] =
        [(&[], &[]), (&["by_name", "by_alias"], &[]), (&[], &["ai_gateway"])];
    switches.into_iter().map(|(primitives, backends)| {
        (primitives.iter().copied().collect(), backends.iter().copied().collect())
    })
}

/// No purchase; one in its term; one past it; one that shares the subscription's grace.
fn held(term: Term) -> impl Iterator<Item = Option<PurchaseStanding>> {
    let year = TimeDelta::days(365);
    let ends = [AT + MOMENT, AT, term.ends_at()];
    let purchases = ends.map(|ends_at| {
        let term = Term::new(ends_at - year, ends_at).expect("a year");
        Some(PurchaseStanding { add_on: name("duo_pro"), quantity: 5, term, ended_at: None })
    });
    [None].into_iter().chain(purchases)
}

/// One primitive for each way in which a record may answer: realm, plan, versions, cut-off, add-ons, host.
fn catalog() -> Catalog {
    let mut unit_primitives = Vec::new();
    let mut offered = [Vec::new(), Vec::new()];
    for realm in [None, Some(0), Some(1)] {
        for plans in [&[][..], &["premium"], &["ultimate"]] {
            for (free, paid) in [(None, None), (Some("17.4"), Some("17.5")), (Some("17.5"), Some("17.4"))] {
                for cut_off_date in [None, Some(AT + MOMENT), Some(AT)] {
                    for add_ons in [&[][..], &["duo_core", "duo_pro"]] {
                        let primitive = UnitPrimitive {
                            cut_off_date,
                            min_gitlab_version: paid.map(name::<Version>),
                            min_gitlab_version_for_free_access: free.map(name::<Version>),
                            license_types: plans.iter().map(|plan| name(plan)).collect(),
                            backend_services: vec![name("ai_gateway")],
                            add_ons: add_ons.iter().map(|add_on| name(add_on)).collect(),
                            ..bare_primitive(&format!("primitive_{}", unit_primitives.len()))
                        };
                        if let Some(realm) = realm {
                            let services: &mut Vec<_> = &mut offered[realm];
                            services.push(primitive.name.clone());
                        }
                        unit_primitives.push(primitive);
                    }
                }
            }
        }
    }
    // Two that the situations switch off, and one that no backend hosts.
    unit_primitives.push(bare_primitive("by_name"));
    unit_primitives.push(UnitPrimitive { alias_names: vec![name("by_alias")], ..bare_primitive("renamed") });
    unit_primitives.push(UnitPrimitive { cut_off_date: Some(AT), ..bare_primitive("hosted_nowhere") });
    let services = [("here", Realm::SelfManaged), ("there", Realm::GitlabCom)].into_iter().zip(offered);
    Catalog::new(CatalogParts {
        add_ons: ["duo_core", "duo_pro"].map(|one| AddOn { name: name(one), description: None }).into(),
        backends: vec![backend("ai_gateway")],
        license_types: ["premium", "ultimate"]
            .map(|one| LicenseType { name: name(one), description: None })
            .into(),
        services: services
            .map(|((called, realm), unit_primitives)| Service {
                name: name(called),
                basic_unit_primitive: None,
                realms: vec![realm],
                description: None,
                unit_primitives,
            })
            .collect(),
        unit_primitives,
    })
    .expect("records that fit together")
}

fn name<N: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> N {
    name.parse().expect("a name")
}
