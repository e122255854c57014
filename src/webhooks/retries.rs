//! When an event that did not arrive is sent again: soon at first, then ever later, for a day.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::domain::ids::WebhookId;

/// An endpoint that has failed for this long is disabled: nobody looks after it.
pub const GIVEN_UP_AFTER: TimeDelta = TimeDelta::hours(24);

/// How long to wait after this many failures in a row: 5 s, then four times as long each time, 4 h at the most, each
/// a quarter shorter or longer. Endpoints that went down together are not asked again together.
///
/// An endpoint that names a later time itself (`Retry-After`) is obeyed, within those 4 h.
#[must_use]
pub fn delay(webhook: WebhookId, failures: u32, asked_for: Option<TimeDelta>) -> TimeDelta {
    let growing = FIRST.num_milliseconds().saturating_mul(4_i64.saturating_pow(failures.saturating_sub(1)));
    let mut hash = Sha256::new();
    hash.update(webhook.as_uuid().as_bytes());
    hash.update(failures.to_be_bytes());
    let digest = hash.finalize();
    let random = i64::from(u16::from_be_bytes([digest[0], digest[1]]));
    let longest = LONGEST.num_milliseconds();
    // From 3/4 to 5/4, by 65,536 steps.
    let jittered = growing.min(longest) * (3 * 32_768 + random) / (4 * 32_768);
    let asked_for = asked_for.unwrap_or(TimeDelta::zero()).num_milliseconds().clamp(0, longest);
    TimeDelta::milliseconds(jittered.max(asked_for))
}

/// Whether an endpoint that has failed since then has failed for too long.
#[must_use]
pub fn is_given_up(failing_since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - failing_since >= GIVEN_UP_AFTER
}

const FIRST: TimeDelta = TimeDelta::seconds(5);
const LONGEST: TimeDelta = TimeDelta::hours(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(number: u128) -> WebhookId {
        uuid::Uuid::from_u128(number).into()
    }

    #[test]
    fn delays_grow_and_stay_within_their_bounds() {
        for number in 0..200 {
            let mut total = TimeDelta::zero();
            for failures in 1..=20 {
                let middle = LONGEST.min(FIRST * 4_i32.pow(failures.min(8) - 1));
                let delay = delay(webhook(number), failures, None);
                assert!(delay >= middle * 3 / 4 && delay <= middle * 5 / 4, "{failures}: {delay}");
                total += delay;
            }
            assert!(total > GIVEN_UP_AFTER, "a day is over before the attempts are");
        }
    }

    #[test]
    fn two_endpoints_are_not_asked_again_together() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|number| delay(webhook(number), 4, None)).collect();
        assert!(delays.len() > 90, "{}", delays.len());
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_but_not_for_ever() {
        let asked = |seconds| delay(webhook(1), 1, Some(TimeDelta::seconds(seconds)));
        assert_eq!(asked(600), TimeDelta::seconds(600));
        assert!(asked(1) > TimeDelta::seconds(3));
        assert_eq!(asked(i64::from(i32::MAX)), LONGEST);
        assert_eq!(asked(-5), delay(webhook(1), 1, None));
    }

    #[test]
    fn a_day_of_failures_is_enough() {
        let since: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
        assert!(!is_given_up(since, since + GIVEN_UP_AFTER - TimeDelta::seconds(1)));
        assert!(is_given_up(since, since + GIVEN_UP_AFTER));
    }
}
