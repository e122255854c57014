//! Signs access tokens with a key that was prepared once.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::Ed25519KeyPair;
use token_authority_verifier::{Algorithm, Claims, Jwk, KeySet, ProtectedHeader, Typ, Verifier, compact};

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
    /// Prepares the key, and proves that it is the one that `kid` names and that our
    /// own verifier accepts what it signs.
    ///
    /// # Errors
    ///
    /// The seed belongs to another key, or the proof fails.
    pub fn new(seed: &Seed, kid: Kid) -> Result<Self, KeystoreError> {
        let pair = seed.prepare()?;
        let public_key = public_key_of(&pair)?;
        if public_key.kid() != kid {
            return Err(KeystoreError::WrongSeed { kid });
        }
        let access_token = ProtectedHeader::new(Typ::AccessToken, Algorithm::EdDsa, kid);
        let signer = Self { kid, pair, access_token };
        signer.prove(public_key)?;
        Ok(signer)
    }

    /// The key that signs.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// An access token (RFC 9068) with this payload, which must be a JSON object.
    #[must_use]
    pub fn sign_compact(&self, payload: &[u8]) -> String {
        self.sign_input(self.access_token.signing_input(payload))
    }

    /// The same payload for another use than an access token's.
    #[must_use]
    pub fn sign_as(&self, typ: Typ, payload: &[u8]) -> String {
        self.sign_input(ProtectedHeader::new(typ, Algorithm::EdDsa, self.kid).signing_input(payload))
    }

    /// Completes the signing input of a document (RFC 7515 §5.1) to a compact JWS.
    #[must_use]
    pub fn sign_input(&self, input: String) -> String {
        let signature = self.pair.sign(input.as_bytes());
        compact(input, signature.as_ref())
    }

    /// Signs a token that lived for a second in 1970 and verifies it then.
    fn prove(&self, public_key: Jwk) -> Result<(), KeystoreError> {
        let claims = Claims {
            iss: SELF_TEST.to_owned(),
            sub: SELF_TEST.to_owned(),
            aud: vec![SELF_TEST.to_owned()],
            iat: 0,
            nbf: 0,
            exp: 1,
            jti: SELF_TEST.to_owned(),
            scopes: vec![],
            gitlab_realm: SELF_TEST.to_owned(),
            gitlab_instance_uid: SELF_TEST.to_owned(),
            duo_seat_count: None,
        };
        let failed = || KeystoreError::SelfTest { kid: self.kid };
        let token = self.sign_compact(&serde_json::to_vec(&claims).map_err(|_| failed())?);
        let keys = KeySet::new([public_key]).map_err(|_| failed())?;
        let verifier = Verifier::from_key_set(&keys, SELF_TEST, SELF_TEST).with_leeway(Duration::ZERO);
        match verifier.verify(&token, SystemTime::UNIX_EPOCH) {
            Ok(verified) if verified == claims => Ok(()),
            _ => Err(failed()),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).field("pair", &"[redacted]").finish()
    }
}

/// Issuer, subject and audience of the token that proves a signer.
const SELF_TEST: &str = "self-test";

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
