//! What changes while a process runs: deny lists come, tokens are remembered.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use token_authority_verifier::{Claims, DenyListError, Kid, LiveVerifier, Typ, compact};

use crate::fixture::{AUDIENCE, DAY, ENVIRONMENT, ISSUER, Keys, NOW, claims, time};

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);

fn code(live: &LiveVerifier, token: &str, now: i64) -> &'static str {
    live.verify(token, time(now)).map_or_else(|refusal| refusal.code(), |_| "valid")
}

#[test]
fn a_denied_key_is_refused_at_once_although_its_token_was_remembered() {
    let live = KEYS.live();
    let (token, other) = (KEYS.active.mint(&claims()), KEYS.standby.mint(&claims()));
    assert_eq!([code(&live, &token, NOW), code(&live, &other, NOW)], ["valid"; 2]);
    let list = KEYS.signed_deny_list(1, NOW, &[(KEYS.active.kid(), None, NOW + DAY)]);
    live.take_deny_list(&list, time(NOW)).unwrap();
    assert_eq!(code(&live, &token, NOW), "key_denied");
    assert_eq!(code(&live, &token, NOW), "key_denied");
    assert_eq!(code(&live, &other, NOW), "valid");
    let probe = KEYS.active.token(&serde_json::to_string(&claims()).unwrap());
    assert_eq!(live.verify_probe(&probe, time(NOW)).unwrap_err().code(), "typ_wrong");
}

#[test]
fn a_demoted_keys_later_tokens_are_refused_and_its_earlier_ones_are_not() {
    let live = KEYS.live();
    let earlier = KEYS.active.mint(&claims());
    let later = KEYS.active.mint(&Claims { iat: NOW, ..claims() });
    assert_eq!([code(&live, &earlier, NOW), code(&live, &later, NOW)], ["valid"; 2]);
    let list = KEYS.signed_deny_list(1, NOW, &[(KEYS.active.kid(), Some(NOW - 30), NOW + DAY)]);
    live.take_deny_list(&list, time(NOW)).unwrap();
    assert_eq!([code(&live, &earlier, NOW), code(&live, &later, NOW)], ["valid", "key_denied"]);
}

#[test]
fn an_entry_counts_until_its_own_end_even_if_a_later_list_omits_it() {
    let live = KEYS.live().with_deny_list_stale_after(Duration::from_secs(60));
    let token = KEYS.active.mint(&claims());
    let first = KEYS.signed_deny_list(5, NOW, &[(KEYS.active.kid(), None, NOW + 100)]);
    live.take_deny_list(&first, time(NOW)).unwrap();
    let empty = KEYS.signed_deny_list(6, NOW + 10, &[]);
    let state = live.take_deny_list(&empty, time(NOW + 10)).unwrap();
    assert_eq!((state.serial, state.stale), (Some(6), false));
    assert_eq!([code(&live, &token, NOW + 11), code(&live, &token, NOW + 100)], ["key_denied"; 2]);
    assert_eq!(code(&live, &token, NOW + 101), "valid");
    // An older list adds what it denies, and does not pass for the newest.
    let older = KEYS.signed_deny_list(4, NOW + 5, &[(KEYS.active.kid(), None, NOW + 200)]);
    assert_eq!(live.take_deny_list(&older, time(NOW + 105)).unwrap().serial, Some(6));
    assert_eq!(code(&live, &token, NOW + 150), "key_denied");
}

#[test]
fn a_list_of_others_changes_nothing() {
    let live = KEYS.live();
    let token = KEYS.active.mint(&claims());
    let good = KEYS.signed_deny_list(1, NOW, &[(KEYS.active.kid(), None, NOW + DAY)]);
    let (signed, _) = good.rsplit_once('.').unwrap();
    let forged = compact(signed.to_owned(), &KEYS.stranger.sign(signed));
    assert_eq!(live.take_deny_list(&forged, time(NOW)), Err(DenyListError::SignatureInvalid));
    // A token's key cannot deny anything, whatever `typ` it writes.
    let payload = format!(
        r#"{{"created":"2027-01-01T00:00:00Z","entries":[],"environment":"{ENVIRONMENT}","issuer":"{ISSUER}","serial":9}}"#
    );
    let header =
        format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{}"}}"#, KEYS.active.kid(), Typ::DenyList.name());
    let by_token_key = crate::forge::with_header(&KEYS.active, &header, &payload);
    assert!(matches!(live.take_deny_list(&by_token_key, time(NOW)), Err(DenyListError::KeyUnknown(_))));
    assert_eq!(live.deny_list(time(NOW)).serial, None);
    assert_eq!(code(&live, &token, NOW), "valid");
}

#[test]
fn a_stale_list_is_an_alarm_and_refuses_only_where_that_is_set() {
    let token = KEYS.active.mint(&claims());
    let list = KEYS.signed_deny_list(1, NOW, &[]);
    let lax = KEYS.live().with_deny_list_stale_after(Duration::from_secs(60));
    let strict = KEYS.live().with_deny_list_stale_after(Duration::from_secs(60)).refusing_when_stale();
    for live in [&lax, &strict] {
        let before = live.deny_list(time(NOW));
        assert_eq!((before.serial, before.age, before.stale), (None, None, true));
    }
    assert_eq!([code(&lax, &token, NOW), code(&strict, &token, NOW)], ["valid", "deny_list_stale"]);
    for live in [&lax, &strict] {
        assert!(!live.take_deny_list(&list, time(NOW)).unwrap().stale);
        let later = live.deny_list(time(NOW + 60));
        assert_eq!((later.serial, later.age, later.stale), (Some(1), Some(Duration::from_secs(60)), true));
    }
    assert_eq!([code(&lax, &token, NOW + 59), code(&strict, &token, NOW + 59)], ["valid"; 2]);
    assert_eq!([code(&lax, &token, NOW + 60), code(&strict, &token, NOW + 60)], ["valid", "deny_list_stale"]);
}

/// Otherwise a list dated far ahead would never be stale.
#[test]
fn a_list_from_the_future_is_as_old_as_its_arrival() {
    let live = KEYS.live();
    let ahead = KEYS.signed_deny_list(1, NOW + 300 * DAY, &[]);
    assert!(!live.take_deny_list(&ahead, time(NOW)).unwrap().stale);
    assert!(live.deny_list(time(NOW + DAY)).stale);
}

#[test]
fn a_remembered_token_is_the_same_object_and_ends_as_every_other() {
    let live = KEYS.live();
    let token = KEYS.short_lived.mint(&Claims { exp: NOW + 7_200, ..claims() });
    let first = live.verify(&token, time(NOW)).unwrap();
    assert!(Arc::ptr_eq(&first, &live.verify(&token, time(NOW + 1)).unwrap()));
    assert_eq!(code(&live, &token, NOW + 3_601), "key_expired");
    let token = KEYS.active.mint(&claims());
    let exp = claims().exp;
    assert_eq!(
        [NOW, exp + 29, exp + 30, NOW - 100].map(|now| code(&live, &token, now)),
        ["valid", "valid", "expired", "issued_in_future"]
    );
}

/// What may happen to a live verifier.
#[derive(Clone, Debug)]
enum Step {
    Show { token: usize, tampered: bool, later: i64 },
    Deny { key: usize, last: Option<i64>, life: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_usize, prop::bool::weighted(0.2), 0..4_000_i64)
            .prop_map(|(token, tampered, later)| Step::Show { token, tampered, later }),
        1 => (0..3_usize, prop::option::of(-100..0_i64), 0..5_000_i64)
            .prop_map(|(key, last, life)| Step::Deny { key, last, life }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The cache is invisible: with little room, much room and none, the verdicts are the same.
    #[test]
    fn remembering_never_changes_a_verdict(steps in prop::collection::vec(step(), 1..40)) {
        let lives = [0, 1, 4_096].map(|room| KEYS.live().with_remembered_tokens(room));
        let keys = [&KEYS.active, &KEYS.standby, &KEYS.short_lived];
        let kids: Vec<Kid> = keys.iter().map(|key| key.kid()).collect();
        let tokens: Vec<String> = (0..12_u32)
            .map(|n| {
                let iat = NOW - 60 - i64::from(n);
                let claims = Claims { iat, exp: iat + 600 * i64::from(n), jti: n.to_string(), ..claims() };
                keys[n as usize % 3].mint(&claims)
            })
            .collect();
        let mut now = NOW;
        for (serial, step) in (1..).zip(steps) {
            match step {
                Step::Show { token, tampered, later } => {
                    now += later;
                    let token = if tampered { tokens[token].replacen('J', "K", 1) } else { tokens[token].clone() };
                    let verdicts = lives.each_ref().map(|live| live.verify(&token, time(now)));
                    prop_assert_eq!(&verdicts[0], &verdicts[1]);
                    prop_assert_eq!(&verdicts[0], &verdicts[2]);
                }
                Step::Deny { key, last, life } => {
                    let entry = (kids[key], last.map(|last| NOW + last), now + life);
                    let list = KEYS.signed_deny_list(serial, now, &[entry]);
                    for live in &lives {
                        live.take_deny_list(&list, time(now)).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn a_live_verifier_is_shared_between_threads() {
    let live = Arc::new(KEYS.live().with_remembered_tokens(16));
    let tokens: Vec<String> =
        (0..64).map(|n: u32| KEYS.active.mint(&Claims { jti: n.to_string(), ..claims() })).collect();
    std::thread::scope(|scope| {
        for offset in 0..4 {
            let (live, tokens) = (&live, &tokens);
            scope.spawn(move || {
                for n in 0..200 {
                    let token = &tokens[(n * 7 + offset) % tokens.len()];
                    assert_eq!(live.verify(token, time(NOW)).unwrap().aud, [AUDIENCE]);
                }
            });
        }
    });
}
