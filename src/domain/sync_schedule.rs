//! When an instance should sync again, and how many syncs it may miss.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::ids::InstanceUid;

/// What a sync tells about the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncSchedule {
    /// Spread per instance, and before anything that was granted ends.
    pub refresh_after: DateTime<Utc>,
    /// How many syncs in a row may fail before a token runs out that a sync would have kept alive.
    pub missable_syncs: i64,
}

/// A token as the schedule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    pub expires_at: DateTime<Utc>,
    /// No sync can keep it alive beyond this.
    pub ends_with_grant: bool,
}

impl SyncSchedule {
    /// The schedule after a sync at `now`.
    #[must_use]
    pub fn after(
        now: DateTime<Utc>,
        instance: InstanceUid,
        interval: TimeDelta,
        tokens: &[Expiry],
        next_change_at: Option<DateTime<Utc>>,
    ) -> Self {
        let limit = tokens.iter().map(|token| token.expires_at).chain(next_change_at).min();
        let wait = spread(instance, interval);
        let wait = match limit.map(|limit| limit - now) {
            // Before the limit, and spread over the time that is left.
            Some(left) if wait >= left => spread(instance, left),
            _ => wait,
        };
        // A whole second reads better; never before now, nor after the limit.
        let refresh_after = (now + wait).trunc_subsecs(0).max(now.trunc_subsecs(0));
        Self { refresh_after, missable_syncs: missable(now, interval, tokens) }
    }
}

/// Between nine tenths of the time and all but a hundredth of it, always the same for one instance.
fn spread(instance: InstanceUid, time: TimeDelta) -> TimeDelta {
    let bytes = instance.as_uuid().into_bytes();
    let share = i32::from(u16::from_be_bytes([bytes[14], bytes[15]]) % 91);
    time * (900 + share) / 1000
}

fn missable(now: DateTime<Utc>, interval: TimeDelta, tokens: &[Expiry]) -> i64 {
    let kept_alive = tokens.iter().filter(|token| !token.ends_with_grant);
    let first = kept_alive
        .map(|token| token.expires_at)
        .min()
        .or_else(|| tokens.iter().map(|token| token.expires_at).min());
    let (Some(first), interval) = (first, interval.num_seconds().max(1)) else { return 0 };
    // Syncs are due after one interval, two, …; the one that must not fail is the
    // last of those before the expiry, or at it.
    let left = (first - now.trunc_subsecs(0)).num_seconds();
    ((left + interval - 1) / interval - 1).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + HOUR * i32::try_from(hours).expect("small")
    }

    fn token(hours: i64, ends_with_grant: bool) -> Expiry {
        Expiry { expires_at: at(hours), ends_with_grant }
    }

    #[test]
    fn eight_hours_of_life_and_hourly_syncs_let_seven_be_missed() {
        let uid = InstanceUid::from(Uuid::from_u128(7));
        let schedule = SyncSchedule::after(at(0), uid, HOUR, &[token(8, false)], None);
        assert_eq!(schedule.missable_syncs, 7);
    }

    #[test]
    fn the_next_sync_comes_before_every_end_and_is_spread_over_instances() {
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..200_u128 {
            let uid = InstanceUid::from(Uuid::from_u128(n * 97));
            let free = SyncSchedule::after(at(0), uid, HOUR, &[token(8, false)], None);
            assert!(free.refresh_after >= at(0) + HOUR * 9 / 10 && free.refresh_after < at(1));
            seen.insert(free.refresh_after);
            let change = at(0) + TimeDelta::minutes(10);
            let bound = SyncSchedule::after(at(0), uid, HOUR, &[token(8, false)], Some(change));
            assert!(bound.refresh_after < change && bound.refresh_after > at(0));
        }
        assert!(seen.len() > 80, "{}", seen.len());
    }

    #[test]
    fn a_token_that_ends_with_its_grant_does_not_count_as_missable() {
        let uid = InstanceUid::from(Uuid::from_u128(7));
        let schedule = SyncSchedule::after(at(0), uid, HOUR, &[token(8, false), token(1, true)], None);
        assert_eq!(schedule.missable_syncs, 7);
    }
}
