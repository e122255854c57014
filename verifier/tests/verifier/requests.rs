//! Requests: the header that carries the token, those that repeat it, and the answer that says what is wrong.

use std::sync::{Arc, LazyLock};

use token_authority_verifier::{Claims, Reason, RequestVerifier};

use crate::fixture::{Keys, NOW, claims, time};

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);

fn requests() -> RequestVerifier {
    RequestVerifier::new(Arc::new(KEYS.live()))
}

fn bearer() -> String {
    format!("Bearer {}", KEYS.active.mint(&claims()))
}

fn code(requests: &RequestVerifier, headers: &[(&str, &str)]) -> &'static str {
    requests.judge(headers, time(NOW)).map_or_else(|refusal| refusal.code(), |_| "valid")
}

#[test]
fn one_bearer_token_is_needed() {
    let good = bearer();
    let lower = good.replacen("Bearer", "bearer", 1);
    for (headers, expected) in [
        (&[("Authorization", good.as_str())][..], "valid"),
        (&[("authorization", &lower)], "valid"),
        (&[], "token_missing"),
        (&[("authorization", "")], "token_missing"),
        (&[("authorization", "Bearer")], "token_missing"),
        (&[("authorization", "Basic dXNlcjpwYXNz")], "token_missing"),
        (&[("authorization", &good), ("authorization", &good)], "token_missing"),
        (&[("authorization", "Bearer ")], "malformed"),
        (&[("authorization", "Bearer a.b.c")], "malformed"),
    ] {
        assert_eq!(code(&requests(), headers), expected, "{headers:?}");
    }
}

#[test]
fn headers_that_repeat_the_token_must_agree_with_it() {
    let (token, said) = (bearer(), claims());
    let good = [
        ("authorization", &*token),
        ("X-Gitlab-Realm", &said.gitlab_realm),
        ("X-Gitlab-Instance-Id", &said.sub),
        ("X-Gitlab-Duo-Seat-Count", "25"),
    ];
    let strict = requests().requiring_headers();
    assert_eq!([code(&requests(), &good), code(&strict, &good)], ["valid"; 2]);
    for place in 1..good.len() {
        let mut other = good;
        other[place].1 = "other";
        assert_eq!([code(&requests(), &other), code(&strict, &other)], ["header_mismatch"; 2], "{place}");
        let twice = [&good[..], &[(good[place].0, "other")]].concat();
        assert_eq!(code(&requests(), &twice), "header_mismatch", "{place}");
        let without: Vec<_> =
            good.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, field)| *field).collect();
        assert_eq!([code(&requests(), &without), code(&strict, &without)], ["valid", "header_mismatch"]);
    }
    let uncounted = format!("Bearer {}", KEYS.active.mint(&Claims { duo_seat_count: None, ..claims() }));
    let claimed = [("authorization", &*uncounted), ("x-gitlab-duo-seat-count", "1000")];
    assert_eq!(code(&requests(), &claimed), "header_mismatch");
}

#[test]
fn a_good_token_permits_what_is_in_it_and_nothing_else() {
    let token = bearer();
    let headers = [("authorization", &*token)];
    assert_eq!(code(&requests().permitting("duo_chat"), &headers), "valid");
    let other = requests().permitting("resolve_vulnerability");
    let refusal = other.judge(&headers[..], time(NOW)).unwrap_err();
    assert_eq!((refusal.status(), refusal.code()), (403, "not_permitted"));
    let challenge = other.challenge(&refusal);
    assert!(challenge.starts_with("Bearer error=\"insufficient_scope\", error_code=\"not_permitted\""));
    assert!(challenge.contains("scope=\"resolve_vulnerability\""), "{challenge}");
}

#[test]
fn a_refusal_says_what_is_wrong_and_which_key_set_runs() {
    let requests = requests();
    let stranger = format!("Bearer {}", KEYS.stranger.mint(&claims()));
    let refusal = requests.judge(&[("authorization", &*stranger)][..], time(NOW)).unwrap_err();
    assert_eq!(
        requests.challenge(&refusal),
        "Bearer error=\"invalid_token\", error_code=\"kid_unknown\", key_set=\"1\", environment=\"example\", \
         audience=\"gitlab-ai-gateway\", error_description=\"the token names a key (`kid`) that this key set does not \
         hold: it is from another environment, forged, or signed by a key newer than this build\""
    );
    let problem: serde_json::Value = serde_json::from_str(&requests.problem(&refusal)).unwrap();
    assert_eq!(problem["code"], "kid_unknown");
    assert_eq!(problem["status"], 401);

    let missing = requests.judge(&[][..], time(NOW)).unwrap_err();
    assert!(requests.challenge(&missing).starts_with("Bearer error_code=\"token_missing\", key_set=\"1\""));

    let strict = RequestVerifier::new(Arc::new(KEYS.live().refusing_when_stale()));
    let stale = strict.judge(&[("authorization", &*bearer())][..], time(NOW)).unwrap_err();
    assert_eq!((stale.status(), stale.reason()), (503, Reason::DenyListStale));
}

/// RFC 9110 §5.5: a header field has visible ASCII; and no refusal repeats what somebody sent.
#[test]
fn every_challenge_is_a_header_that_repeats_nothing_of_the_token() {
    let requests = requests();
    let secret = "attacker-controlled";
    let kid = KEYS.active.kid();
    let long = Claims { exp: NOW + 1_000_000, ..claims() };
    let tokens = [
        secret.to_owned(),
        format!("{secret}.{secret}.{secret}"),
        crate::forge::with_header(
            &KEYS.active,
            &format!(r#"{{"alg":"{secret}","kid":"{kid}","typ":"at+jwt"}}"#),
            "{}",
        ),
        KEYS.active.mint(&Claims { iss: secret.to_owned(), ..claims() }),
        KEYS.active.mint(&Claims { aud: vec![secret.to_owned()], ..claims() }),
        KEYS.active.mint(&long),
    ];
    for token in tokens {
        let value = format!("Bearer {token}");
        let refusal = requests.judge(&[("authorization", &*value)][..], time(NOW)).unwrap_err();
        for said in [requests.challenge(&refusal), requests.problem(&refusal)] {
            assert!(!said.contains(secret), "{said}");
        }
        let challenge = requests.challenge(&refusal);
        assert!(challenge.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{challenge}");
        assert!(!challenge.contains('?'), "{challenge}");
    }
}
