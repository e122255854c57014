//! How often an instance really syncs, and when it may be expected again.

use chrono::{DateTime, TimeDelta, Utc};

/// What an instance's past syncs let expect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyncRhythm {
    last_sync_at: DateTime<Utc>,
    interval: TimeDelta,
}

impl SyncRhythm {
    /// The rhythm of these syncs, latest first: the median of what lies between them, which one long weekend does
    /// not move. `usual` where there are no two. `None` without any.
    #[must_use]
    pub fn of(syncs: &[DateTime<Utc>], usual: TimeDelta) -> Option<Self> {
        let last_sync_at = *syncs.first()?;
        let mut intervals: Vec<_> = syncs.windows(2).map(|pair| pair[0] - pair[1]).collect();
        intervals.sort_unstable();
        // Of two in the middle the longer: rather a warning too many.
        let interval = intervals.get(intervals.len() / 2).copied().unwrap_or(usual);
        Some(Self { last_sync_at, interval })
    }

    /// The last sync that left tokens.
    #[must_use]
    pub fn last_sync_at(&self) -> DateTime<Utc> {
        self.last_sync_at
    }

    /// What usually lies between two syncs.
    #[must_use]
    pub fn interval(&self) -> TimeDelta {
        self.interval
    }

    /// Whether a sync that was due has not come.
    #[must_use]
    pub fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        now > self.last_sync_at + self.interval
    }

    /// When the next sync may be expected. An instance that missed one is expected to stay silent for as long
    /// again as it has been: whoever was away for a minute is back soon, and for a day is not.
    #[must_use]
    pub fn next_sync_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.is_overdue(now) { now + (now - self.last_sync_at) } else { self.last_sync_at + self.interval }
    }

    /// Whether tokens that die at `tokens_die_at` live now, and die within the time and before the next sync.
    #[must_use]
    pub fn is_too_slow_for(
        &self,
        tokens_die_at: DateTime<Utc>,
        now: DateTime<Utc>,
        within: TimeDelta,
    ) -> bool {
        now < tokens_die_at && tokens_die_at <= now + within && tokens_die_at < self.next_sync_at(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: TimeDelta = TimeDelta::hours(1);

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn rhythm(minutes: &[i64]) -> Option<SyncRhythm> {
        SyncRhythm::of(&minutes.iter().map(|minutes| at(*minutes)).collect::<Vec<_>>(), HOUR)
    }

    #[test]
    fn the_rhythm_is_the_instances_own() {
        assert_eq!(rhythm(&[]), None);
        let once = rhythm(&[600]).expect("a sync");
        assert_eq!((once.interval(), once.next_sync_at(at(610))), (HOUR, at(660)));
        let daily = rhythm(&[4320, 2880, 1440, 0]).expect("syncs");
        assert_eq!((daily.interval(), daily.next_sync_at(at(4330))), (TimeDelta::days(1), at(5760)));
        // A weekend between hourly syncs.
        let hourly = rhythm(&[3180, 3120, 3060, 180, 120, 60]).expect("syncs");
        assert_eq!(hourly.interval(), HOUR);
    }

    #[test]
    fn silence_is_expected_to_last_as_long_again() {
        let hourly = rhythm(&[120, 60, 0]).expect("syncs");
        assert!(!hourly.is_overdue(at(180)));
        assert_eq!(hourly.next_sync_at(at(180)), at(180));
        assert!(hourly.is_overdue(at(240)));
        assert_eq!(hourly.next_sync_at(at(240)), at(360));
    }

    proptest! {
        #[test]
        fn the_next_sync_is_never_past_and_waiting_never_brings_it_nearer(
            mut syncs in prop::collection::vec(0_i64..10_000, 1..12), waited in 0_i64..10_000, more in 0_i64..1_000,
        ) {
            syncs.sort_unstable_by(|a, b| b.cmp(a));
            let rhythm = rhythm(&syncs).expect("a sync");
            let now = rhythm.last_sync_at() + TimeDelta::minutes(waited);
            let later = now + TimeDelta::minutes(more);
            prop_assert!(rhythm.next_sync_at(now) >= now);
            prop_assert!(rhythm.next_sync_at(later) >= rhythm.next_sync_at(now));
        }
    }
}
