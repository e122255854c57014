//! What holds for every token, tried on many.

use std::sync::LazyLock;

use proptest::prelude::*;
use token_authority_verifier::{Claims, Verifier, VerifyError};

use crate::fixture::{AUDIENCE, ISSUER, Keys, NOW, claims, time};

/// Made once: the cases are many, and making keys takes longer than using them.
static KEYS: LazyLock<Keys> = LazyLock::new(Keys::new);
static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::from_key_set(&KEYS.key_set(), ISSUER, AUDIENCE));

/// Claims that the issuer may mint, and that are valid at [`NOW`].
fn mintable() -> impl Strategy<Value = Claims> {
    let audiences = proptest::collection::vec("[a-z\\-]{1,20}", 0..3);
    let scopes = proptest::collection::vec("[a-z_]{1,30}", 0..40);
    (audiences, scopes, "\\PC{0,40}", 0..28_800_i64, 1..=259_200_i64, proptest::option::of(0..100_000_u32))
        .prop_map(|(mut aud, scopes, sub, age, life, seats)| {
            aud.push(AUDIENCE.to_owned());
            let iat = NOW - age.min(life - 1);
            let duo_seat_count = seats.map(|seats| seats.to_string());
            Claims { sub, aud, iat, nbf: iat - 5, exp: iat + life, scopes, duo_seat_count, ..claims() }
        })
}

proptest! {
    #[test]
    fn what_we_mint_is_accepted_and_says_what_was_minted(claims in mintable()) {
        for key in [&KEYS.active, &KEYS.standby] {
            let accepted = VERIFIER.verify(&key.mint(&claims), time(NOW));
            prop_assert_eq!(accepted.as_ref(), Ok(&claims));
        }
    }

    #[test]
    fn every_single_changed_byte_is_refused(
        place in any::<proptest::sample::Index>(),
        byte in 0_u8..128,
    ) {
        let mut token = KEYS.active.mint(&claims()).into_bytes();
        let place = place.index(token.len());
        prop_assume!(token[place] != byte);
        token[place] = byte;
        let token = String::from_utf8(token).unwrap();
        prop_assert!(VERIFIER.verify(&token, time(NOW)).is_err());
    }

    #[test]
    fn every_cut_or_lengthened_token_is_refused(cut in 1..400_usize, tail in "[A-Za-z0-9_.=-]{1,4}") {
        let token = KEYS.active.mint(&claims());
        let cut = token[..token.len() - cut.min(token.len())].to_owned();
        let (before, behind) = (format!("{tail}{token}"), format!("{token}{tail}"));
        for altered in [cut, before, behind] {
            prop_assert!(VERIFIER.verify(&altered, time(NOW)).is_err());
        }
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text in "\\PC{0,200}", now in any::<u32>()) {
        prop_assert!(VERIFIER.verify(&text, time(now.into())).is_err());
    }

    #[test]
    fn no_signed_payload_makes_it_panic(payload in "\\PC{0,200}", now in any::<u32>()) {
        let refused = VERIFIER.verify(&KEYS.active.token(&payload), time(now.into()));
        prop_assert_eq!(refused.unwrap_err().code(), "malformed");
    }

    #[test]
    fn any_times_are_judged_without_overflow(iat: i64, nbf: i64, exp: i64) {
        let extreme = Claims { iat, nbf, exp, ..claims() };
        let verdict = VERIFIER.verify(&KEYS.active.mint(&extreme), time(NOW));
        let (iat, nbf, exp, now) = (i128::from(iat), i128::from(nbf), i128::from(exp), i128::from(NOW));
        let good = exp - iat <= 259_200 && iat <= now + 30 && nbf <= now + 30 && now < exp + 30;
        prop_assert_eq!(verdict.is_ok(), good);
    }
}

#[test]
fn every_bit_of_a_token_counts() {
    let token = KEYS.active.mint(&claims());
    for place in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let altered = String::from_utf8(bytes).unwrap();
            assert!(VERIFIER.verify(&altered, time(NOW)).is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn a_refusal_repeats_nothing_of_the_token() {
    let secret = "attacker-controlled-text";
    let header = |json: String| crate::forge::with_header(&KEYS.active, &json, "{}");
    let payload = |name: &str| {
        let mut value = serde_json::to_value(claims()).unwrap();
        value[name] = serde_json::json!({secret: secret});
        KEYS.active.token(&value.to_string())
    };
    let kid = KEYS.active.kid();
    let mut refusals: Vec<VerifyError> = Vec::new();
    for token in [
        secret.to_owned(),
        format!("{secret}.{secret}.{secret}"),
        header(format!(r#"{{"alg":"{secret}","kid":"{kid}","typ":"at+jwt"}}"#)),
        header(format!(r#"{{"alg":"EdDSA","kid":"{secret}","typ":"at+jwt"}}"#)),
        header(format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{secret}"}}"#)),
        header(format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt","crit":["{secret}"]}}"#)),
        payload("iss"),
        payload("aud"),
        payload("exp"),
        payload("scopes"),
        KEYS.active.mint(&Claims { iss: secret.to_owned(), ..claims() }),
        KEYS.active.mint(&Claims { aud: vec![secret.to_owned()], ..claims() }),
    ] {
        refusals.push(VERIFIER.verify(&token, time(NOW)).unwrap_err());
    }
    for refusal in refusals {
        let said = format!("{refusal} {refusal:?} {}", refusal.code());
        assert!(!said.contains("attacker"), "{said}");
    }
}

/// Parsers differ in how deep they go, so this is no vector: it must only not exhaust the stack.
#[test]
fn deep_nesting_is_harmless() {
    for (open, close) in [("[", "]"), (r#"{"x":"#, "}")] {
        let nested = format!("{}1{}", open.repeat(900), close.repeat(900));
        let header =
            format!(r#"{{"x":{nested},"alg":"EdDSA","kid":"{}","typ":"at+jwt"}}"#, KEYS.active.kid());
        let payload = serde_json::to_string(&claims()).unwrap();
        for token in [
            crate::forge::with_header(&KEYS.active, &header, &payload),
            KEYS.active.token(&payload.replacen('{', &format!(r#"{{"x":{nested},"#), 1)),
            KEYS.active.token(&nested),
        ] {
            let _ = VERIFIER.clone().with_max_token_bytes(1 << 16).verify(&token, time(NOW));
        }
    }
}
