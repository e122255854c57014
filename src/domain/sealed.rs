//! Secrets at rest, and what each is bound to. Only the keystore can open them.

use super::key_ring::{Algorithm, Kid, Purpose};

/// A secret at rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sealed {
    /// Names the key-encryption key.
    pub sealed_by: String,
    /// Nonce, ciphertext and tag, in the sealing implementation's own layout.
    pub bytes: Vec<u8>,
    /// Counts how often the secret was sealed; part of what it is bound to, so that
    /// an older ciphertext does not pass for the present one.
    pub row_version: i32,
}

/// A signing key with its private half, as it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedKey {
    pub kid: Kid,
    pub environment: String,
    pub purpose: Purpose,
    pub alg: Algorithm,
    pub private_half: Sealed,
}

/// A secret of the service itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSecret {
    pub environment: String,
    pub name: SecretName,
    /// A secret is replaced by its next version.
    pub version: i32,
    pub secret: Sealed,
}

/// What the service keeps secret, signing keys apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretName {
    /// The key under which credentials are digested.
    DigestKey,
}

impl SecretName {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DigestKey => "digest_key",
        }
    }
}
