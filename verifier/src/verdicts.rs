//! Tokens that passed, remembered within bounds: what they say need not be verified twice.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::claims::Claims;

/// A token's claims, and the place of its key.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) claims: Arc<Claims>,
    pub(crate) key: usize,
}

/// Remembers acceptances, never refusals: whoever holds no good token cannot put anything in here. A token is found by
/// its whole text.
///
/// Sets of a few places, each behind a lock of its own. When a set is full, the token that was asked for longest ago
/// makes room.
pub(crate) struct Verdicts {
    sets: Box<[Mutex<Vec<Remembered>>]>,
    /// Makes it unforeseeable which tokens share a set.
    seed: u64,
}

struct Remembered {
    token: Box<str>,
    verdict: Verdict,
}

/// Places per set: few enough to look at all of them.
const PLACES: usize = 8;

impl Verdicts {
    /// Room for at least `capacity` tokens; none for 0.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let sets = match capacity {
            0 => 0,
            // A power of two, so that a set is chosen by bits.
            _ => capacity.div_ceil(PLACES).next_power_of_two(),
        };
        Self { sets: (0..sets).map(|_| Mutex::default()).collect(), seed: RandomState::new().hash_one(0) }
    }

    pub(crate) fn find(&self, token: &str) -> Option<Verdict> {
        let mut set = self.set(token)?;
        let place = set.iter().position(|remembered| *remembered.token == *token)?;
        // The last ones are the newest.
        if place + 1 < set.len() {
            set[place..].rotate_left(1);
        }
        set.last().map(|remembered| remembered.verdict.clone())
    }

    pub(crate) fn remember(&self, token: &str, verdict: Verdict) {
        let Some(mut set) = self.set(token) else { return };
        // Two requests may have verified it at once.
        set.retain(|remembered| *remembered.token != *token);
        if set.len() == PLACES {
            set.remove(0);
        }
        set.push(Remembered { token: token.into(), verdict });
    }

    pub(crate) fn forget(&self, token: &str) {
        if let Some(mut set) = self.set(token) {
            set.retain(|remembered| *remembered.token != *token);
        }
    }

    /// The set of a token, by the last characters of its signature: nobody can choose those.
    fn set(&self, token: &str) -> Option<MutexGuard<'_, Vec<Remembered>>> {
        let tail: &[u8; 16] = token.as_bytes().last_chunk()?;
        let [high, low] = [0, 8]
            .map(|from| tail[from..from + 8].iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)));
        let mixed = (high ^ self.seed).wrapping_mul(MULTIPLIER) ^ low;
        let index = usize::try_from(mixed.wrapping_mul(MULTIPLIER) >> 40).ok()?;
        let set = self.sets.get(index & self.sets.len().checked_sub(1)?)?;
        // A panic while the lock is held leaves at worst a token less.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// 2^64 divided by the golden ratio, odd: spreads the bits of what it multiplies upwards.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Tokens are credentials: only how many there can be is shown.
impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").field("capacity", &(self.sets.len() * PLACES)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(key: usize) -> Verdict {
        let claims = Claims {
            iss: String::new(),
            sub: String::new(),
            aud: Vec::new(),
            iat: 0,
            nbf: 0,
            exp: 0,
            jti: String::new(),
            scopes: Vec::new(),
            gitlab_realm: String::new(),
            gitlab_instance_uid: String::new(),
            duo_seat_count: None,
        };
        Verdict { claims: Arc::new(claims), key }
    }

    fn token(n: usize) -> String {
        format!("header.payload.signature-{n:016}")
    }

    fn held(verdicts: &Verdicts) -> usize {
        verdicts.sets.iter().map(|set| set.lock().unwrap().len()).sum()
    }

    #[test]
    fn a_token_is_found_by_its_whole_text() {
        let verdicts = Verdicts::with_capacity(64);
        verdicts.remember(&token(1), verdict(1));
        assert_eq!(verdicts.find(&token(1)).unwrap().key, 1);
        assert!(verdicts.find(&token(2)).is_none());
        assert!(verdicts.find(&token(1).replace("payload", "another")).is_none());
        verdicts.forget(&token(1));
        assert!(verdicts.find(&token(1)).is_none());
    }

    #[test]
    fn the_memory_is_bounded_whatever_comes() {
        let verdicts = Verdicts::with_capacity(64);
        for n in 0..10_000 {
            verdicts.remember(&token(n), verdict(n));
            verdicts.remember(&token(n), verdict(n));
        }
        assert!(held(&verdicts) <= 64 && held(&verdicts) > 32, "{}", held(&verdicts));
        assert_eq!(verdicts.find(&token(9_999)).unwrap().key, 9_999);
    }

    #[test]
    fn what_is_asked_for_stays_when_a_set_is_full() {
        let verdicts = Verdicts::with_capacity(1);
        for n in 0..PLACES {
            verdicts.remember(&token(n), verdict(n));
        }
        assert!(verdicts.find(&token(0)).is_some());
        verdicts.remember(&token(PLACES), verdict(PLACES));
        assert!(verdicts.find(&token(0)).is_some());
        assert!(verdicts.find(&token(1)).is_none());
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let verdicts = Verdicts::with_capacity(0);
        verdicts.remember(&token(1), verdict(1));
        assert!(verdicts.find(&token(1)).is_none());
        assert!(Verdicts::with_capacity(8).find("short").is_none());
    }
}
