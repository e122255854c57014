//! The key under which secrets that we hand out are digested.
//!
//! Activation codes, instance secrets and tokens of the admin API are random and long,
//! so a fast keyed hash is right; the key means that a stolen database alone cannot
//! even test a guess.

use std::fmt;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

/// A 256-bit key for HMAC-SHA256. It lives sealed in the database, so that the
/// key-encryption key may change without a credential noticing.
#[derive(Clone)]
pub struct DigestKey(hmac::Key);

impl DigestKey {
    /// Prepares the key.
    #[must_use]
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The digest of a secret of some kind. The same secret as another kind has
    /// another digest, so that a row moved between tables opens nothing.
    #[must_use]
    pub fn digest(&self, kind: &'static str, secret: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(kind.as_bytes());
        // No kind contains it: what is kind and what is secret stays clear.
        mac.update(&[0]);
        mac.update(secret);
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(mac.sign().as_ref());
        digest
    }
}

/// Whether two digests are equal, in a time that does not tell where they differ.
#[must_use]
pub fn digests_match(stored: &[u8], presented: &[u8; DIGEST_BYTES]) -> bool {
    stored.ct_eq(presented).into()
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey([redacted])")
    }
}

/// 256 bits.
pub const KEY_BYTES: usize = 32;
/// The length of every digest.
pub const DIGEST_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_key_kind_and_secret() {
        let digest = DigestKey::new(&[1; 32]).digest("instance_secret", b"s");
        assert_eq!(digest, DigestKey::new(&[1; 32]).digest("instance_secret", b"s"));
        assert_ne!(digest, DigestKey::new(&[2; 32]).digest("instance_secret", b"s"));
        assert_ne!(digest, DigestKey::new(&[1; 32]).digest("activation_code", b"s"));
        assert_ne!(digest, DigestKey::new(&[1; 32]).digest("instance_secre", b"ts"));
        assert!(digests_match(&digest, &digest));
        assert!(!digests_match(&digest[..31], &digest));
    }

    /// Changing what a digest is would lock every instance out.
    #[test]
    fn the_digest_stays_what_it_is() {
        let digest = DigestKey::new(&[0x0b; 32]).digest("activation_code", b"known answer");
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "91f2b63f58173324c762f22cefd62025ff4574eb0f1a3785a78404246e6650b6");
    }

    #[test]
    fn its_debug_form_tells_nothing() {
        assert_eq!(format!("{:?}", DigestKey::new(&[1; 32])), "DigestKey([redacted])");
    }
}
