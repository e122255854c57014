//! Signs compact JWS (RFC 7515 §7.1) with a key that was prepared once.

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use token_authority_verifier::{Algorithm, ProtectedHeader, Typ, compact};

use super::KeystoreError;
use super::seed::{Seed, public_key_of};
use crate::domain::key_ring::Kid;

/// One Ed25519 key, ready to sign. Everything that is the same for every token is
/// done when it is made: a token costs one buffer and one signature.
pub struct Signer {
    kid: Kid,
    pair: Ed25519KeyPair,
    access_token: ProtectedHeader,
}

impl Signer {
    /// Prepares the key, and proves that it is the one that `kid` names.
    ///
    /// # Errors
    ///
    /// The seed belongs to another key.
    pub fn new(seed: &Seed, kid: Kid) -> Result<Self, KeystoreError> {
        let pair = seed.prepare()?;
        if public_key_of(&pair)?.kid() != kid {
            return Err(KeystoreError::WrongSeed { kid });
        }
        let access_token = ProtectedHeader::new(Typ::AccessToken, Algorithm::EdDsa, kid);
        Ok(Self { kid, pair, access_token })
    }

    /// The key that signs.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// An access token (RFC 9068) with this payload, which must be a JSON object.
    #[must_use]
    pub fn sign_compact(&self, payload: &[u8]) -> String {
        self.sign_under(&self.access_token, payload)
    }

    fn sign_under(&self, header: &ProtectedHeader, payload: &[u8]) -> String {
        let input = header.signing_input(payload);
        let signature = self.pair.sign(input.as_bytes());
        compact(input, signature.as_ref())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).field("pair", &"[redacted]").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_another_key_is_refused() {
        let [seed, other] = [(); 2].map(|()| Seed::generate().unwrap());
        let refusal = Signer::new(&seed, other.public_key().unwrap().kid()).unwrap_err();
        assert!(matches!(refusal, KeystoreError::WrongSeed { .. }));
    }
}
