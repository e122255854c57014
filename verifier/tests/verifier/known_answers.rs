//! The examples of RFC 8037, Appendix A.

use ed25519_dalek::SigningKey;
use token_authority_verifier::Jwk;

use crate::fixture::Key;
use crate::forge::encode;

/// A.1: the private half of the examples' key.
const D: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
    0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

#[test]
fn the_key_and_its_thumbprint_are_those_of_a_1_to_a_3() {
    let key = Key::from_seed(D);
    assert_eq!(encode(key.public.ed25519_public().unwrap()), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(key.kid().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_signature_is_that_of_a_4_and_a_5() {
    let input = format!("{}.{}", encode(r#"{"alg":"EdDSA"}"#), encode("Example of Ed25519 signing"));
    assert_eq!(input, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
    assert_eq!(
        encode(Key::from_seed(D).sign(&input)),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn a_private_half_in_a_published_key_is_refused() {
    let json = format!(
        r#"{{"kty":"OKP","crv":"Ed25519","d":"{}","x":"{}"}}"#,
        encode(D),
        encode(SigningKey::from_bytes(&D).verifying_key().as_bytes())
    );
    assert!(Jwk::from_json(json.as_bytes()).is_err());
}
