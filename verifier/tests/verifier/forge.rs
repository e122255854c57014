//! Signatures that only a lax verifier accepts, and headers that no issuer of ours writes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::fixture::Key;

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token whose header is written by hand, correctly signed over it.
pub(crate) fn with_header(key: &Key, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", encode(header), encode(payload));
    format!("{input}.{}", encode(key.sign(&input)))
}

/// `input` with a wrong signature of the right length in place.
pub(crate) fn with_signature(token: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{}.{}", signed_part(token), encode(signature))
}

/// Header and payload.
pub(crate) fn signed_part(token: &str) -> &str {
    token.rsplit_once('.').unwrap().0
}

/// The same for signatures of any length, as RSA's are.
pub(crate) fn signature_of_any_length(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}

pub(crate) fn signature_of(token: &str) -> [u8; 64] {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap().try_into().unwrap()
}

/// The order of the group, L (RFC 8032 §5.1), little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The same signature with S + L in place of S: equal modulo L (RFC 8032 §8.4).
pub(crate) fn with_s_plus_l(mut signature: [u8; 64]) -> [u8; 64] {
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    signature
}

/// A signature whose R is of small order: `[S]B = R + [k]A` holds, and a plain verifier accepts it.
pub(crate) fn with_small_order_r(key: &Key, message: &str) -> [u8; 64] {
    equation(key, message, Scalar::ZERO, EIGHT_TORSION[0].compress().to_bytes())
}

/// The same with R in a non-canonical encoding (y = p + 1 for 1).
pub(crate) fn with_non_canonical_r(key: &Key, message: &str) -> [u8; 64] {
    let mut r = [0xff; 32];
    (r[0], r[31]) = (0xee, 0x7f);
    equation(key, message, Scalar::ZERO, r)
}

/// A signature whose R has a part of small order: only a verifier that multiplies by the cofactor accepts it.
pub(crate) fn with_mixed_order_r(key: &Key, message: &str) -> [u8; 64] {
    let nonce = Scalar::from(7_u8);
    let r: EdwardsPoint = ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[1];
    equation(key, message, nonce, r.compress().to_bytes())
}

fn equation(key: &Key, message: &str, nonce: Scalar, r: [u8; 32]) -> [u8; 64] {
    let expanded: [u8; 64] = Sha512::digest(key.secret.to_bytes()).into();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(expanded[..32].try_into().unwrap()));
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(key.public.ed25519_public().unwrap())
        .chain_update(message);
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let s = nonce + challenge * secret;
    [r, s.to_bytes()].concat().try_into().unwrap()
}

/// HMAC-SHA-256 (RFC 2104), for tokens that take a public key for a shared secret.
pub(crate) fn hmac_sha256(secret: &[u8], message: &str) -> [u8; 32] {
    let mut block = [0; 64];
    if secret.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(secret));
    } else {
        block[..secret.len()].copy_from_slice(secret);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}
