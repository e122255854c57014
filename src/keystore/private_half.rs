//! The private half of a signing key of either algorithm: made, sealed, prepared for signing.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use token_authority_verifier::{Jwk, compact};
use zeroize::Zeroizing;

use super::KeystoreError;
use super::seed::{Seed, public_key_of};
use crate::domain::key_ring::Algorithm;

/// What is sealed: a seed of 32 bytes, or an RSA key as PKCS#8. No `Display`, a redacted
/// `Debug`, wiped when it goes.
#[derive(Clone)]
pub enum PrivateHalf {
    Ed25519(Seed),
    Rsa(Zeroizing<Vec<u8>>),
}

/// A private half, prepared once.
pub(super) enum KeyPair {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl PrivateHalf {
    /// A fresh one: an Ed25519 seed, or an RSA key of 2048 bits. The latter takes a
    /// noticeable part of a second.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate(alg: Algorithm) -> Result<Self, KeystoreError> {
        match alg {
            Algorithm::EdDsa => Seed::generate().map(Self::Ed25519),
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeystoreError::NoRandomness)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeystoreError::Unusable)?;
                Ok(Self::Rsa(Zeroizing::new(der.as_ref().to_vec())))
            }
        }
    }

    /// Reads what `expose` gave. `None` where it is none of that algorithm.
    #[must_use]
    pub fn from_bytes(alg: Algorithm, bytes: &[u8]) -> Option<Self> {
        match alg {
            Algorithm::EdDsa => Seed::from_bytes(bytes).map(Self::Ed25519),
            Algorithm::Rs256 => {
                RsaKeyPair::from_pkcs8(bytes).ok()?;
                Some(Self::Rsa(Zeroizing::new(bytes.to_vec())))
            }
        }
    }

    /// The public half, which also names the key.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library.
    pub fn public_key(&self) -> Result<Jwk, KeystoreError> {
        self.prepare()?.public_key()
    }

    /// The bytes that are sealed.
    pub(super) fn expose(&self) -> &[u8] {
        match self {
            Self::Ed25519(seed) => seed.expose(),
            Self::Rsa(pkcs8) => pkcs8,
        }
    }

    pub(super) fn prepare(&self) -> Result<KeyPair, KeystoreError> {
        match self {
            Self::Ed25519(seed) => seed.prepare().map(KeyPair::Ed25519),
            Self::Rsa(pkcs8) => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| KeystoreError::Unusable)?;
                Ok(KeyPair::Rsa(Box::new(pair)))
            }
        }
    }
}

impl KeyPair {
    pub(super) fn public_key(&self) -> Result<Jwk, KeystoreError> {
        match self {
            Self::Ed25519(pair) => public_key_of(pair),
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                Jwk::from_rsa_public(n, e).map_err(|_| KeystoreError::Unusable)
            }
        }
    }

    /// Completes a signing input to a compact JWS.
    ///
    /// # Errors
    /// A fault of the cryptographic library, which only an RSA key can have.
    pub(super) fn complete(&self, input: String) -> Result<String, KeystoreError> {
        match self {
            Self::Ed25519(pair) => {
                let signature = pair.sign(input.as_bytes());
                Ok(compact(input, signature.as_ref()))
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
                    .map_err(|_| KeystoreError::Unusable)?;
                Ok(compact(input, &signature))
            }
        }
    }
}

impl fmt::Debug for PrivateHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateHalf([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exposed_for_sealing_reads_back_as_its_own_algorithm_only() {
        for (alg, other) in [(Algorithm::EdDsa, Algorithm::Rs256), (Algorithm::Rs256, Algorithm::EdDsa)] {
            let made = PrivateHalf::generate(alg).unwrap();
            let read = PrivateHalf::from_bytes(alg, made.expose()).unwrap();
            assert_eq!(read.public_key().unwrap(), made.public_key().unwrap());
            assert_eq!(made.public_key().unwrap().algorithm(), alg.into());
            assert!(PrivateHalf::from_bytes(other, made.expose()).is_none());
            assert_eq!(format!("{made:?}"), "PrivateHalf([redacted])");
        }
    }
}
