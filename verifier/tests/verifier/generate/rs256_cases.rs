//! RS256: its own tokens, and the confusions between its keys, Ed25519's and shared secrets.

use token_authority_verifier::KeySet;

use super::{Case, payload};
use crate::fixture::{Keys, claims};
use crate::forge::{encode, hmac_sha256, signature_of_any_length, signed_part, with_header, with_signature};
use crate::rsa::RsaKey;

/// Two keys of each algorithm, as a deployment has them while some of its backends know RS256 only.
pub(crate) fn key_set(keys: &Keys) -> KeySet {
    let rsa = [RsaKey::active().public, RsaKey::standby().public];
    KeySet::new(rsa.into_iter().chain([keys.active.public.clone(), keys.standby.public.clone()])).unwrap()
}

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let (key, standby, stranger) = (RsaKey::active(), RsaKey::standby(), RsaKey::stranger());
    let good = key.token(&payload());
    let signature = signature_of_any_length(&good);
    let signed = |signature: &[u8]| with_signature(&good, signature);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut signature = signature.clone();
        change(&mut signature);
        signed(&signature)
    };
    let flipped = |index: usize, bit: u8| changed(&|signature| signature[index] ^= bit);
    let refused = |name: &str, token: String, code: &str| Case::refused(name, token, code);
    let mut cases = vec![
        Case::accepted("a good token by RSA", good.clone(), claims()),
        Case::accepted("a good token by the other RSA key", standby.token(&payload()), claims()),
        Case::accepted("a good token by Ed25519 in the same set", keys.active.token(&payload()), claims()),
        refused("a stranger's token", stranger.token(&payload()), "kid_unknown"),
        refused(
            "the other key's signature",
            signed(&standby_signature(&standby, &good)),
            "signature_invalid",
        ),
        refused("the first bit flipped", flipped(0, 0x80), "signature_invalid"),
        refused("the last bit flipped", flipped(255, 0x01), "signature_invalid"),
        refused("no signature", signed(&[]), "signature_invalid"),
        refused("a zero in front", changed(&|signature| signature.insert(0, 0)), "signature_invalid"),
        refused("a zero behind", changed(&|signature| signature.push(0)), "signature_invalid"),
        refused("a byte short", changed(&|signature| signature.truncate(255)), "signature_invalid"),
        refused("256 zeros", signed(&[0; 256]), "signature_invalid"),
        refused("the number one", signed(&[&[0; 255][..], &[1]].concat()), "signature_invalid"),
        refused("the modulus itself", signed(key.public.rsa_modulus().unwrap()), "signature_invalid"),
        refused("64 bytes, as Ed25519 has", signed(&[7; 64]), "signature_invalid"),
        refused("another payload", other_payload(&good), "signature_invalid"),
        refused("alg in another case", key.token_as("rs256", &payload()), "alg_mismatch"),
        refused("alg RS384, signed so", key.token_as("RS384", &payload()), "alg_mismatch"),
        refused("alg RS512, signed so", key.token_as("RS512", &payload()), "alg_mismatch"),
        refused("alg PS256 over a signature of RS256", key.token_as("PS256", &payload()), "alg_mismatch"),
        refused("alg EdDSA for an RSA key", key.token_as("EdDSA", &payload()), "alg_mismatch"),
        refused("alg none for an RSA key", unsigned(&key), "alg_mismatch"),
        refused("alg RS256 for an Ed25519 key", rs256_by_ed25519(keys), "alg_mismatch"),
        refused(
            "an Ed25519 signature under an RSA key's kid",
            ed25519_under_rsa(keys, &key),
            "signature_invalid",
        ),
    ];
    let secrets: [(&str, Vec<u8>); 4] = [
        ("the public key in PEM", key.pem().into_bytes()),
        ("the modulus", key.public.rsa_modulus().unwrap().to_vec()),
        ("the JWK", key.public.to_canonical_json().into_bytes()),
        ("the key set", key_set(keys).to_canonical_json().into_bytes()),
    ];
    for (name, secret) in secrets {
        let header = format!(r#"{{"alg":"HS256","kid":"{}","typ":"at+jwt"}}"#, key.public.kid());
        let input = format!("{}.{}", encode(header), encode(payload()));
        let token = format!("{input}.{}", encode(hmac_sha256(&secret, &input)));
        cases.push(Case::refused(&format!("alg HS256, keyed with {name}"), token, "alg_mismatch"));
    }
    cases.into_iter().map(|case| case.by("key_set")).collect()
}

fn standby_signature(standby: &RsaKey, token: &str) -> Vec<u8> {
    standby.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, signed_part(token))
}

fn other_payload(token: &str) -> String {
    let payload = payload().replace("duo_chat", "ask_epic");
    let parts: Vec<&str> = token.split('.').collect();
    format!("{}.{}.{}", parts[0], encode(payload), parts[2])
}

fn unsigned(key: &RsaKey) -> String {
    let header = format!(r#"{{"alg":"none","kid":"{}","typ":"at+jwt"}}"#, key.public.kid());
    format!("{}.{}.", encode(header), encode(payload()))
}

/// Signed with Ed25519, but said to be RS256.
fn rs256_by_ed25519(keys: &Keys) -> String {
    let header = format!(r#"{{"alg":"RS256","kid":"{}","typ":"at+jwt"}}"#, keys.active.kid());
    with_header(&keys.active, &header, &payload())
}

/// A header that fits the RSA key, over which an Ed25519 key of the same set has signed.
fn ed25519_under_rsa(keys: &Keys, key: &RsaKey) -> String {
    let header = format!(r#"{{"alg":"RS256","kid":"{}","typ":"at+jwt"}}"#, key.public.kid());
    with_header(&keys.active, &header, &payload())
}
