//! Signs compact JWS (RFC 7515 §7.1) with a key that was prepared once.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::KeystoreError;
use super::seed::Seed;
use crate::domain::key_ring::Kid;

/// One Ed25519 key, ready to sign. Everything that is the same for every token is
/// done when it is made: a token costs one buffer and one signature.
pub struct Signer {
    kid: Kid,
    pair: Ed25519KeyPair,
    /// The encoded header of an access token, and the dot after it.
    access_token_header: String,
}

impl Signer {
    /// Prepares the key, and proves that it is the one that `kid` names.
    ///
    /// # Errors
    ///
    /// The seed belongs to another key.
    pub fn new(seed: &Seed, kid: Kid) -> Result<Self, KeystoreError> {
        let pair = seed.prepare()?;
        let derived = pair.public_key().as_ref().try_into().ok().map(Kid::of_ed25519);
        if derived != Some(kid) {
            return Err(KeystoreError::WrongSeed { kid });
        }
        let signer = Self { kid, pair, access_token_header: header("at+jwt", kid) };
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
        self.sign_under(&self.access_token_header, payload)
    }

    /// The same for another `typ`, such as a probe's or a deny list's.
    #[must_use]
    pub fn sign_as(&self, typ: &str, payload: &[u8]) -> String {
        self.sign_under(&header(typ, self.kid), payload)
    }

    fn sign_under(&self, header: &str, payload: &[u8]) -> String {
        let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + SIGNATURE_CHARS + 4);
        token.push_str(header);
        BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).field("pair", &"[redacted]").finish()
    }
}

fn header(typ: &str, kid: Kid) -> String {
    let mut header =
        BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#));
    header.push('.');
    header
}

/// 64 bytes in base64url.
const SIGNATURE_CHARS: usize = 86;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_of_another_key_is_refused() {
        let [seed, other] = [(); 2].map(|()| Seed::generate().unwrap());
        let refusal = Signer::new(&seed, other.kid().unwrap()).unwrap_err();
        assert!(matches!(refusal, KeystoreError::WrongSeed { .. }));
    }

    #[test]
    fn the_buffer_is_never_grown() {
        let seed = Seed::generate().unwrap();
        let signer = Signer::new(&seed, seed.kid().unwrap()).unwrap();
        for length in 0..100 {
            let token = signer.sign_compact(&vec![b'x'; length]);
            assert!(
                token.capacity() <= signer.access_token_header.len() + length * 4 / 3 + SIGNATURE_CHARS + 4
            );
        }
    }
}
