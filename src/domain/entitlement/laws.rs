//! Laws 1 to 4 of `docs/laws.md`, on generated worlds and on every combination of a small one.

mod exhaustive;
mod generators;
mod oracle;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use proptest::prelude::*;
use token_authority_verifier::Claims;
use uuid::Uuid;

use self::generators::{World, growing_worlds, worlds};
use super::{Entitlement, Explanation, decide};
use crate::domain::catalog::UnitPrimitive;
use crate::domain::ids::InstanceUid;
use crate::domain::sync_schedule::{Expiry, SyncSchedule};
use crate::domain::token_plan::{Bearer, TokenPlan, TokenRecord};

/// Also such as no one should configure: they must come out as JSON all the same.
const ISSUERS: &[&str] = &[
    "https://authority.example.com",
    "https://authority.example.com/\u{e9}",
    "a \"quoted\" \\ one",
    "\u{1}\u{7f}\n",
];

const CASES: u32 = 20_000;
const MOMENT: TimeDelta = TimeDelta::microseconds(1);

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Law 1.
    #[test]
    fn each_scope_has_a_cause_and_nothing_else_is_in_a_token(world in worlds()) {
        let decision = world.decide();
        let plans = world.plan(&decision);
        for (index, backend) in world.catalog.backends().iter().enumerate() {
            let asked_for = world.backends.as_ref().is_none_or(|names| names.contains(&backend.name));
            let switched_off = world.situation.instance.disabled_backends.contains(&backend.name);
            let mut carried: Vec<_> =
                plans.iter().filter(|plan| plan.backend() == index).flat_map(TokenPlan::scopes).copied().collect();
            carried.sort_unstable();
            let expected: Vec<_> = decision
                .entitlements
                .iter()
                .filter(|entitlement| {
                    let primitive = primitive(&world, entitlement);
                    asked_for
                        && !switched_off
                        && primitive.backend_services.contains(&backend.name)
                        && oracle::answer(&world, primitive, world.at).granted
                        && end(&world, entitlement) > issued_at(&world)
                })
                .map(|entitlement| entitlement.unit_primitive)
                .collect();
            prop_assert_eq!(carried, expected, "{}", backend.name);
        }
    }

    /// Law 1.
    #[test]
    fn tokens_are_sorted_not_empty_and_at_most_two_for_each_backend(world in worlds()) {
        let plans = world.plan(&world.decide());
        prop_assert!(plans.is_sorted_by_key(TokenPlan::backend));
        for plan in &plans {
            prop_assert!(!plan.scopes().is_empty());
            prop_assert!(plan.scopes().is_sorted_by(|a, b| a < b));
            prop_assert!(plans.iter().filter(|other| other.backend() == plan.backend()).count() <= 2);
        }
    }

    /// Law 2.
    #[test]
    fn buying_more_takes_no_grant_away_and_shortens_none((world, growth) in growing_worlds()) {
        let Some(grown) = growth.of(&world.situation) else { return Ok(()) };
        let before = world.decide();
        let after = decide(&world.catalog, &grown, world.grace, world.at);
        for (before, after) in before.entitlements.iter().zip(&after.entitlements) {
            if before.verdict.is_granted() {
                prop_assert!(after.verdict.is_granted(), "{before:?} {after:?}");
                prop_assert!(not_sooner(after.granted_until, before.granted_until), "{before:?} {after:?}");
                prop_assert!(before.verdict.is_in_grace() || !after.verdict.is_in_grace(), "{before:?} {after:?}");
            }
        }
        for (before, after) in before.seats.iter().zip(&after.seats) {
            prop_assert!(before <= after);
        }
    }

    /// Law 3.
    #[test]
    fn the_table_the_explanation_and_the_tokens_agree(world in worlds()) {
        let decision = world.decide();
        let plans = world.plan(&decision);
        for entitlement in &decision.entitlements {
            let primitive = primitive(&world, entitlement);
            let explanation = Explanation::of(&world.catalog, &world.situation, entitlement);
            let answer = oracle::answer(&world, primitive, world.at);
            prop_assert_eq!(&explanation.code, &answer.code);
            prop_assert_eq!(entitlement.verdict.is_in_grace(), answer.in_grace);
            prop_assert_eq!(says_granted(&explanation), entitlement.verdict.is_granted());
            prop_assert_eq!(explanation.remedy.is_some(), !entitlement.verdict.is_granted());

            let is_carried = plans.iter().any(|plan| plan.scopes().contains(&entitlement.unit_primitive));
            let has_host = primitive.backend_services.iter().any(|host| {
                world.backends.as_ref().is_none_or(|names| names.contains(host))
                    && !world.situation.instance.disabled_backends.contains(host)
            });
            let lasts = end(&world, entitlement) > issued_at(&world);
            prop_assert_eq!(is_carried, says_granted(&explanation) && has_host && lasts);
        }
        if let Some(obstacle) = decision.obstacle {
            prop_assert!(plans.is_empty());
            for entitlement in &decision.entitlements {
                let explanation = Explanation::of(&world.catalog, &world.situation, entitlement);
                prop_assert_eq!(explanation.code, obstacle.code());
            }
        }
    }

    /// Law 4.
    #[test]
    fn a_token_outlives_neither_what_it_grants_nor_its_key(world in worlds()) {
        let decision = world.decide();
        for plan in world.plan(&decision) {
            let (issued_at, expires_at) = (plan.issued_at(), plan.expires_at());
            prop_assert_eq!(issued_at, self::issued_at(&world));
            prop_assert_eq!(expires_at, expires_at.trunc_subsecs(0));
            prop_assert!(issued_at < expires_at);
            prop_assert!(expires_at <= issued_at + world.lifetime.of_tokens);
            prop_assert!(expires_at <= world.lifetime.of_key);
            let mut instants = world.edges();
            instants.extend(world.edges().into_iter().map(|edge| edge - MOMENT));
            instants.extend([world.at, expires_at - TimeDelta::seconds(1), expires_at - MOMENT]);
            for instant in instants.into_iter().filter(|instant| (world.at..expires_at).contains(instant)) {
                for scope in plan.scopes() {
                    let primitive = &world.catalog.unit_primitives()[*scope];
                    prop_assert!(oracle::answer(&world, primitive, instant).granted, "{} {instant}", primitive.name);
                }
            }
        }
    }

    /// Law 4: the other side of it. What could live longer is not cut short.
    #[test]
    fn a_scope_that_ends_early_does_not_shorten_the_token_of_those_that_last(world in worlds()) {
        let decision = world.decide();
        let plans = world.plan(&decision);
        for (index, plan) in plans.iter().enumerate() {
            let ends: Vec<_> =
                plan.scopes().iter().map(|scope| end(&world, &decision.entitlements[*scope])).collect();
            prop_assert_eq!(Some(plan.expires_at()), ends.iter().copied().min());
            prop_assert_eq!(plan.ends_with_grant(), plan.expires_at() < latest(&world));
            let is_first = !plans[..index].iter().any(|other| other.backend() == plan.backend());
            let last = |other: &&TokenPlan| other.backend() == plan.backend();
            if is_first {
                // The first token carries what lasts longest, and that alone.
                prop_assert_eq!(Some(plan.expires_at()), ends.into_iter().max());
            } else {
                let first = plans.iter().find(last).map(TokenPlan::expires_at);
                prop_assert!(ends.into_iter().max() < first);
            }
        }
    }

    /// Law 4: what decides when a token ends is exact.
    #[test]
    fn an_answer_changes_at_its_until_and_not_before(world in worlds()) {
        let decision = world.decide();
        let edges = world.edges();
        for entitlement in &decision.entitlements {
            let primitive = primitive(&world, entitlement);
            let answer = oracle::answer(&world, primitive, world.at);
            let changes = |instant| oracle::answer(&world, primitive, instant) != answer;
            prop_assert_eq!(entitlement.until, first(&edges, world.at, changes), "{}", primitive.name);
            let ends = |instant| answer.granted && !oracle::answer(&world, primitive, instant).granted;
            prop_assert_eq!(entitlement.granted_until, first(&edges, world.at, ends), "{}", primitive.name);
            if let Some(until) = entitlement.until {
                prop_assert!(until > world.at && changes(until) && (until - MOMENT < world.at || !changes(until - MOMENT)));
            }
        }
        let untils = decision.entitlements.iter().filter_map(|entitlement| entitlement.until);
        prop_assert_eq!(decision.next_change_at, untils.min());
    }

    /// Law 4, and the ground of law 6: a token may be given again as long as all of it is granted until it expires.
    #[test]
    fn a_token_of_the_ledger_is_given_again_only_if_it_could_be_planned_then(
        world in worlds(),
        later in worlds(),
        minutes in 0..600_i32,
    ) {
        let catalog = &world.catalog;
        let plans = world.plan(&world.decide());
        // Some time later, by the same instance or by one that lost or gained something.
        for situation in [&world.situation, &later.situation] {
            let then = World { situation: situation.clone(), at: world.at + TimeDelta::minutes(1) * minutes, ..world.clone() };
            let decision = then.decide();
            let grants = then.grants(&decision);
            for plan in &plans {
                let scopes: Vec<_> =
                    plan.scopes().iter().map(|scope| catalog.unit_primitives()[*scope].name.to_string()).collect();
                let record = TokenRecord {
                    backend: catalog.backends()[plan.backend()].name.as_str(),
                    scopes: &scopes,
                    seats: plan.seats(),
                    issued_at: plan.issued_at(),
                    expires_at: plan.expires_at(),
                    ends_with_grant: plan.ends_with_grant(),
                };
                let again = TokenPlan::of_record(catalog, &grants, record);
                let backend = &catalog.backends()[plan.backend()].name;
                let goes_on = !then.situation.instance.disabled_backends.contains(backend)
                    && plan.scopes().iter().all(|scope| {
                        let entitlement = &decision.entitlements[*scope];
                        entitlement.verdict.is_granted()
                            && entitlement.granted_until.is_none_or(|end| plan.expires_at() <= end)
                    });
                prop_assert_eq!(again, goes_on.then(|| plan.clone()));
            }
        }
    }

    /// The payload is written by hand; whoever verifies it reads claims.
    #[test]
    fn a_payload_is_the_claims_as_the_verifier_writes_them(
        world in worlds(),
        issuer in prop::sample::select(ISSUERS),
        ids in any::<[u128; 3]>(),
    ) {
        let bearer = Bearer {
            issuer,
            instance_id: Uuid::from_u128(ids[0]).into(),
            instance_uid: Uuid::from_u128(ids[1]).into(),
            realm: world.situation.instance.realm.claim(),
        };
        let jti = Uuid::from_u128(ids[2]);
        for plan in world.plan(&world.decide()) {
            let claims = Claims {
                iss: issuer.to_owned(),
                sub: bearer.instance_id.to_string(),
                aud: vec![world.catalog.backends()[plan.backend()].audience.clone()],
                iat: plan.issued_at().timestamp(),
                nbf: plan.issued_at().timestamp() - 5,
                exp: plan.expires_at().timestamp(),
                jti: jti.to_string(),
                scopes: plan
                    .scopes()
                    .iter()
                    .map(|scope| world.catalog.unit_primitives()[*scope].name.to_string())
                    .collect(),
                gitlab_realm: bearer.realm.to_owned(),
                gitlab_instance_uid: bearer.instance_uid.to_string(),
                duo_seat_count: plan.seats().map(|seats| seats.to_string()),
            };
            let written = plan.into_payload(&world.catalog, &bearer, jti.into());
            let expected = serde_json::to_string(&claims).expect("claims are JSON");
            prop_assert_eq!(String::from_utf8(written).expect("UTF-8"), expected);
        }
    }

    /// The next sync comes before anything that was granted ends or changes.
    #[test]
    fn the_next_sync_is_due_before_every_expiry_and_change(world in worlds(), uid in any::<u128>()) {
        let decision = world.decide();
        let tokens: Vec<_> = world
            .plan(&decision)
            .iter()
            .map(|plan| Expiry { expires_at: plan.expires_at(), ends_with_grant: plan.ends_with_grant() })
            .collect();
        let uid = InstanceUid::from(Uuid::from_u128(uid));
        let schedule =
            SyncSchedule::after(world.at, uid, TimeDelta::hours(1), &tokens, decision.next_change_at);
        prop_assert!(schedule.refresh_after >= issued_at(&world));
        prop_assert!(schedule.refresh_after < world.at + TimeDelta::hours(1));
        for token in &tokens {
            prop_assert!(schedule.refresh_after < token.expires_at);
        }
        if let Some(change) = decision.next_change_at {
            prop_assert!(schedule.refresh_after < change);
        }
    }

    /// Seats are summed per add-on over what is held, and a token tells the largest sum behind its scopes.
    #[test]
    fn seats_are_those_of_the_purchases_that_hold(world in worlds()) {
        let decision = world.decide();
        let subscription = &world.situation.subscription;
        let grace = subscription.grace(world.grace);
        let seats_of = |add_on: &crate::domain::catalog::AddOnName| -> u64 {
            let held = world.situation.purchases.iter().filter(|purchase| {
                purchase.add_on == *add_on && oracle::holds(purchase, subscription, grace, world.at)
            });
            held.map(|purchase| u64::from(purchase.quantity)).sum()
        };
        for (add_on, seats) in world.catalog.add_ons().iter().zip(&decision.seats) {
            prop_assert_eq!(*seats, seats_of(&add_on.name));
        }
        for plan in world.plan(&decision) {
            let bought = plan.scopes().iter().filter(|scope| {
                let primitive = &world.catalog.unit_primitives()[**scope];
                oracle::answer(&world, primitive, world.at).code.starts_with("add_on:")
            });
            let behind = bought.flat_map(|scope| &world.catalog.unit_primitives()[*scope].add_ons);
            prop_assert_eq!(plan.seats(), behind.map(seats_of).max());
        }
    }
}

fn primitive<'a>(world: &'a World, entitlement: &Entitlement) -> &'a UnitPrimitive {
    &world.catalog.unit_primitives()[entitlement.unit_primitive]
}

/// Tokens are dated to the second of the decision.
fn issued_at(world: &World) -> DateTime<Utc> {
    DateTime::from_timestamp(world.at.timestamp(), 0).expect("within range")
}

/// No token lives longer than this, whatever it grants.
fn latest(world: &World) -> DateTime<Utc> {
    let by_lifetime = issued_at(world) + world.lifetime.of_tokens;
    by_lifetime.min(DateTime::from_timestamp(world.lifetime.of_key.timestamp(), 0).expect("within range"))
}

/// The last second at which a token may end that carries this and nothing else.
fn end(world: &World, entitlement: &Entitlement) -> DateTime<Utc> {
    let granted_until = entitlement.granted_until.map(|end| end.timestamp());
    let end =
        granted_until.map_or_else(|| latest(world).timestamp(), |end| end.min(latest(world).timestamp()));
    DateTime::from_timestamp(end, 0).expect("within range")
}

/// `None` is never.
fn not_sooner(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> bool {
    one.is_none_or(|one| other.is_some_and(|other| one >= other))
}

/// The first of these instants after `at` for which something holds.
fn first(
    instants: &[DateTime<Utc>],
    at: DateTime<Utc>,
    holds: impl Fn(DateTime<Utc>) -> bool,
) -> Option<DateTime<Utc>> {
    instants.iter().copied().filter(|instant| *instant > at).find(|instant| holds(*instant))
}

/// Whether the code is one of those that tell a grant.
fn says_granted(explanation: &Explanation) -> bool {
    ["free_access", "add_on:", "license_type:"].iter().any(|code| explanation.code.starts_with(code))
}
