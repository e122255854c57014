//! The table of checks read off `docs/decision.md` line by line, by other means than [`decide`] uses.
//!
//! Deliberately naive: every check of the table is worked out, and only then is
//! the first one that fails looked for; what is held is asked of each purchase
//! in turn, by name.
//!
//! [`decide`]: super::super::decide

use chrono::{DateTime, TimeDelta, Utc};

use super::generators::World;
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::{Catalog, UnitPrimitive};
use crate::domain::entitlement::Situation;
use crate::domain::instance::InstanceState;
use crate::domain::license::LicenseKind;
use crate::domain::subscription::{Condition, SubscriptionStanding};

/// What the table says of one unit primitive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) granted: bool,
    pub(super) code: String,
    pub(super) in_grace: bool,
}

/// What the table says in this world at an instant.
pub(super) fn answer(world: &World, primitive: &UnitPrimitive, at: DateTime<Utc>) -> Answer {
    answer_for(&world.catalog, &world.situation, world.grace, primitive, at)
}

pub(super) fn answer_for(
    catalog: &Catalog,
    situation: &Situation,
    grace: TimeDelta,
    primitive: &UnitPrimitive,
    at: DateTime<Utc>,
) -> Answer {
    let (granted, code) = code(catalog, situation, grace, primitive, at);
    // Only grace holds what nothing would hold without it.
    let in_grace = granted && !self::code(catalog, situation, TimeDelta::zero(), primitive, at).0;
    Answer { granted, code, in_grace }
}

fn code(
    catalog: &Catalog,
    situation: &Situation,
    grace: TimeDelta,
    primitive: &UnitPrimitive,
    at: DateTime<Utc>,
) -> (bool, String) {
    let Situation { license, subscription, purchases, instance } = situation;
    let grace = if subscription.trial { TimeDelta::zero() } else { grace };

    let free = match primitive.cut_off_date {
        Some(cut_off) => cut_off > at,
        None => true,
    };
    let minimum =
        if free { &primitive.min_gitlab_version_for_free_access } else { &primitive.min_gitlab_version };
    let all_hosts_off =
        primitive.backend_services.iter().all(|host| instance.disabled_backends.contains(host));
    let realms: Vec<_> = catalog
        .services()
        .iter()
        .filter(|service| service.unit_primitives.contains(&primitive.name))
        .map(|service| service.realms.contains(&instance.realm))
        .collect();
    let mut holding: Vec<_> = purchases
        .iter()
        .filter(|purchase| {
            primitive.add_ons.contains(&purchase.add_on) && holds(purchase, subscription, grace, at)
        })
        .map(|purchase| (last_instant(purchase, subscription, grace), &purchase.add_on))
        .collect();
    holding.sort_by_key(|(last, add_on)| (std::cmp::Reverse(*last), add_on.as_str().to_owned()));

    let table = [
        ("license_not_online", license.kind == LicenseKind::Online),
        ("license_revoked", license.revoked_at.is_none() || license.revoked_at > Some(at)),
        ("subscription_canceled", subscription.condition != Condition::Canceled),
        ("subscription_suspended", subscription.condition != Condition::Suspended),
        ("not_started", subscription.term.starts_at() <= at),
        ("expired", subscription.term.ends_at() + grace > at),
        ("instance_released", instance.state != InstanceState::Released),
        ("instance_blocked", instance.state != InstanceState::Blocked),
        (
            "disabled_by_instance",
            ![&primitive.alias_names[..], std::slice::from_ref(&primitive.name)]
                .concat()
                .iter()
                .any(|name| instance.disabled_unit_primitives.contains(name)),
        ),
        ("disabled_by_instance", primitive.backend_services.is_empty() || !all_hosts_off),
        ("not_in_realm", realms.is_empty() || realms.contains(&true)),
        (
            "license_type_not_eligible",
            primitive.license_types.is_empty()
                || primitive.license_types.contains(&subscription.license_type),
        ),
        ("version_too_old", minimum.is_none() || minimum.as_ref() <= Some(&instance.version)),
        ("add_on_not_purchased", free || primitive.add_ons.is_empty() || !holding.is_empty()),
    ];
    if let Some((code, _)) = table.iter().find(|(_, passes)| !passes) {
        return (false, (*code).to_owned());
    }
    let code = match holding.first() {
        _ if free => "free_access".to_owned(),
        Some((_, add_on)) => format!("add_on:{add_on}"),
        None => format!("license_type:{}", subscription.license_type),
    };
    (true, code)
}

/// Whether a purchase grants its add-on at an instant.
pub(super) fn holds(
    purchase: &PurchaseStanding,
    subscription: &SubscriptionStanding,
    grace: TimeDelta,
    at: DateTime<Utc>,
) -> bool {
    let ended = purchase.ended_at.is_some_and(|ended| ended <= at);
    let in_its_term = at < purchase.term.ends_at();
    let in_shared_grace =
        ends_of(subscription).into_iter().any(|end| purchase.term.ends_at() >= end && at < end + grace);
    purchase.term.starts_at() <= at && !ended && (in_its_term || in_shared_grace)
}

/// The microsecond after which it holds no more.
fn last_instant(
    purchase: &PurchaseStanding,
    subscription: &SubscriptionStanding,
    grace: TimeDelta,
) -> DateTime<Utc> {
    let mut candidates: Vec<_> = ends_of(subscription).into_iter().map(|end| end + grace).collect();
    candidates.extend([purchase.term.ends_at()]);
    candidates.extend(purchase.ended_at);
    let moment = TimeDelta::microseconds(1);
    let last = candidates.into_iter().map(|end| end - moment);
    last.filter(|last| holds(purchase, subscription, grace, *last)).max().unwrap_or(DateTime::UNIX_EPOCH)
}

/// The ends that a subscription has and had.
fn ends_of(subscription: &SubscriptionStanding) -> Vec<DateTime<Utc>> {
    [subscription.earlier_ends.as_slice(), &[subscription.term.ends_at()]].concat()
}
