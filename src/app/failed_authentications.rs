//! Limits failed authentication before it reaches the queue: per client address, and per
//! credential that is claimed from an address.
//!
//! Only failures count, so that a well-behaved fleet behind one address is never slowed;
//! a claimed credential counts together with the address, so that nobody can lock
//! another's instance out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use uuid::Uuid;

/// Who failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Culprit {
    Address(IpAddr),
    Claimed(IpAddr, Uuid),
}

/// The failures of one process.
#[derive(Debug)]
pub struct FailedAuthentications {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    by_claim: DefaultKeyedRateLimiter<(IpAddr, Uuid)>,
    clock: DefaultClock,
    /// Until when each of those over the limit is refused unread.
    refused: Mutex<HashMap<Culprit, Instant>>,
    /// How many there are: the common case of none takes no lock.
    refused_count: AtomicUsize,
}

impl FailedAuthentications {
    /// Limits per minute.
    #[must_use]
    pub fn new(per_address: NonZeroUsize, per_claim: NonZeroUsize) -> Self {
        Self {
            by_address: DefaultKeyedRateLimiter::keyed(per_minute(per_address)),
            by_claim: DefaultKeyedRateLimiter::keyed(per_minute(per_claim)),
            clock: DefaultClock::default(),
            refused: Mutex::new(HashMap::new()),
            refused_count: AtomicUsize::new(0),
        }
    }

    /// Lets an attempt pass, unless too many before it failed.
    ///
    /// # Errors
    /// How long to wait before the next attempt.
    pub fn admit(&self, address: IpAddr, claimed: Option<Uuid>) -> Result<(), Duration> {
        if self.refused_count.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, until| *until > now);
        self.refused_count.store(refused.len(), Ordering::Relaxed);
        let culprits = [Some(Culprit::Address(address)), claimed.map(|uid| Culprit::Claimed(address, uid))];
        let until = culprits.into_iter().flatten().filter_map(|culprit| refused.get(&culprit)).max();
        until.map_or(Ok(()), |until| Err(*until - now))
    }

    /// Counts a failure.
    pub fn failed(&self, address: IpAddr, claimed: Option<Uuid>) {
        if let Err(until) = self.by_address.check_key(&address) {
            self.refuse(Culprit::Address(address), until.wait_time_from(self.clock.now()));
        }
        if let Some(uid) = claimed
            && let Err(until) = self.by_claim.check_key(&(address, uid))
        {
            self.refuse(Culprit::Claimed(address, uid), until.wait_time_from(self.clock.now()));
        }
    }

    /// Forgets who has not failed for long. Call it now and then.
    pub fn tidy(&self) {
        self.by_address.retain_recent();
        self.by_claim.retain_recent();
    }

    fn refuse(&self, culprit: Culprit, wait: Duration) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(culprit, Instant::now() + wait);
        self.refused_count.store(refused.len(), Ordering::Relaxed);
    }
}

fn per_minute(failures: NonZeroUsize) -> Quota {
    Quota::per_minute(u32::try_from(failures.get()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX))
}
