//! Signatures: of others, of other texts, and those that only a lax verifier takes.

use super::{Case, payload};
use crate::fixture::{Keys, claims};
use crate::forge::{
    encode, signature_of, signed_part, with_header, with_mixed_order_r, with_non_canonical_r, with_s_plus_l,
    with_signature, with_small_order_r,
};

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let token = keys.active.mint(&claims());
    let (good, signed) = (signature_of(&token), signed_part(&token));
    let refused = |name: &str, signature: &[u8]| {
        Case::refused(name, with_signature(&token, signature), "signature_invalid")
    };
    let malformed =
        |name: &str, signature: &[u8]| Case::refused(name, with_signature(&token, signature), "malformed");
    let flipped = |index: usize| {
        let mut signature = good;
        signature[index] ^= 1;
        signature
    };
    let halves_swapped: Vec<u8> = [&good[32..], &good[..32]].concat();
    let s_of_order: Vec<u8> = with_s_plus_l([0; 64]).to_vec();
    let kid = keys.active.kid();
    vec![
        refused("the first bit of R flipped", &flipped(0)),
        refused("the last bit of R flipped", &flipped(31)),
        refused("the first bit of S flipped", &flipped(32)),
        refused("S + L in place of S: the same signature in a second form", &with_s_plus_l(good)),
        refused("S = L, R = 0", &s_of_order),
        refused("64 zero bytes", &[0; 64]),
        refused("64 bytes of ones", &[0xff; 64]),
        refused("R and S swapped", &halves_swapped),
        refused("R of small order, where the equation holds", &with_small_order_r(&keys.active, signed)),
        refused("R of small order in a non-canonical encoding", &with_non_canonical_r(&keys.active, signed)),
        refused(
            "R of mixed order, where the equation holds after multiplication by the cofactor",
            &with_mixed_order_r(&keys.active, signed),
        ),
        malformed("63 bytes", &good[..63]),
        malformed("65 bytes", &[good.as_slice(), &[0]].concat()),
        malformed("32 bytes", &good[..32]),
        malformed("256 bytes, as RS256 has", &[7; 256]),
        Case::refused(
            "a stranger's signature under our kid",
            with_header(&keys.stranger, &header(kid), &payload()),
            "signature_invalid",
        ),
        Case::refused(
            "the standby key's signature under the active key's kid",
            with_header(&keys.standby, &header(kid), &payload()),
            "signature_invalid",
        ),
        Case::refused(
            "the active key's signature under the standby key's kid",
            with_header(&keys.active, &header(keys.standby.kid()), &payload()),
            "signature_invalid",
        ),
        Case::refused("a token by a stranger", keys.stranger.mint(&claims()), "kid_unknown"),
        Case::refused(
            "another payload under the signature",
            {
                let richer = payload().replace("complete_code", "resolve_vulnerability");
                let (header, _) = signed.split_once('.').unwrap();
                format!("{header}.{}.{}", encode(richer), encode(good))
            },
            "signature_invalid",
        ),
        Case::refused(
            "another header under the signature",
            {
                let (_, body) = signed.split_once('.').unwrap();
                format!("{}.{body}.{}", encode(format!(" {}", header(kid))), encode(good))
            },
            "signature_invalid",
        ),
        Case::refused(
            "a signature over the payload alone",
            with_signature(&token, keys.active.sign(&payload())),
            "signature_invalid",
        ),
    ]
}

fn header(kid: token_authority_verifier::Kid) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt"}}"#)
}
