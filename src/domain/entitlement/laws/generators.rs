//! Draws small catalogs and situations on a coarse grid of time, so that edges are hit often.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::{
    AddOn, AddOnName, Backend, BackendName, Catalog, CatalogParts, LicenseType, LicenseTypeName, Realm,
    Service, UnitPrimitive, UnitPrimitiveName,
};
use crate::domain::entitlement::{Decision, Situation, decide};
use crate::domain::instance::{InstanceStanding, InstanceState};
use crate::domain::license::{LicenseKind, LicenseStanding};
use crate::domain::subscription::{Condition, SubscriptionStanding, Term};
use crate::domain::token_plan::{BackendGrants, Lifetime, TokenPlan};
use crate::domain::version::Version;

/// 2026-01-01T00:00:00Z.
pub(super) const T0: DateTime<Utc> = DateTime::from_timestamp(1_767_225_600, 0).expect("a known instant");
const STEP: TimeDelta = TimeDelta::hours(4);
const STEPS: usize = 12;

/// Everything that a decision and its tokens depend on.
#[derive(Clone)]
pub(super) struct World {
    pub(super) catalog: Rc<Catalog>,
    pub(super) situation: Situation,
    pub(super) grace: TimeDelta,
    pub(super) at: DateTime<Utc>,
    pub(super) lifetime: Lifetime,
    /// What a sync asked for.
    pub(super) backends: Option<Vec<BackendName>>,
}

impl World {
    pub(super) fn decide(&self) -> Decision {
        decide(&self.catalog, &self.situation, self.grace, self.at)
    }

    pub(super) fn plan(&self, decision: &Decision) -> Vec<TokenPlan> {
        TokenPlan::of_grants(&self.grants(decision), self.lifetime, self.at)
    }

    pub(super) fn grants(&self, decision: &Decision) -> Vec<BackendGrants> {
        BackendGrants::of_decision(&self.catalog, &self.situation, decision, self.backends.as_deref())
    }

    /// Every instant at which any answer may change, and some at which none does; sorted.
    pub(super) fn edges(&self) -> Vec<DateTime<Utc>> {
        let Situation { license, subscription, purchases, .. } = &self.situation;
        let terms = purchases.iter().map(|purchase| purchase.term).chain([subscription.term]);
        let edges: BTreeSet<_> = terms
            .flat_map(|term| [term.starts_at(), term.ends_at()])
            .chain(subscription.earlier_ends.iter().copied())
            .flat_map(|edge| [edge, edge + self.grace])
            .chain(purchases.iter().filter_map(|purchase| purchase.ended_at))
            .chain(license.revoked_at)
            .chain(self.catalog.unit_primitives().iter().filter_map(|primitive| primitive.cut_off_date))
            .collect();
        edges.into_iter().collect()
    }
}

/// The catalog as its records, which are shorter than its indexes.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { catalog, situation, grace, at, lifetime, backends } = self;
        f.debug_struct("World")
            .field("catalog", &catalog.canonical_json())
            .field("situation", situation)
            .field("grace", &grace.to_string())
            .field("at", at)
            .field("lifetime", lifetime)
            .field("backends", backends)
            .finish()
    }
}

/// A world that is mostly in order: what stands between an instance and everything is rare.
pub(super) fn worlds() -> impl Strategy<Value = World> {
    draws().prop_map(|mut draw| world(&mut draw))
}

fn draws() -> impl Strategy<Value = Draw> {
    prop::array::uniform24(any::<u64>()).prop_map(|numbers| Draw::from(numbers.to_vec()))
}

/// What makes a customer's lot better.
#[derive(Clone, Debug)]
pub(super) enum Growth {
    AddPurchase(PurchaseStanding),
    AddSeats { purchase: usize, seats: u32 },
    BringForward { purchase: usize, starts_at: DateTime<Utc> },
    Lengthen { purchase: usize, ends_at: DateTime<Utc> },
    Renew { ends_at: DateTime<Utc> },
}

impl Growth {
    /// The grown situation, or `None` where this would not be growth.
    pub(super) fn of(&self, situation: &Situation) -> Option<Situation> {
        let mut grown = situation.clone();
        match self {
            Self::AddPurchase(purchase) => grown.purchases.push(purchase.clone()),
            Self::AddSeats { purchase, seats } => {
                let purchase = grown.purchases.get_mut(*purchase)?;
                purchase.quantity = purchase.quantity.checked_add(*seats)?;
            }
            Self::BringForward { purchase, starts_at } => {
                let purchase = grown.purchases.get_mut(*purchase)?;
                if *starts_at >= purchase.term.starts_at() {
                    return None;
                }
                purchase.term = Term::new(*starts_at, purchase.term.ends_at())?;
            }
            Self::Lengthen { purchase, ends_at } => {
                let purchase = grown.purchases.get_mut(*purchase)?;
                if *ends_at <= purchase.term.ends_at() {
                    return None;
                }
                purchase.term = Term::new(purchase.term.starts_at(), *ends_at)?;
            }
            Self::Renew { ends_at } => grown.subscription = grown.subscription.renewed(*ends_at)?,
        }
        Some(grown)
    }
}

/// A world, and a growth of what was bought in it.
pub(super) fn growing_worlds() -> impl Strategy<Value = (World, Growth)> {
    draws().prop_map(|mut draw| {
        let draw = &mut draw;
        let kind = draw.below(5);
        let purchase = draw.below(4);
        let instant = draw.instant();
        let added = draw.purchase(&["duo_core", "duo_enterprise", "duo_pro"]);
        let world = world(draw);
        let growth = match kind {
            0 => Growth::AddPurchase(added),
            1 => Growth::AddSeats { purchase, seats: added.quantity },
            2 => Growth::BringForward { purchase, starts_at: instant },
            3 => Growth::Lengthen { purchase, ends_at: instant },
            _ => Growth::Renew { ends_at: instant },
        };
        (world, growth)
    })
}

/// Numbers that decide what is drawn. Zeros draw the simplest, which is where failures shrink to.
#[derive(Debug)]
struct Draw {
    numbers: Vec<u64>,
    used: usize,
}

impl From<Vec<u64>> for Draw {
    fn from(numbers: Vec<u64>) -> Self {
        Self { numbers, used: 0 }
    }
}

impl Draw {
    /// Each number serves four times.
    fn below(&mut self, bound: usize) -> usize {
        let number = self.numbers.get(self.used / 4).copied().unwrap_or(0);
        let part = number >> (self.used % 4 * 16) & 0xffff;
        self.used += 1;
        usize::try_from(part).expect("sixteen bits") % bound
    }

    fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn some_of<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        let chosen = self.below(1 << from.len());
        from.iter()
            .enumerate()
            .filter(|(index, _)| chosen & (1 << index) != 0)
            .map(|(_, item)| *item)
            .collect()
    }

    /// An instant of the grid, or just beside it.
    fn instant(&mut self) -> DateTime<Utc> {
        let steps = i32::try_from(self.below(STEPS + 1)).expect("few");
        let beside = self.pick(&[
            TimeDelta::zero(),
            TimeDelta::zero(),
            TimeDelta::zero(),
            TimeDelta::microseconds(1),
            TimeDelta::microseconds(-1),
            TimeDelta::seconds(1),
            TimeDelta::seconds(-1),
            TimeDelta::milliseconds(500),
        ]);
        T0 + STEP * steps + beside
    }

    fn term(&mut self) -> Term {
        let (one, other) = (self.instant(), self.instant());
        Term::new(one.min(other), one.max(other))
            .or_else(|| Term::new(one, one + STEP))
            .expect("one of them is not empty")
    }

    fn purchase(&mut self, add_ons: &[&str]) -> PurchaseStanding {
        PurchaseStanding {
            add_on: name(self.pick(add_ons)),
            quantity: u32::try_from(self.within(1..=6)).expect("small"),
            term: self.term(),
            ended_at: None,
        }
    }
}

fn name<N: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> N {
    name.parse().expect("a name")
}

fn names<N: std::str::FromStr<Err: std::fmt::Debug>>(of: &[&str]) -> Vec<N> {
    of.iter().map(|one| name(one)).collect()
}

const PRIMITIVES: [&str; 6] =
    ["ask_epic", "complete_code", "duo_chat", "fix_code", "glab_ask", "write_tests"];
const ALIASES: [&str; 6] = ["old_epic", "old_complete", "old_chat", "old_fix", "old_glab", "old_write"];
const ADD_ONS: [&str; 3] = ["duo_core", "duo_enterprise", "duo_pro"];
const BACKENDS: [&str; 3] = ["ai_gateway", "security_gateway", "workflow"];
const PLANS: [&str; 2] = ["premium", "ultimate"];
const REALMS: [Realm; 2] = [Realm::SelfManaged, Realm::GitlabCom];
const MINIMUMS: [&str; 3] = ["17.0", "17.5", "18.0"];
const VERSIONS: [&str; 5] = ["18.0.0", "17.5.0-ee", "17.5.0-pre", "17.0", "16.11.4"];

fn world(draw: &mut Draw) -> World {
    let catalog = catalog(draw.below(CATALOGS));
    let subscription = subscription(draw);
    // One of the add-ons may be unknown to the catalog: an older version sold it.
    let add_ons = ["duo_pro", "duo_core", "duo_enterprise", "withdrawn"];
    let purchases = (0..draw.below(5)).map(|_| {
        let mut purchase = draw.purchase(&add_ons);
        match draw.below(6) {
            // To the subscription's end, or to one that it had.
            0 | 1 => {
                let end = draw
                    .pick(&[&[subscription.term.ends_at()], subscription.earlier_ends.as_slice()].concat());
                purchase.term = Term::new(purchase.term.starts_at(), end).unwrap_or(purchase.term);
            }
            2 => {
                // As it is read from its record: never ended before it began.
                purchase.ended_at = Some(draw.instant()).filter(|ended| *ended > purchase.term.starts_at());
            }
            _ => {}
        }
        purchase
    });
    let purchases = purchases.collect();
    let license = LicenseStanding {
        kind: draw
            .pick(&[&[LicenseKind::Online; 8], &[LicenseKind::Offline, LicenseKind::Legacy][..]].concat()),
        revoked_at: draw.one_in(6).then(|| draw.instant()),
    };
    let states =
        [&[InstanceState::Active; 8], &[InstanceState::Blocked, InstanceState::Released][..]].concat();
    let instance = InstanceStanding {
        state: draw.pick(&states),
        version: name(draw.pick(&VERSIONS)),
        realm: draw.pick(&REALMS),
        disabled_unit_primitives: disabled(draw, &[&PRIMITIVES[..2], &ALIASES[1..3], &["unknown"]].concat()),
        disabled_backends: disabled(draw, &[&BACKENDS[..2], &["unknown"]].concat()),
    };
    let grace = STEP * draw.pick(&[3, 0, 1, 2]);
    let at = draw.instant();
    let lifetime = Lifetime {
        of_tokens: draw.pick(&[TimeDelta::hours(8), STEP, TimeDelta::seconds(1), TimeDelta::hours(72)]),
        of_key: if draw.one_in(4) { draw.instant() } else { T0 + TimeDelta::days(400) },
    };
    let backends = draw.one_in(4).then(|| names(&draw.some_of(&BACKENDS)));
    let situation = Situation { license, subscription, purchases, instance };
    World { catalog, situation, grace, at, lifetime, backends }
}

/// So many different ones are drawn. Checking and indexing one takes longer than a whole case.
const CATALOGS: usize = 2_000;

fn catalog(number: usize) -> Rc<Catalog> {
    thread_local! {
        static DRAWN: RefCell<HashMap<usize, Rc<Catalog>>> = RefCell::default();
    }
    DRAWN.with_borrow_mut(|drawn| {
        let catalog = drawn.entry(number).or_insert_with(|| {
            let numbers = (1..=48).map(|index| scattered(number as u64 * 48 + index));
            // The first one is the simplest.
            let numbers = numbers.filter(|_| number > 0).collect::<Vec<_>>();
            let mut draw = Draw::from(numbers);
            Rc::new(Catalog::new(parts(&mut draw)).expect("records that fit together"))
        });
        Rc::clone(catalog)
    })
}

/// The steps of splitmix64: numbers that follow each other become unlike.
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn subscription(draw: &mut Draw) -> SubscriptionStanding {
    let mut subscription = SubscriptionStanding {
        license_type: name(draw.pick(&PLANS)),
        term: draw.term(),
        earlier_ends: Vec::new(),
        trial: draw.one_in(4),
        condition: draw
            .pick(&[&[Condition::Active; 8], &[Condition::Canceled, Condition::Suspended][..]].concat()),
    };
    for _ in 0..draw.below(3) {
        subscription = subscription.renewed(draw.instant()).unwrap_or(subscription);
    }
    subscription
}

/// Mostly nothing.
fn disabled<N: Ord + std::str::FromStr<Err: std::fmt::Debug>>(draw: &mut Draw, from: &[&str]) -> BTreeSet<N> {
    if draw.one_in(3) { names(&draw.some_of(from)).into_iter().collect() } else { BTreeSet::new() }
}

fn parts(draw: &mut Draw) -> CatalogParts {
    let add_ons = &ADD_ONS[..draw.below(4)];
    let backends = &BACKENDS[..draw.within(1..=3)];
    let primitives = &PRIMITIVES[..draw.within(1..=6)];
    let unit_primitives =
        primitives.iter().zip(ALIASES).map(|(name, alias)| primitive(draw, name, alias, add_ons, backends));
    let unit_primitives = unit_primitives.collect();
    let mut services = Vec::new();
    for index in 0..draw.below(3) {
        let named = draw.some_of(primitives);
        if !named.is_empty() {
            services.push(Service {
                name: name(["chat", "code"][index]),
                basic_unit_primitive: None,
                realms: draw.pick(&[&REALMS[..], &REALMS[..1], &REALMS[1..]]).to_vec(),
                description: None,
                unit_primitives: names(&named),
            });
        }
    }
    CatalogParts {
        add_ons: add_ons.iter().map(|add_on| AddOn { name: name(add_on), description: None }).collect(),
        backends: backends.iter().map(|backend| self::backend(backend)).collect(),
        license_types: PLANS.map(|plan| LicenseType { name: name(plan), description: None }).into(),
        services,
        unit_primitives,
    }
}

fn primitive(
    draw: &mut Draw,
    called: &str,
    alias: &str,
    add_ons: &[&str],
    backends: &[&str],
) -> UnitPrimitive {
    UnitPrimitive {
        cut_off_date: (!draw.one_in(3)).then(|| draw.instant()),
        min_gitlab_version: minimum(draw),
        min_gitlab_version_for_free_access: minimum(draw),
        alias_names: if draw.one_in(2) { names(&[alias]) } else { Vec::new() },
        license_types: if draw.one_in(2) { names(&draw.some_of(&PLANS)) } else { Vec::new() },
        backend_services: names(&draw.some_of(backends)),
        add_ons: names(&draw.some_of(add_ons)),
        ..bare_primitive(called)
    }
}

fn minimum(draw: &mut Draw) -> Option<Version> {
    draw.one_in(3).then(|| name(draw.pick(&MINIMUMS)))
}

/// A primitive that nothing is said of.
pub(super) fn bare_primitive(called: &str) -> UnitPrimitive {
    UnitPrimitive {
        name: name::<UnitPrimitiveName>(called),
        description: "x".to_owned(),
        group: None,
        feature_category: "x".to_owned(),
        documentation_url: None,
        milestone: None,
        introduced_by_url: None,
        unit_primitive_issue_url: None,
        deprecated_by_url: None,
        deprecation_message: None,
        cut_off_date: None,
        min_gitlab_version: None,
        min_gitlab_version_for_free_access: None,
        alias_names: Vec::new(),
        license_types: Vec::<LicenseTypeName>::new(),
        backend_services: Vec::new(),
        add_ons: Vec::<AddOnName>::new(),
        realms: None,
        backend_indexes: Vec::new(),
        add_on_indexes: Vec::new(),
    }
}

/// A backend whose audience is told apart from its name.
pub(super) fn backend(called: &str) -> Backend {
    Backend {
        name: name(called),
        audience: format!("gitlab-{}", called.replace('_', "-")),
        project_url: None,
        group: None,
        description: None,
    }
}
