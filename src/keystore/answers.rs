//! Seals what is handed out or kept for a while and must come back unaltered: stored answers and page tokens.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::digest_key::DigestKey;
use super::sealing::SealingError;

/// AES-256-GCM under a key that follows from the digest key, so that every replica opens what another sealed.
pub(super) struct AnswerKey(RandomizedNonceKey);

impl AnswerKey {
    /// The key that belongs to a digest key. No credential is digested under this label.
    pub(super) fn of(digest_key: &DigestKey) -> Result<Self, SealingError> {
        let key = Zeroizing::new(digest_key.digest(LABEL, b""));
        RandomizedNonceKey::new(&AES_256_GCM, &*key).map(Self).map_err(|_| SealingError::Failed)
    }

    /// Seals `answer`, bound to what it belongs to.
    pub(super) fn seal(&self, belongs_to: &[u8], answer: &[u8]) -> Result<Vec<u8>, SealingError> {
        // Sized for the tag: growing would leave a copy of the answer behind.
        let mut body = Zeroizing::new(Vec::with_capacity(answer.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(answer);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(belongs_to), &mut *body)
            .map_err(|_| SealingError::Failed)?;
        Ok([nonce.as_ref().as_slice(), &body].concat())
    }

    /// Opens what was sealed for this; `None` for anything else.
    pub(super) fn open(&self, belongs_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_at_checked(AES_256_GCM.nonce_len())?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self.0.open_in_place(nonce, Aad::from(belongs_to), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerKey([redacted])")
    }
}

const LABEL: &str = "answer_key";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> AnswerKey {
        AnswerKey::of(&DigestKey::new(&[byte; 32])).unwrap()
    }

    #[test]
    fn an_answer_opens_on_every_replica_and_for_what_it_belongs_to() {
        let sealed = key(1).seal(b"POST /a", b"answer").unwrap();
        assert_eq!(&**key(1).open(b"POST /a", &sealed).unwrap(), b"answer");
        assert!(key(1).open(b"POST /b", &sealed).is_none());
        assert!(key(2).open(b"POST /a", &sealed).is_none());
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealed = key(1).seal(b"page", b"cursor").unwrap();
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(key(1).open(b"page", &flipped).is_none(), "byte {at}");
            assert!(key(1).open(b"page", &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn its_debug_form_tells_nothing() {
        assert_eq!(format!("{:?}", key(1)), "AnswerKey([redacted])");
    }
}
