//! What a change gives to each instance and takes from it, and when: the same decision, before and after.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::Circumstances;
use crate::domain::catalog::{Catalog, UnitPrimitiveName};
use crate::domain::entitlement::{Difference, Differences, Situation, Standpoint};
use crate::domain::ids::{InstanceUid, SubscriptionId};
use crate::storage::{StorageError, facts};

/// What a change does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Effects {
    pub gained: Vec<Effect>,
    pub lost: Vec<Effect>,
    /// More instances may be affected than were looked at.
    pub truncated: bool,
}

/// One unit primitive that one instance may use, or no longer may, for a stretch of time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Effect {
    pub instance_uid: InstanceUid,
    pub unit_primitive: UnitPrimitiveName,
    /// From when on: the time of the change, or later.
    pub at: DateTime<Utc>,
    /// Until when the change makes the difference; `None` if for good.
    pub until: Option<DateTime<Utc>>,
}

/// Whom a change may affect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Affected {
    Instance(InstanceUid),
    /// Every instance under its licenses.
    Subscription(SubscriptionId),
}

/// How things stood before a change.
#[derive(Debug)]
pub(super) struct Standing {
    affected: Affected,
    situations: Vec<(InstanceUid, Situation)>,
}

impl Standing {
    /// Reads how things stand. The change's locks are held already.
    pub(super) async fn read(
        connection: &mut PgConnection,
        affected: Affected,
    ) -> Result<Self, StorageError> {
        let situations = match affected {
            Affected::Instance(uid) => facts::find_situation(connection, uid)
                .await?
                .map(|situation| (uid, situation))
                .into_iter()
                .collect(),
            Affected::Subscription(id) => facts::list_situations_of_subscription(connection, id).await?,
        };
        Ok(Self { affected, situations })
    }

    /// Reads how things stand now, and compares.
    pub(super) async fn effects(
        self,
        connection: &mut PgConnection,
        circumstances: &Circumstances<'_>,
        now: DateTime<Utc>,
    ) -> Result<Effects, StorageError> {
        let after = Self::read(connection, self.affected).await?;
        let Circumstances { catalog, grace, .. } = *circumstances;
        Ok(compare(catalog, grace, now, &self.situations, &after.situations))
    }
}

fn compare(
    catalog: &Catalog,
    grace: TimeDelta,
    now: DateTime<Utc>,
    before: &[(InstanceUid, Situation)],
    after: &[(InstanceUid, Situation)],
) -> Effects {
    let mut effects =
        Effects { truncated: before.len().max(after.len()) >= MOST_INSTANCES, ..Effects::default() };
    // Instances of one subscription differ in little: most comparisons were made for the one before.
    let mut last: Option<(&Situation, &Situation, Differences)> = None;
    for (uid, was) in before {
        let Ok(found) = after.binary_search_by_key(uid, |(uid, _)| *uid) else { continue };
        let is = &after[found].1;
        if !last.as_ref().is_some_and(|(last_was, last_is, _)| *last_was == was && *last_is == is) {
            let standpoint = |situation| Standpoint { catalog, situation };
            last = Some((was, is, Differences::between(standpoint(was), standpoint(is), grace, now)));
        }
        let Some((_, _, differences)) = &last else { continue };
        let effect = |difference: &Difference| Effect {
            instance_uid: *uid,
            unit_primitive: difference.unit_primitive.clone(),
            at: difference.at,
            until: difference.until,
        };
        effects.gained.extend(differences.gained.iter().map(effect));
        effects.lost.extend(differences.lost.iter().map(effect));
    }
    effects
}

/// As many as [`facts::list_situations_of_subscription`] reads.
const MOST_INSTANCES: usize = 1000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::catalog_files;
    use crate::domain::add_on_purchase::PurchaseStanding;
    use crate::domain::catalog::Realm;
    use crate::domain::instance::{InstanceStanding, InstanceState};
    use crate::domain::license::{LicenseKind, LicenseStanding};
    use crate::domain::subscription::{Condition, SubscriptionStanding, Term};

    const GRACE: TimeDelta = TimeDelta::days(14);

    fn day(text: &str) -> DateTime<Utc> {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    fn term(starts: &str, ends: &str) -> Term {
        Term::new(day(starts), day(ends)).unwrap()
    }

    fn purchase(starts: &str, ends: &str) -> PurchaseStanding {
        PurchaseStanding {
            add_on: "duo_enterprise".parse().unwrap(),
            quantity: 10,
            term: term(starts, ends),
            ended_at: None,
        }
    }

    fn situation() -> Situation {
        Situation {
            license: LicenseStanding { kind: LicenseKind::Online, revoked_at: None },
            subscription: SubscriptionStanding {
                license_type: "ultimate".parse().unwrap(),
                term: term("2026-01-01", "2027-01-01"),
                earlier_ends: Vec::new(),
                trial: false,
                condition: Condition::Active,
            },
            purchases: Vec::new(),
            instance: InstanceStanding {
                state: InstanceState::Active,
                version: "99.0.0".parse().unwrap(),
                realm: Realm::SelfManaged,
                disabled_unit_primitives: BTreeSet::new(),
                disabled_backends: BTreeSet::new(),
            },
        }
    }

    /// The effects on one instance, at a time after every cut-off of the example.
    fn effects(was: &Situation, is: &Situation) -> Effects {
        let uid = InstanceUid::generate(day("2026-06-01"));
        let catalog = catalog_files::example().unwrap();
        compare(&catalog, GRACE, day("2026-06-01"), &[(uid, was.clone())], &[(uid, is.clone())])
    }

    fn of<'a>(effects: &'a [Effect], name: &str) -> Vec<(DateTime<Utc>, Option<DateTime<Utc>>)> {
        effects
            .iter()
            .filter(|effect: &&'a Effect| effect.unit_primitive.as_str() == name)
            .map(|effect| (effect.at, effect.until))
            .collect()
    }

    #[test]
    fn a_purchase_that_starts_later_is_gained_when_it_starts() {
        let was = situation();
        let is = Situation { purchases: vec![purchase("2026-08-01", "2026-09-01")], ..was.clone() };
        let effects = effects(&was, &is);
        assert_eq!(
            of(&effects.gained, "explain_vulnerability"),
            [(day("2026-08-01"), Some(day("2026-09-01")))]
        );
        assert!(effects.lost.is_empty());
        assert!(!effects.truncated);
    }

    #[test]
    fn a_gap_between_purchases_is_lost_for_as_long_as_it_lasts() {
        let one = |purchases| Situation { purchases, ..situation() };
        let was = one(vec![purchase("2026-01-01", "2026-12-01")]);
        let is = one(vec![purchase("2026-01-01", "2026-07-01"), purchase("2026-08-01", "2026-12-01")]);
        let effects = effects(&was, &is);
        assert_eq!(
            of(&effects.lost, "explain_vulnerability"),
            [(day("2026-07-01"), Some(day("2026-08-01")))]
        );
        assert!(effects.gained.is_empty());
    }

    #[test]
    fn a_revocation_takes_everything_at_once() {
        let was = Situation { purchases: vec![purchase("2026-01-01", "2027-01-01")], ..situation() };
        let mut is = was.clone();
        is.license.revoked_at = Some(day("2026-06-01"));
        let effects = effects(&was, &is);
        // It would have ended with the grace of the term.
        assert_eq!(
            of(&effects.lost, "explain_vulnerability"),
            [(day("2026-06-01"), Some(day("2027-01-15")))]
        );
        assert!(effects.gained.is_empty());
    }

    #[test]
    fn what_was_granted_anyway_is_no_effect() {
        let was = Situation { purchases: vec![purchase("2026-01-01", "2027-01-01")], ..situation() };
        let mut is = was.clone();
        is.purchases.push(purchase("2026-02-01", "2026-11-01"));
        assert_eq!(effects(&was, &is), Effects::default());
        assert_eq!(effects(&was, &was), Effects::default());
    }
}
