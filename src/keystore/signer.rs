//! Signs access tokens with a key that was prepared once.

use std::fmt;
use std::time::{Duration, SystemTime};

use token_authority_verifier::{Algorithm, Claims, Jwk, KeySet, ProtectedHeader, Typ, Verifier};

use super::KeystoreError;
use super::private_half::{KeyPair, PrivateHalf};
use crate::domain::key_ring::Kid;

/// One key, ready to sign. Everything that is the same for every token is done when it
/// is made: a token costs one buffer and one signature.
pub struct Signer {
    kid: Kid,
    alg: Algorithm,
    pair: KeyPair,
    access_token: ProtectedHeader,
}

impl Signer {
    /// Prepares the key, and proves that it is the one that `kid` names and that our
    /// own verifier accepts what it signs.
    ///
    /// # Errors
    ///
    /// The private half belongs to another key, or the proof fails.
    pub fn new(private_half: &PrivateHalf, kid: Kid) -> Result<Self, KeystoreError> {
        let pair = private_half.prepare()?;
        let public_key = pair.public_key()?;
        if public_key.kid() != kid {
            return Err(KeystoreError::WrongSeed { kid });
        }
        let alg = public_key.algorithm();
        let access_token = ProtectedHeader::new(Typ::AccessToken, alg, kid);
        let signer = Self { kid, alg, pair, access_token };
        signer.prove(public_key)?;
        Ok(signer)
    }

    /// The key that signs.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// An access token (RFC 9068) with this payload, which must be a JSON object.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library, which only an RSA key can have.
    pub fn sign_compact(&self, payload: &[u8]) -> Result<String, KeystoreError> {
        self.sign_input(self.access_token.signing_input(payload))
    }

    /// The same payload for another use than an access token's.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_compact`].
    pub fn sign_as(&self, typ: Typ, payload: &[u8]) -> Result<String, KeystoreError> {
        self.sign_input(ProtectedHeader::new(typ, self.alg, self.kid).signing_input(payload))
    }

    /// Completes the signing input of a document (RFC 7515 §5.1) to a compact JWS.
    ///
    /// # Errors
    ///
    /// As [`Self::sign_compact`].
    pub fn sign_input(&self, input: String) -> Result<String, KeystoreError> {
        self.pair.complete(input)
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
        let token = self.sign_compact(&serde_json::to_vec(&claims).map_err(|_| failed())?)?;
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
    use crate::domain::key_ring::Algorithm as KeyAlgorithm;

    #[test]
    fn a_private_half_of_another_key_is_refused() {
        for alg in [KeyAlgorithm::EdDsa, KeyAlgorithm::Rs256] {
            let [one, other] = [(); 2].map(|()| PrivateHalf::generate(alg).unwrap());
            let refusal = Signer::new(&one, other.public_key().unwrap().kid()).unwrap_err();
            assert!(matches!(refusal, KeystoreError::WrongSeed { .. }));
        }
    }

    #[test]
    fn a_header_names_the_algorithm_of_the_key() {
        for alg in [KeyAlgorithm::EdDsa, KeyAlgorithm::Rs256] {
            let private_half = PrivateHalf::generate(alg).unwrap();
            let signer = Signer::new(&private_half, private_half.public_key().unwrap().kid()).unwrap();
            let token = signer.sign_compact(b"{}").unwrap();
            let header = jsonwebtoken::decode_header(&token).unwrap();
            assert_eq!(format!("{:?}", header.alg).to_uppercase(), alg.as_str().to_uppercase());
            assert_eq!(header.kid, Some(signer.kid().to_string()));
        }
    }
}
