//! Decides which unit primitives an instance may use, and says why.
//!
//! One pure function serves the token and the explanation, so that they cannot
//! disagree: what is granted is what [`Decision`] says, and nothing else.

mod difference;
mod explanation;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod stories;

use chrono::{DateTime, TimeDelta, Utc};

pub use difference::{Difference, Differences, Standpoint};
pub use explanation::Explanation;

use super::add_on_purchase::PurchaseStanding;
use super::catalog::{Catalog, UnitPrimitive};
use super::instance::{InstanceStanding, InstanceState};
use super::license::{LicenseKind, LicenseStanding};
use super::subscription::{Condition, SubscriptionStanding};

/// All that is recorded of one instance and that a decision depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Situation {
    pub license: LicenseStanding,
    pub subscription: SubscriptionStanding,
    pub purchases: Vec<PurchaseStanding>,
    pub instance: InstanceStanding,
}

/// What stands between an instance and every unit primitive at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    Expired { ended_at: DateTime<Utc> },
    InstanceBlocked,
    InstanceReleased,
    LicenseNotOnline,
    LicenseRevoked { at: DateTime<Utc> },
    NotStarted { starts_at: DateTime<Utc> },
    SubscriptionCanceled,
    SubscriptionSuspended,
}

/// Why a unit primitive is granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// By an add-on: its index in the catalog.
    AddOn(usize),
    /// It has no cut-off date, or that date lies ahead.
    FreeAccess,
    /// Its cut-off has passed and it names no add-on: the plan alone grants it.
    LicenseType,
}

/// Why a unit primitive is not granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    AddOnNotPurchased,
    DisabledByInstance,
    LicenseTypeNotEligible,
    NotInRealm,
    Obstacle(Obstacle),
    /// The version that applies: the one for paid access, or for free access.
    VersionTooOld {
        free_access: bool,
    },
}

/// The answer for one unit primitive at one instant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Denied(Denial),
    Granted {
        cause: Cause,
        /// Only grace holds this: the subscription's, or that of each purchase behind it.
        in_grace: bool,
    },
}

impl Verdict {
    /// Whether the unit primitive may be used.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }

    /// Whether only the grace after a term's end holds it.
    #[must_use]
    pub fn is_in_grace(&self) -> bool {
        matches!(self, Self::Granted { in_grace: true, .. })
    }

    /// Whether both give the same answer: one code, and held by grace or not. Which
    /// version is asked for is left to the remedy.
    fn answers_as(&self, other: &Self) -> bool {
        let too_old = |verdict: &Self| matches!(verdict, Self::Denied(Denial::VersionTooOld { .. }));
        self == other || too_old(self) && too_old(other)
    }
}

/// The answer for one unit primitive, and how long it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entitlement {
    /// Its index in [`Catalog::unit_primitives`].
    pub unit_primitive: usize,
    pub verdict: Verdict,
    /// The earliest instant at which the answer changes by itself; `None` if never.
    pub until: Option<DateTime<Utc>>,
    /// The earliest instant at which a grant ends by itself; `None` if never, and for a denial.
    pub granted_until: Option<DateTime<Utc>>,
}

/// The answer for an instance: one entitlement for each unit primitive, in the catalog's order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The first check that the whole instance fails.
    pub obstacle: Option<Obstacle>,
    pub entitlements: Vec<Entitlement>,
    /// Seats of each add-on of the catalog, summed over its active purchases.
    pub seats: Vec<u64>,
    /// The earliest `until`.
    pub next_change_at: Option<DateTime<Utc>>,
}

/// Decides for every unit primitive of the catalog what the instance may use at `at`.
///
/// `grace` is how long access goes on after a paid term. The checks and their
/// order are listed in `docs/decision.md`.
#[must_use]
pub fn decide(catalog: &Catalog, situation: &Situation, grace: TimeDelta, at: DateTime<Utc>) -> Decision {
    let view = View::new(catalog, situation, grace);
    let obstacle = view.obstacle(at);
    let ahead = view.instants_after(at);
    let entitlements: Vec<_> = catalog
        .unit_primitives()
        .iter()
        .enumerate()
        .map(|(index, primitive)| view.entitlement(index, primitive, obstacle, &ahead, at))
        .collect();
    let next_change_at = entitlements.iter().filter_map(|entitlement| entitlement.until).min();
    Decision { obstacle, entitlements, seats: view.seats(at), next_change_at }
}

/// The first check that what was bought fails: the license, then its subscription.
/// Activation asks it too, before there is an instance.
#[must_use]
pub fn obstacle_of_purchase(
    license: &LicenseStanding,
    subscription: &SubscriptionStanding,
    grace: TimeDelta,
    at: DateTime<Utc>,
) -> Option<Obstacle> {
    before_grace_ends(license, subscription, subscription.grace_ends_at(grace), at)
}

fn before_grace_ends(
    license: &LicenseStanding,
    subscription: &SubscriptionStanding,
    grace_ends_at: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Option<Obstacle> {
    if license.kind != LicenseKind::Online {
        return Some(Obstacle::LicenseNotOnline);
    }
    if let Some(revoked_at) = license.revoked_at.filter(|revoked_at| *revoked_at <= at) {
        return Some(Obstacle::LicenseRevoked { at: revoked_at });
    }
    match subscription.condition {
        Condition::Active => {}
        Condition::Canceled => return Some(Obstacle::SubscriptionCanceled),
        Condition::Suspended => return Some(Obstacle::SubscriptionSuspended),
    }
    if at < subscription.term.starts_at() {
        return Some(Obstacle::NotStarted { starts_at: subscription.term.starts_at() });
    }
    if at >= grace_ends_at {
        return Some(Obstacle::Expired { ended_at: subscription.term.ends_at() });
    }
    None
}

/// A situation seen through the catalog.
struct View<'a> {
    situation: &'a Situation,
    held: Vec<Held>,
    grace_ends_at: DateTime<Utc>,
    catalog: &'a Catalog,
}

/// A purchase of an add-on that the catalog knows.
#[derive(Clone, Copy)]
struct Held {
    add_on: usize,
    quantity: u32,
    starts_at: DateTime<Utc>,
    /// Without grace.
    term_ends_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
}

impl Held {
    fn is_active(&self, at: DateTime<Utc>) -> bool {
        self.starts_at <= at && at < self.ends_at
    }
}

impl<'a> View<'a> {
    fn new(catalog: &'a Catalog, situation: &'a Situation, grace: TimeDelta) -> Self {
        let held = situation
            .purchases
            .iter()
            .filter_map(|purchase| {
                Some(Held {
                    add_on: catalog.add_on_index(&purchase.add_on)?,
                    quantity: purchase.quantity,
                    starts_at: purchase.term.starts_at(),
                    term_ends_at: purchase.term.ends_at(),
                    ends_at: purchase.access_ends_at(&situation.subscription, grace),
                })
            })
            .collect();
        Self { situation, held, grace_ends_at: situation.subscription.grace_ends_at(grace), catalog }
    }

    fn seats(&self, at: DateTime<Utc>) -> Vec<u64> {
        let mut seats = vec![0; self.catalog.add_ons().len()];
        for held in self.held.iter().filter(|held| held.is_active(at)) {
            seats[held.add_on] += u64::from(held.quantity);
        }
        seats
    }

    /// The instants after `at` at which any answer may change, cut-off dates apart; sorted.
    fn instants_after(&self, at: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let term = self.situation.subscription.term;
        let mut instants: Vec<_> = self
            .held
            .iter()
            .flat_map(|held| [held.starts_at, held.term_ends_at, held.ends_at])
            .chain([term.starts_at(), term.ends_at(), self.grace_ends_at])
            .chain(self.situation.license.revoked_at)
            .filter(|instant| *instant > at)
            .collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    fn entitlement(
        &self,
        index: usize,
        primitive: &UnitPrimitive,
        obstacle: Option<Obstacle>,
        ahead: &[DateTime<Utc>],
        at: DateTime<Utc>,
    ) -> Entitlement {
        let verdict = self.verdict(primitive, obstacle, at);
        let mut until = None;
        let mut granted_until = None;
        for instant in with_cut_off(ahead, primitive.cut_off_date.filter(|cut_off| *cut_off > at)) {
            if until.is_some() && (granted_until.is_some() || !verdict.is_granted()) {
                break;
            }
            let then = self.verdict(primitive, self.obstacle(instant), instant);
            if until.is_none() && !then.answers_as(&verdict) {
                until = Some(instant);
            }
            if verdict.is_granted() && !then.is_granted() && granted_until.is_none() {
                granted_until = Some(instant);
            }
        }
        Entitlement { unit_primitive: index, verdict, until, granted_until }
    }

    fn verdict(&self, primitive: &UnitPrimitive, obstacle: Option<Obstacle>, at: DateTime<Utc>) -> Verdict {
        match obstacle.map_or_else(|| self.cause(primitive, at), |obstacle| Err(Denial::Obstacle(obstacle))) {
            Ok(cause) => {
                let in_grace = at >= self.situation.subscription.term.ends_at()
                    || matches!(cause, Cause::AddOn(_)) && !self.is_held_without_grace(primitive, at);
                Verdict::Granted { cause, in_grace }
            }
            Err(denial) => Verdict::Denied(denial),
        }
    }

    /// The first check of the whole instance that fails: its license, its subscription, itself.
    fn obstacle(&self, at: DateTime<Utc>) -> Option<Obstacle> {
        let Situation { license, subscription, instance, .. } = self.situation;
        if let Some(obstacle) = before_grace_ends(license, subscription, self.grace_ends_at, at) {
            return Some(obstacle);
        }
        match instance.state {
            InstanceState::Active => None,
            InstanceState::Blocked => Some(Obstacle::InstanceBlocked),
            InstanceState::Released => Some(Obstacle::InstanceReleased),
        }
    }

    /// The checks of one unit primitive, in their order.
    fn cause(&self, primitive: &UnitPrimitive, at: DateTime<Utc>) -> Result<Cause, Denial> {
        let instance = &self.situation.instance;
        if self.is_switched_off(primitive) {
            return Err(Denial::DisabledByInstance);
        }
        if primitive.realms.as_ref().is_some_and(|realms| !realms.contains(&instance.realm)) {
            return Err(Denial::NotInRealm);
        }
        let plan = &self.situation.subscription.license_type;
        if !primitive.license_types.is_empty() && !primitive.license_types.contains(plan) {
            return Err(Denial::LicenseTypeNotEligible);
        }
        let free_access = primitive.cut_off_date.is_none_or(|cut_off| at < cut_off);
        let minimum = if free_access {
            &primitive.min_gitlab_version_for_free_access
        } else {
            &primitive.min_gitlab_version
        };
        if minimum.as_ref().is_some_and(|minimum| instance.version < *minimum) {
            return Err(Denial::VersionTooOld { free_access });
        }
        if free_access {
            return Ok(Cause::FreeAccess);
        }
        if primitive.add_on_indexes.is_empty() {
            return Ok(Cause::LicenseType);
        }
        self.granting_add_on(primitive, at).map(Cause::AddOn).ok_or(Denial::AddOnNotPurchased)
    }

    /// An administrator may switch off a primitive, or each backend that hosts it.
    fn is_switched_off(&self, primitive: &UnitPrimitive) -> bool {
        let instance = &self.situation.instance;
        // A primitive that was renamed stays switched off: its old name is an alias now.
        if !instance.disabled_unit_primitives.is_empty()
            && primitive
                .alias_names
                .iter()
                .chain([&primitive.name])
                .any(|name| instance.disabled_unit_primitives.contains(name))
        {
            return true;
        }
        !instance.disabled_backends.is_empty()
            && !primitive.backend_services.is_empty()
            && primitive.backend_services.iter().all(|backend| instance.disabled_backends.contains(backend))
    }

    /// Of several active add-ons the one that ends last, then the first by name.
    fn granting_add_on(&self, primitive: &UnitPrimitive, at: DateTime<Utc>) -> Option<usize> {
        self.active_for(primitive, at)
            .max_by(|a, b| {
                let names = |held: &Held| &self.catalog.add_ons()[held.add_on].name;
                a.ends_at.cmp(&b.ends_at).then_with(|| names(b).cmp(names(a)))
            })
            .map(|held| held.add_on)
    }

    /// Whether any purchase that grants it is still in its own term.
    fn is_held_without_grace(&self, primitive: &UnitPrimitive, at: DateTime<Utc>) -> bool {
        self.active_for(primitive, at).any(|held| at < held.term_ends_at)
    }

    fn active_for(&self, primitive: &UnitPrimitive, at: DateTime<Utc>) -> impl Iterator<Item = &Held> {
        self.held
            .iter()
            .filter(move |held| held.is_active(at) && primitive.add_on_indexes.contains(&held.add_on))
    }
}

/// The instants ahead with one more among them, in order.
fn with_cut_off(
    ahead: &[DateTime<Utc>],
    cut_off: Option<DateTime<Utc>>,
) -> impl Iterator<Item = DateTime<Utc>> + '_ {
    let split = cut_off.map_or(ahead.len(), |cut_off| ahead.partition_point(|instant| *instant < cut_off));
    ahead[..split].iter().copied().chain(cut_off).chain(ahead[split..].iter().copied())
}
