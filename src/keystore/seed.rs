//! The private half of an Ed25519 key before it is prepared for signing.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use token_authority_verifier::Jwk;
use zeroize::Zeroizing;

use super::KeystoreError;

/// 256 random bits (RFC 8032 §5.1.5). No `Display`, a redacted `Debug`, wiped when it goes.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; SEED_BYTES]>);

impl Seed {
    /// A fresh seed.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, KeystoreError> {
        super::random_bits().map(Self)
    }

    /// Reads a seed, which has exactly 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|seed| Self(Zeroizing::new(seed)))
    }

    /// The public half, which also names the key.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library.
    pub fn public_key(&self) -> Result<Jwk, KeystoreError> {
        public_key_of(&self.prepare()?)
    }

    pub(super) fn prepare(&self) -> Result<Ed25519KeyPair, KeystoreError> {
        Ed25519KeyPair::from_seed_unchecked(self.expose()).map_err(|_| KeystoreError::Unusable)
    }

    pub(super) fn expose(&self) -> &[u8; SEED_BYTES] {
        &self.0
    }
}

pub(super) fn public_key_of(pair: &Ed25519KeyPair) -> Result<Jwk, KeystoreError> {
    let point = pair.public_key().as_ref().try_into().map_err(|_| KeystoreError::Unusable)?;
    Jwk::from_ed25519_public(point).map_err(|_| KeystoreError::Unusable)
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed([redacted])")
    }
}

const SEED_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.1 to A.3.
    const RFC_SEED: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];

    #[test]
    fn the_known_seed_has_the_known_kid() {
        let kid = Seed::from_bytes(&RFC_SEED).unwrap().public_key().unwrap().kid();
        assert_eq!(kid.to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn two_seeds_differ_and_none_is_printed() {
        let [one, other] = [(); 2].map(|()| Seed::generate().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(format!("{one:?}"), "Seed([redacted])");
        assert!(Seed::from_bytes(&[0; 31]).is_none());
    }
}
