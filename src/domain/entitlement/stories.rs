//! Decisions told as stories: what a customer bought, and what an instance may therefore use.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{Cause, Denial, Explanation, Obstacle, Situation, Verdict, decide, obstacle_of_purchase};
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::{BackendName, Catalog, Realm, UnitPrimitiveName};
use crate::domain::instance::{InstanceStanding, InstanceState};
use crate::domain::license::{LicenseKind, LicenseStanding};
use crate::domain::subscription::{Condition, SubscriptionStanding, Term};
use crate::domain::token_plan::{BackendGrants, Lifetime, TokenPlan};

const GRACE: TimeDelta = TimeDelta::days(14);
const MOMENT: TimeDelta = TimeDelta::microseconds(1);

/// 2026-01-01T00:00:00Z, when the year that most stories are about begins.
const NEW_YEAR: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).expect("a known instant");

fn day(days: i64) -> DateTime<Utc> {
    NEW_YEAR + TimeDelta::days(days)
}

/// The last instant of the year's term is the one before this.
const YEAR: i64 = 365;

/// A small catalog: the cut-off of everything paid lies before the year, but for `fix_code`.
fn catalog() -> Catalog {
    let paid = "2024-10-17T00:00:00Z";
    let primitive = |name: &str, backend: &str, add_ons: &[&str], more: serde_json::Value| {
        let mut record = json!({
            "name": name, "description": "x", "feature_category": "x", "backend_services": [backend],
            "add_ons": add_ons, "license_types": ["premium", "ultimate"],
        });
        for (key, value) in more.as_object().expect("an object") {
            record[key] = value.clone();
        }
        record
    };
    let document = json!({
        "add_ons": [{"name": "duo_core"}, {"name": "duo_enterprise"}, {"name": "duo_pro"}],
        "backend_services": [
            {"name": "ai_gateway", "jwt_aud": "gitlab-ai-gateway"},
            {"name": "security_gateway", "jwt_aud": "gitlab-security-gateway"},
        ],
        "license_types": [{"name": "premium"}, {"name": "starter"}, {"name": "ultimate"}],
        "services": [
            {"name": "hosted_runners", "gitlab_realm": ["gitlab-com"], "unit_primitives": ["hosted_runners"]},
            {"name": "sast", "gitlab_realm": ["gitlab-com", "self-managed"], "unit_primitives": ["security_scans"]},
        ],
        "unit_primitives": [
            primitive("ask_epic", "ai_gateway", &["duo_enterprise"], json!({"cut_off_date": paid})),
            primitive("complete_code", "ai_gateway", &["duo_pro", "duo_enterprise"],
                json!({"cut_off_date": paid, "alias_names": ["code_completion"]})),
            primitive("duo_chat", "ai_gateway", &["duo_core", "duo_pro", "duo_enterprise"],
                json!({"cut_off_date": paid, "min_gitlab_version": "16.9", "min_gitlab_version_for_free_access": "16.8"})),
            primitive("fix_code", "ai_gateway", &["duo_pro"],
                json!({"cut_off_date": "2026-07-01T00:00:00Z", "min_gitlab_version": "18.2"})),
            primitive("hosted_runners", "ai_gateway", &[], json!({})),
            primitive("push_rules", "ai_gateway", &[], json!({"cut_off_date": paid, "license_types": ["ultimate"]})),
            primitive("security_scans", "security_gateway", &[], json!({})),
        ],
    });
    Catalog::new(serde_json::from_value(document).expect("records")).expect("records that fit together")
}

/// A production instance of a customer who bought the year, and nothing else.
fn customer() -> Situation {
    Situation {
        license: LicenseStanding { kind: LicenseKind::Online, revoked_at: None },
        subscription: SubscriptionStanding {
            license_type: "premium".parse().expect("a name"),
            term: Term::new(day(0), day(YEAR)).expect("a year"),
            earlier_ends: Vec::new(),
            trial: false,
            condition: Condition::Active,
        },
        purchases: Vec::new(),
        instance: InstanceStanding {
            state: InstanceState::Active,
            version: "18.1.0-ee".parse().expect("a version"),
            realm: Realm::SelfManaged,
            disabled_unit_primitives: [].into(),
            disabled_backends: [].into(),
        },
    }
}

/// The same, who also bought add-ons, each with its seats and the days of its term.
fn who_bought(purchases: &[(&str, u32, i64, i64)]) -> Situation {
    let purchases = purchases.iter().map(|(add_on, quantity, starts, ends)| PurchaseStanding {
        add_on: add_on.parse().expect("a name"),
        quantity: *quantity,
        term: Term::new(day(*starts), day(*ends)).expect("a term"),
        ended_at: None,
    });
    Situation { purchases: purchases.collect(), ..customer() }
}

fn primitive(name: &str) -> UnitPrimitiveName {
    name.parse().expect("a name")
}

/// The code, and whether only grace holds it.
fn told(situation: &Situation, name: &str, at: DateTime<Utc>) -> (String, bool) {
    let catalog = catalog();
    let decision = decide(&catalog, situation, GRACE, at);
    let entitlement = &decision.entitlements[catalog.unit_primitive_index(&primitive(name)).expect("known")];
    let explanation = Explanation::of(&catalog, situation, entitlement);
    (explanation.code.into_owned(), entitlement.verdict.is_in_grace())
}

fn code(situation: &Situation, name: &str, at: DateTime<Utc>) -> String {
    told(situation, name, at).0
}

fn until(situation: &Situation, name: &str, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let catalog = catalog();
    let decision = decide(&catalog, situation, GRACE, at);
    decision.entitlements[catalog.unit_primitive_index(&primitive(name)).expect("known")].until
}

fn remedy(situation: &Situation, name: &str, at: DateTime<Utc>) -> Option<String> {
    let catalog = catalog();
    let decision = decide(&catalog, situation, GRACE, at);
    let entitlement = &decision.entitlements[catalog.unit_primitive_index(&primitive(name)).expect("known")];
    Explanation::of(&catalog, situation, entitlement).remedy
}

/// Backend, scopes and end of each token of a sync.
fn tokens(situation: &Situation, at: DateTime<Utc>) -> Vec<(String, Vec<String>, DateTime<Utc>)> {
    tokens_for(situation, None, at)
}

fn tokens_for(
    situation: &Situation,
    backends: Option<&[BackendName]>,
    at: DateTime<Utc>,
) -> Vec<(String, Vec<String>, DateTime<Utc>)> {
    let catalog = catalog();
    let decision = decide(&catalog, situation, GRACE, at);
    let lifetime = Lifetime { of_tokens: TimeDelta::hours(8), of_key: day(400) };
    TokenPlan::of_grants(&BackendGrants::of_decision(&catalog, situation, &decision, backends), lifetime, at)
        .iter()
        .map(|plan| {
            let scopes = plan.scopes().iter().map(|scope| catalog.unit_primitives()[*scope].name.to_string());
            (catalog.backends()[plan.backend()].name.to_string(), scopes.collect(), plan.expires_at())
        })
        .collect()
}

#[test]
fn ten_days_after_the_term_grace_still_holds_and_fifteen_days_after_nothing_does() {
    let customer = who_bought(&[("duo_pro", 10, 0, YEAR)]);
    let granted = |code: &str| (code.to_owned(), false);
    let in_grace = |code: &str| (code.to_owned(), true);
    assert_eq!(told(&customer, "security_scans", day(YEAR) - MOMENT), granted("free_access"));
    assert_eq!(told(&customer, "security_scans", day(YEAR)), in_grace("free_access"));
    assert_eq!(told(&customer, "security_scans", day(YEAR + 10)), in_grace("free_access"));
    // It ran to the subscription's end: it shares its grace.
    assert_eq!(told(&customer, "duo_chat", day(YEAR + 10)), in_grace("add_on:duo_pro"));
    assert_eq!(told(&customer, "duo_chat", day(YEAR + 14) - MOMENT), in_grace("add_on:duo_pro"));
    assert_eq!(code(&customer, "security_scans", day(YEAR + 14)), "expired");
    assert_eq!(code(&customer, "duo_chat", day(YEAR + 15)), "expired");
}

#[test]
fn a_trial_grants_like_a_paid_term_until_its_end_and_has_no_grace() {
    let mut customer = who_bought(&[("duo_pro", 10, 0, YEAR)]);
    customer.subscription.trial = true;
    assert_eq!(code(&customer, "duo_chat", day(YEAR) - MOMENT), "add_on:duo_pro");
    assert_eq!(until(&customer, "duo_chat", day(0)), Some(day(YEAR)));
    assert_eq!(code(&customer, "duo_chat", day(YEAR)), "expired");
}

#[test]
fn a_term_that_lies_ahead_grants_nothing_yet_and_says_until_when() {
    let customer = customer();
    assert_eq!(code(&customer, "security_scans", day(0) - MOMENT), "not_started");
    assert_eq!(until(&customer, "security_scans", day(-3)), Some(day(0)));
    assert_eq!(code(&customer, "security_scans", day(0)), "free_access");
}

#[test]
fn a_purchase_that_ends_before_its_subscription_has_no_grace() {
    let customer = who_bought(&[("duo_pro", 10, 0, YEAR - 1)]);
    assert_eq!(code(&customer, "duo_chat", day(YEAR - 1) - MOMENT), "add_on:duo_pro");
    assert_eq!(code(&customer, "duo_chat", day(YEAR - 1)), "add_on_not_purchased");
}

#[test]
fn a_purchase_beyond_the_subscription_ends_with_its_grace() {
    let customer = who_bought(&[("duo_pro", 10, 0, YEAR + 30)]);
    assert_eq!(told(&customer, "duo_chat", day(YEAR + 13)), ("add_on:duo_pro".to_owned(), true));
    assert_eq!(code(&customer, "duo_chat", day(YEAR + 14)), "expired");
}

#[test]
fn a_renewal_takes_no_grace_away_from_what_was_not_renewed_with_it() {
    let before = who_bought(&[("duo_pro", 10, 0, YEAR)]);
    let renewed = Situation {
        subscription: before.subscription.renewed(day(2 * YEAR)).expect("a later end"),
        ..before.clone()
    };
    assert_eq!(told(&renewed, "security_scans", day(YEAR + 10)), ("free_access".to_owned(), false));
    // The term goes on; only the purchase lives on its grace.
    assert_eq!(told(&renewed, "duo_chat", day(YEAR + 10)), told(&before, "duo_chat", day(YEAR + 10)));
    assert_eq!(until(&renewed, "duo_chat", day(YEAR + 10)), Some(day(YEAR + 14)));
    assert_eq!(code(&renewed, "duo_chat", day(YEAR + 14)), "add_on_not_purchased");
}

#[test]
fn a_purchase_that_was_ended_is_over_at_once_even_in_grace() {
    let mut customer = who_bought(&[("duo_pro", 10, 0, YEAR)]);
    customer.purchases[0].ended_at = Some(day(100));
    assert_eq!(code(&customer, "duo_chat", day(100) - MOMENT), "add_on:duo_pro");
    assert_eq!(code(&customer, "duo_chat", day(100)), "add_on_not_purchased");
    customer.purchases[0].ended_at = Some(day(YEAR + 3));
    assert_eq!(code(&customer, "duo_chat", day(YEAR + 3) - MOMENT), "add_on:duo_pro");
    assert_eq!(code(&customer, "duo_chat", day(YEAR + 3)), "add_on_not_purchased");
}

#[test]
fn a_second_purchase_in_its_term_ends_the_grace_of_the_first() {
    // Of both the first ends last, since it shares the grace; yet not only grace holds the chat.
    let customer = who_bought(&[("duo_pro", 10, 0, YEAR), ("duo_core", 10, YEAR - 5, YEAR + 10)]);
    let renewed = Situation {
        subscription: customer.subscription.renewed(day(2 * YEAR)).expect("a later end"),
        ..customer
    };
    assert!(!told(&renewed, "duo_chat", day(YEAR + 5)).1);
    assert!(told(&renewed, "duo_chat", day(YEAR + 10)).1);
    assert!(told(&renewed, "complete_code", day(YEAR + 5)).1);
}

#[test]
fn any_one_of_the_add_ons_grants_what_is_bundled_with_several() {
    for add_on in ["duo_core", "duo_enterprise", "duo_pro"] {
        let customer = who_bought(&[(add_on, 1, 0, YEAR)]);
        assert_eq!(code(&customer, "duo_chat", day(1)), format!("add_on:{add_on}"));
    }
    let customer = who_bought(&[("duo_pro", 1, 0, YEAR)]);
    assert_eq!(code(&customer, "ask_epic", day(1)), "add_on_not_purchased");
    assert_eq!(remedy(&customer, "ask_epic", day(1)).as_deref(), Some("Purchase one of: duo_enterprise."));
}

#[test]
fn of_several_add_ons_the_one_that_ends_last_is_named_then_the_first_by_name() {
    let both = who_bought(&[("duo_enterprise", 1, 0, 100), ("duo_pro", 1, 0, 200)]);
    assert_eq!(code(&both, "duo_chat", day(1)), "add_on:duo_pro");
    let alike = who_bought(&[("duo_pro", 1, 0, 100), ("duo_enterprise", 1, 0, 100)]);
    assert_eq!(code(&alike, "duo_chat", day(1)), "add_on:duo_enterprise");
}

#[test]
fn seats_of_one_add_on_sum_and_a_token_tells_the_largest_sum() {
    let catalog = catalog();
    let customer = who_bought(&[
        ("duo_pro", 10, 0, YEAR),
        ("duo_pro", 5, 0, 100),
        ("duo_pro", 100, 200, YEAR),
        ("duo_enterprise", 12, 0, YEAR),
    ]);
    let decision = decide(&catalog, &customer, GRACE, day(50));
    // In the catalog's order: duo_core, duo_enterprise, duo_pro.
    assert_eq!(decision.seats, [0, 12, 15]);
    let lifetime = Lifetime { of_tokens: TimeDelta::hours(8), of_key: day(400) };
    let plans = TokenPlan::of_grants(
        &BackendGrants::of_decision(&catalog, &customer, &decision, None),
        lifetime,
        day(50),
    );
    let seats: Vec<_> = plans.iter().map(TokenPlan::seats).collect();
    // Nothing at the security gateway was bought with seats.
    assert_eq!(seats, [Some(15), None]);
}

#[test]
fn free_access_needs_no_add_on_until_its_cut_off_and_one_from_then_on() {
    let cut_off = "2026-07-01T00:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
    let mut customer = customer();
    customer.instance.version = "18.2".parse().expect("a version");
    assert_eq!(code(&customer, "fix_code", cut_off - MOMENT), "free_access");
    assert_eq!(until(&customer, "fix_code", day(0)), Some(cut_off));
    assert_eq!(code(&customer, "fix_code", cut_off), "add_on_not_purchased");
    assert_eq!(until(&customer, "fix_code", cut_off), Some(day(YEAR + 14)));
}

#[test]
fn the_version_that_counts_is_the_one_for_the_access_that_applies() {
    let cut_off = "2026-07-01T00:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
    let mut customer = who_bought(&[("duo_pro", 1, 0, YEAR)]);
    assert_eq!(code(&customer, "fix_code", cut_off - MOMENT), "free_access");
    assert_eq!(code(&customer, "fix_code", cut_off), "version_too_old");
    assert_eq!(remedy(&customer, "fix_code", cut_off).as_deref(), Some("Upgrade to at least 18.2.0."));
    customer.instance.version = "16.8".parse().expect("a version");
    assert_eq!(code(&customer, "duo_chat", day(1)), "version_too_old");
    customer.instance.version = "16.9".parse().expect("a version");
    assert_eq!(code(&customer, "duo_chat", day(1)), "add_on:duo_pro");
}

#[test]
fn where_no_add_on_is_named_the_plan_alone_grants_after_the_cut_off() {
    let mut customer = customer();
    assert_eq!(code(&customer, "push_rules", day(1)), "license_type_not_eligible");
    assert_eq!(
        remedy(&customer, "push_rules", day(1)).as_deref(),
        Some("Change to one of the plans: ultimate.")
    );
    customer.subscription.license_type = "ultimate".parse().expect("a name");
    assert_eq!(code(&customer, "push_rules", day(1)), "license_type:ultimate");
}

#[test]
fn a_primitive_is_offered_in_the_realms_of_the_services_that_name_it() {
    let mut customer = customer();
    assert_eq!(code(&customer, "hosted_runners", day(1)), "not_in_realm");
    assert_eq!(code(&customer, "security_scans", day(1)), "free_access");
    customer.instance.realm = Realm::GitlabCom;
    assert_eq!(code(&customer, "hosted_runners", day(1)), "free_access");
}

#[test]
fn what_was_switched_off_stays_off_under_its_new_name() {
    let mut customer = who_bought(&[("duo_pro", 1, 0, YEAR)]);
    customer.instance.disabled_unit_primitives = [primitive("code_completion")].into();
    assert_eq!(code(&customer, "complete_code", day(1)), "disabled_by_instance");
    assert_eq!(code(&customer, "duo_chat", day(1)), "add_on:duo_pro");
}

#[test]
fn a_backend_that_is_switched_off_gets_no_token() {
    let mut customer = who_bought(&[("duo_pro", 1, 0, YEAR)]);
    customer.instance.disabled_backends = ["ai_gateway".parse().expect("a name")].into();
    assert_eq!(code(&customer, "duo_chat", day(1)), "disabled_by_instance");
    let backends: Vec<_> = tokens(&customer, day(1)).into_iter().map(|(backend, ..)| backend).collect();
    assert_eq!(backends, ["security_gateway"]);
}

#[test]
fn the_first_check_that_fails_gives_the_code() {
    let mut customer = customer();
    customer.license = LicenseStanding { kind: LicenseKind::Offline, revoked_at: Some(day(1)) };
    customer.subscription.condition = Condition::Canceled;
    customer.instance.state = InstanceState::Blocked;
    let at = day(YEAR + 100);
    assert_eq!(code(&customer, "security_scans", at), "license_not_online");
    customer.license.kind = LicenseKind::Online;
    assert_eq!(code(&customer, "security_scans", at), "license_revoked");
    customer.license.revoked_at = None;
    assert_eq!(code(&customer, "security_scans", at), "subscription_canceled");
    customer.subscription.condition = Condition::Suspended;
    assert_eq!(code(&customer, "security_scans", at), "subscription_suspended");
    customer.subscription.condition = Condition::Active;
    assert_eq!(code(&customer, "security_scans", at), "expired");
    assert_eq!(code(&customer, "security_scans", day(1)), "instance_blocked");
    customer.instance.state = InstanceState::Released;
    assert_eq!(code(&customer, "security_scans", day(1)), "instance_released");
}

#[test]
fn a_revocation_acts_at_its_instant_and_without_grace() {
    let mut customer = customer();
    customer.license.revoked_at = Some(day(5));
    assert_eq!(code(&customer, "security_scans", day(5) - MOMENT), "free_access");
    assert_eq!(until(&customer, "security_scans", day(1)), Some(day(5)));
    let decision = decide(&catalog(), &customer, GRACE, day(5));
    assert_eq!(decision.obstacle, Some(Obstacle::LicenseRevoked { at: day(5) }));
    let revoked = Verdict::Denied(Denial::Obstacle(Obstacle::LicenseRevoked { at: day(5) }));
    assert!(decision.entitlements.iter().all(|entitlement| entitlement.verdict == revoked));
}

#[test]
fn what_hinders_an_activation_is_what_would_hinder_the_sync_after_it() {
    let customer = customer();
    for days in [-1, 0, YEAR, YEAR + 14] {
        let before = obstacle_of_purchase(&customer.license, &customer.subscription, GRACE, day(days));
        assert_eq!(before, decide(&catalog(), &customer, GRACE, day(days)).obstacle);
    }
}

#[test]
fn two_purchases_of_one_add_on_grant_it_once_and_without_a_gap() {
    let customer = who_bought(&[("duo_enterprise", 1, 0, 100), ("duo_enterprise", 1, 90, 200)]);
    let catalog = catalog();
    let decision = decide(&catalog, &customer, GRACE, day(95));
    let index = catalog.unit_primitive_index(&primitive("ask_epic")).expect("known");
    let entitlement = decision.entitlements[index];
    assert!(matches!(entitlement.verdict, Verdict::Granted { cause: Cause::AddOn(1), in_grace: false }));
    assert_eq!((entitlement.until, entitlement.granted_until), (Some(day(200)), Some(day(200))));
    let carrying =
        tokens(&customer, day(95)).into_iter().filter(|(_, scopes, _)| scopes.contains(&"ask_epic".into()));
    assert_eq!(carrying.count(), 1);
}

#[test]
fn a_change_of_the_cause_is_a_change_and_no_end() {
    let customer = who_bought(&[("duo_enterprise", 1, 0, 100), ("duo_pro", 1, 50, 200)]);
    let catalog = catalog();
    let decision = decide(&catalog, &customer, GRACE, day(10));
    let index = catalog.unit_primitive_index(&primitive("duo_chat")).expect("known");
    let entitlement = decision.entitlements[index];
    assert_eq!((entitlement.until, entitlement.granted_until), (Some(day(50)), Some(day(200))));
}

#[test]
fn what_ends_within_the_lifetime_goes_into_a_token_of_its_own() {
    let customer = who_bought(&[("duo_enterprise", 1, 0, 100), ("duo_pro", 1, 0, YEAR)]);
    let at = day(100) - TimeDelta::hours(3);
    let (ai, security) = ("ai_gateway".to_owned(), "security_gateway".to_owned());
    let lasting = ["complete_code", "duo_chat", "fix_code"].map(str::to_owned).to_vec();
    let eight_hours = at + TimeDelta::hours(8);
    assert_eq!(
        tokens(&customer, at),
        [
            (ai.clone(), lasting, eight_hours),
            (ai, vec!["ask_epic".to_owned()], day(100)),
            (security, vec!["security_scans".to_owned()], eight_hours),
        ]
    );
}

#[test]
fn what_ends_this_second_does_not_take_along_what_ends_later() {
    let hours = |hours: i64| day(100) + TimeDelta::hours(hours);
    let mut customer = who_bought(&[("duo_enterprise", 1, 0, YEAR), ("duo_pro", 1, 0, YEAR)]);
    // `ask_epic` ends within the second, `complete_code` and `duo_chat` in two hours, `fix_code` lasts.
    customer.purchases[0].term = Term::new(day(0), hours(0) + TimeDelta::milliseconds(600)).expect("a term");
    customer.purchases[1].term = Term::new(day(0), hours(2)).expect("a term");
    let scopes: Vec<_> =
        tokens(&customer, hours(0)).into_iter().map(|(_, scopes, end)| (scopes, end)).collect();
    assert_eq!(
        scopes,
        [
            (vec!["fix_code".to_owned()], hours(8)),
            (vec!["complete_code".to_owned(), "duo_chat".to_owned()], hours(2)),
            (vec!["security_scans".to_owned()], hours(8)),
        ]
    );
}

#[test]
fn a_sync_for_some_backends_gets_tokens_for_those_and_unknown_names_ask_for_nothing() {
    let customer = customer();
    let asked = ["security_gateway", "unknown"].map(|name| name.parse().expect("a name"));
    let backends: Vec<_> =
        tokens_for(&customer, Some(&asked), day(1)).into_iter().map(|(backend, ..)| backend).collect();
    assert_eq!(backends, ["security_gateway"]);
    assert!(tokens_for(&customer, Some(&[]), day(1)).is_empty());
}

#[test]
fn the_example_of_the_documentation() {
    let july = "2026-07-01T00:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
    let customer =
        who_bought(&[("duo_pro", 50, 0, YEAR), ("duo_enterprise", 10, 0, (july - day(0)).num_days())]);
    let at = july - TimeDelta::hours(3);
    let told_at = |at| {
        let catalog = catalog();
        let decision = decide(&catalog, &customer, GRACE, at);
        let told =
            catalog.unit_primitives().iter().zip(&decision.entitlements).map(|(primitive, entitlement)| {
                let code = Explanation::of(&catalog, &customer, entitlement).code;
                (primitive.name.to_string(), code.into_owned(), entitlement.until)
            });
        (told.collect::<Vec<_>>(), decision.next_change_at)
    };
    let expected = [
        ("ask_epic", "add_on:duo_enterprise", july),
        ("complete_code", "add_on:duo_pro", day(YEAR)),
        ("duo_chat", "add_on:duo_pro", day(YEAR)),
        ("fix_code", "free_access", july),
        ("hosted_runners", "not_in_realm", day(YEAR + 14)),
        ("push_rules", "license_type_not_eligible", day(YEAR + 14)),
        ("security_scans", "free_access", day(YEAR)),
    ];
    let expected = expected.map(|(name, code, until)| (name.to_owned(), code.to_owned(), Some(until)));
    assert_eq!(told_at(at), (expected.to_vec(), Some(july)));
    assert_eq!(code(&customer, "fix_code", july), "version_too_old");

    let (ai, security) = ("ai_gateway".to_owned(), "security_gateway".to_owned());
    let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let five = july + TimeDelta::hours(5);
    assert_eq!(
        tokens(&customer, at),
        [
            (ai.clone(), scopes(&["complete_code", "duo_chat"]), five),
            (ai, scopes(&["ask_epic", "fix_code"]), july),
            (security, scopes(&["security_scans"]), five),
        ]
    );
    let lifetime = Lifetime { of_tokens: TimeDelta::hours(8), of_key: day(400) };
    let decision = decide(&catalog(), &customer, GRACE, at);
    let plans = TokenPlan::of_grants(
        &BackendGrants::of_decision(&catalog(), &customer, &decision, None),
        lifetime,
        at,
    );
    assert_eq!(plans.iter().map(TokenPlan::seats).collect::<Vec<_>>(), [Some(50), Some(10), None]);

    assert_eq!(told(&customer, "duo_chat", day(YEAR + 10)), ("add_on:duo_pro".to_owned(), true));
    assert_eq!(code(&customer, "duo_chat", day(YEAR + 14)), "expired");
}
