//! What another catalog would give to the live subscriptions and take from them: the same decision under both.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::domain::catalog::{Catalog, UnitPrimitiveName};
use crate::domain::entitlement::{Difference, Differences, Situation, Standpoint};
use crate::domain::ids::{InstanceUid, SubscriptionId};
use crate::storage::{StorageError, facts};

/// What a change of the catalog does.
#[derive(Clone, Debug, Default)]
pub struct CatalogEffects {
    /// How many instances were compared: all that were not released.
    pub instances: u64,
    pub gained: Vec<CatalogEffect>,
    pub lost: Vec<CatalogEffect>,
}

/// One unit primitive, and whose it becomes or ceases to be.
#[derive(Clone, Debug)]
pub struct CatalogEffect {
    pub unit_primitive: UnitPrimitiveName,
    pub instances: u64,
    pub subscriptions: u64,
    /// For the first of them from when on.
    pub at: DateTime<Utc>,
    /// Some of the instances, to look at.
    pub some: Vec<InstanceUid>,
}

/// Compares what `before` and `after` grant to every instance, from `now` on.
///
/// # Errors
/// The database cannot be read.
pub async fn catalog_effects(
    connection: &mut PgConnection,
    before: &Catalog,
    after: &Catalog,
    grace: TimeDelta,
    now: DateTime<Utc>,
) -> Result<CatalogEffects, StorageError> {
    let (mut gained, mut lost) = (Gathered::default(), Gathered::default());
    let mut instances = 0;
    let mut last = None;
    // Instances of one subscription differ in little: most comparisons were made for the one before.
    let mut compared: Option<(Situation, Differences)> = None;
    loop {
        let page = facts::list_situations(connection, last, PAGE).await?;
        let Some((uid, ..)) = page.last() else { break };
        last = Some(*uid);
        for (uid, subscription, situation) in page {
            instances += 1;
            let differences = match &compared {
                Some((like, differences)) if *like == situation => differences,
                _ => {
                    let of = |catalog| Standpoint { catalog, situation: &situation };
                    let differences = Differences::between(of(before), of(after), grace, now);
                    &compared.insert((situation, differences)).1
                }
            };
            gained.add(uid, subscription, &differences.gained);
            lost.add(uid, subscription, &differences.lost);
        }
    }
    Ok(CatalogEffects { instances, gained: gained.effects(), lost: lost.effects() })
}

#[derive(Default)]
struct Gathered(BTreeMap<UnitPrimitiveName, Whose>);

struct Whose {
    instances: u64,
    subscriptions: HashSet<SubscriptionId>,
    at: DateTime<Utc>,
    some: Vec<InstanceUid>,
}

impl Gathered {
    /// The differences of one instance: each primitive counts once, however many stretches of time it has.
    fn add(&mut self, uid: InstanceUid, subscription: SubscriptionId, differences: &[Difference]) {
        let mut last = None;
        for difference in differences {
            let name = &difference.unit_primitive;
            if last == Some(name) {
                continue;
            }
            last = Some(name);
            let whose = self.0.entry(name.clone()).or_insert_with(|| Whose {
                instances: 0,
                subscriptions: HashSet::new(),
                at: difference.at,
                some: Vec::new(),
            });
            whose.instances += 1;
            whose.subscriptions.insert(subscription);
            whose.at = whose.at.min(difference.at);
            if whose.some.len() < SOME {
                whose.some.push(uid);
            }
        }
    }

    fn effects(self) -> Vec<CatalogEffect> {
        let effect = |(unit_primitive, whose): (_, Whose)| CatalogEffect {
            unit_primitive,
            instances: whose.instances,
            subscriptions: whose.subscriptions.len() as u64,
            at: whose.at,
            some: whose.some,
        };
        self.0.into_iter().map(effect).collect()
    }
}

/// How many instances are read at once.
const PAGE: i64 = 1000;
/// How many instances are named for each effect.
const SOME: usize = 5;
