//! What deny lists took from the keys of one verifier while it runs: bounded by its keys, and only ever more.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::deny_list::DenyListEntry;

/// One place per key of a verifier, in its order. A list may name any number of other keys: those are unknown here, and
/// their tokens are refused anyway, so that nothing has to be remembered of them.
#[derive(Debug, Default)]
pub(crate) struct Denials(Box<[KeyDenial]>);

/// Each value moves in one direction only, so that no order of reading and writing loses a denial.
#[derive(Debug)]
struct KeyDenial {
    /// The last second at which everything by the key is denied.
    all_until: AtomicI64,
    /// What was issued later is denied …
    issued_after: AtomicI64,
    /// … up to this second.
    issued_after_until: AtomicI64,
}

impl Denials {
    pub(crate) fn none_of(keys: usize) -> Self {
        Self((0..keys).map(|_| KeyDenial::none()).collect())
    }

    /// Denies more of the key at `place`.
    ///
    /// Of two entries for one key the earlier `iat_after` and the later `until` count, which denies all that either of
    /// them denies, for as long as either of them says.
    pub(crate) fn add(&self, place: usize, entry: &DenyListEntry) {
        let Some(key) = self.0.get(place) else { return };
        match entry.iat_after {
            None => {
                key.all_until.fetch_max(entry.until.unix(), Ordering::AcqRel);
            }
            Some(last) => {
                key.issued_after_until.fetch_max(entry.until.unix(), Ordering::AcqRel);
                key.issued_after.fetch_min(last.unix(), Ordering::AcqRel);
            }
        }
    }

    pub(crate) fn deny_all(&self, place: usize, now: i64) -> bool {
        self.0.get(place).is_some_and(|key| now <= key.all_until.load(Ordering::Acquire))
    }

    pub(crate) fn deny_issued_at(&self, place: usize, iat: i64, now: i64) -> bool {
        self.0.get(place).is_some_and(|key| {
            iat > key.issued_after.load(Ordering::Acquire)
                && now <= key.issued_after_until.load(Ordering::Acquire)
        })
    }
}

impl KeyDenial {
    fn none() -> Self {
        Self {
            all_until: AtomicI64::new(i64::MIN),
            issued_after: AtomicI64::new(i64::MAX),
            issued_after_until: AtomicI64::new(i64::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Kid, Timestamp};

    fn entry(iat_after: Option<i64>, until: i64) -> DenyListEntry {
        DenyListEntry {
            kid: Kid::new([0; 32]),
            iat_after: iat_after.and_then(Timestamp::from_unix),
            until: Timestamp::from_unix(until).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn whatever_an_entry_denied_stays_denied_until_its_own_end(
            entries in proptest::collection::vec((proptest::option::of(0..20_i64), 0..20_i64), 1..6),
            iat in 0..20_i64,
            now in 0..25_i64,
        ) {
            let denials = Denials::none_of(1);
            for (iat_after, until) in &entries {
                denials.add(0, &entry(*iat_after, *until));
            }
            let denied = denials.deny_all(0, now) || denials.deny_issued_at(0, iat, now);
            let named = entries.iter().any(|(last, until)| now <= *until && last.is_none_or(|last| iat > last));
            prop_assert!(denied || !named);
            let over = entries.iter().all(|(_, until)| now > *until);
            prop_assert!(!(denied && over), "nothing is denied longer than some entry says");
        }
    }

    #[test]
    fn other_keys_are_not_concerned() {
        let denials = Denials::none_of(2);
        denials.add(0, &entry(None, 10));
        denials.add(7, &entry(None, 10));
        assert!(denials.deny_all(0, 10) && !denials.deny_all(0, 11));
        assert!(!denials.deny_all(1, 5) && !denials.deny_all(7, 5) && !denials.deny_issued_at(1, 5, 5));
    }
}
