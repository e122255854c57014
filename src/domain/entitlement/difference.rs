//! How two futures of one instance differ: what is gained and what is lost, from when on, and for how long.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Decision, Situation, decide};
use crate::domain::catalog::{Catalog, UnitPrimitiveName};

/// What decides: the catalog, and what is recorded of the instance.
#[derive(Clone, Copy, Debug)]
pub struct Standpoint<'a> {
    pub catalog: &'a Catalog,
    pub situation: &'a Situation,
}

/// What one standpoint grants and another does not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Differences {
    pub gained: Vec<Difference>,
    pub lost: Vec<Difference>,
}

/// One unit primitive, for a stretch of time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    pub unit_primitive: UnitPrimitiveName,
    /// From when on.
    pub at: DateTime<Utc>,
    /// Until when it makes the difference; `None` if for good.
    pub until: Option<DateTime<Utc>>,
}

impl Differences {
    /// What changes for the instance when `is` takes the place of `was` at `now`, from then to the last instant at
    /// which either changes by itself; sorted by unit primitive, then by time.
    #[must_use]
    pub fn between(was: Standpoint<'_>, is: Standpoint<'_>, grace: TimeDelta, now: DateTime<Utc>) -> Self {
        let mut differences = Self::default();
        if was.situation == is.situation && was.catalog.digest() == is.catalog.digest() {
            return differences;
        }
        let places = places(was.catalog, is.catalog);
        let was = future(was, grace, now);
        let is = future(is, grace, now);
        let mut instants: Vec<_> = was.iter().chain(&is).map(|(at, _)| *at).collect();
        instants.sort_unstable();
        instants.dedup();
        for (unit_primitive, (place_before, place_after)) in places {
            // Since when either side alone grants it.
            let mut gaining = None;
            let mut losing = None;
            for at in &instants {
                let (was, is) = (granted(&was, *at, place_before), granted(&is, *at, place_after));
                follow(&mut gaining, is && !was, *at, unit_primitive, &mut differences.gained);
                follow(&mut losing, was && !is, *at, unit_primitive, &mut differences.lost);
            }
            let open = |at| Difference { unit_primitive: unit_primitive.clone(), at, until: None };
            differences.gained.extend(gaining.map(open));
            differences.lost.extend(losing.map(open));
        }
        differences
    }
}

/// Where each catalog has what either of them sells.
fn places<'a>(
    was: &'a Catalog,
    is: &'a Catalog,
) -> BTreeMap<&'a UnitPrimitiveName, (Option<usize>, Option<usize>)> {
    let mut places = BTreeMap::<_, (Option<usize>, Option<usize>)>::new();
    for (place, primitive) in was.unit_primitives().iter().enumerate() {
        places.entry(&primitive.name).or_default().0 = Some(place);
    }
    for (place, primitive) in is.unit_primitives().iter().enumerate() {
        places.entry(&primitive.name).or_default().1 = Some(place);
    }
    places
}

/// Opens a stretch of difference where it begins, and notes it where it ends.
fn follow(
    since: &mut Option<DateTime<Utc>>,
    differs: bool,
    at: DateTime<Utc>,
    unit_primitive: &UnitPrimitiveName,
    noted: &mut Vec<Difference>,
) {
    match (*since, differs) {
        (None, true) => *since = Some(at),
        (Some(began), false) => {
            noted.push(Difference { unit_primitive: unit_primitive.clone(), at: began, until: Some(at) });
            *since = None;
        }
        (None, false) | (Some(_), true) => {}
    }
}

/// Every decision from `now` on, each with the instant from which it holds.
fn future(from: Standpoint<'_>, grace: TimeDelta, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, Decision)> {
    let mut decisions = Vec::new();
    let mut next = Some(now);
    while let Some(at) = next {
        let decision = decide(from.catalog, from.situation, grace, at);
        next = decision.next_change_at;
        decisions.push((at, decision));
    }
    decisions
}

fn granted(future: &[(DateTime<Utc>, Decision)], at: DateTime<Utc>, place: Option<usize>) -> bool {
    let index = future.partition_point(|(since, _)| *since <= at);
    let decision = index.checked_sub(1).map(|index| &future[index].1);
    decision.zip(place).is_some_and(|(decision, place)| decision.entitlements[place].verdict.is_granted())
}
