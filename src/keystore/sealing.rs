//! Seals secrets under a key-encryption key that the database never sees.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::domain::sealed::Sealed;

/// What a sealed secret is bound to, so that ciphertexts cannot be swapped between
/// rows: what was sealed as one thing opens as nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    pub environment: &'a str,
    /// What the secret is for: the purpose of a key, or the kind of a secret.
    pub purpose: &'a str,
    /// The kid of a key, or the name and version of a secret.
    pub name: &'a str,
    /// Counts how often this row was sealed.
    pub row_version: i32,
}

/// A key-encryption key: a file today, a KMS or a PKCS#11 token behind the same door.
///
/// It is asked when a key is made and once per key and process when one is loaded,
/// never per token.
pub trait KeyEncryption: fmt::Debug + Send + Sync {
    /// Names the key without telling anything about it. Stored beside what it sealed,
    /// so that a wrong key is told apart from a damaged row.
    fn id(&self) -> &str;

    /// Seals `secret`.
    ///
    /// # Errors
    ///
    /// A fault of the implementation.
    fn seal(&self, secret: &[u8], binding: &Binding<'_>) -> Result<Sealed, SealingError>;

    /// Opens what [`Self::seal`] made with the same binding.
    ///
    /// # Errors
    ///
    /// Another key sealed it; it was altered, or sealed for another row.
    fn open(&self, sealed: &Sealed, binding: &Binding<'_>) -> Result<Zeroizing<Vec<u8>>, SealingError>;
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    #[error("{name} was altered, or sealed for another row")]
    Altered { name: String },
    #[error("the sealing failed")]
    Failed,
    #[error("{name} was sealed under key-encryption key {sealed_by}; the configured one is {configured}")]
    OtherKey { name: String, sealed_by: String, configured: String },
}

/// AES-256-GCM under a key held in memory. Nonces are random: with 96 bits and a few
/// sealings a year no two meet.
pub struct LocalKek {
    id: String,
    key: RandomizedNonceKey,
}

impl LocalKek {
    /// Prepares a key-encryption key of 256 random bits.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library.
    pub fn new(key: &[u8; KEK_BYTES]) -> Result<Self, SealingError> {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), ID_LABEL);
        let id = mac.as_ref()[..ID_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealingError::Failed)?;
        Ok(Self { id, key })
    }
}

impl KeyEncryption for LocalKek {
    fn id(&self) -> &str {
        &self.id
    }

    fn seal(&self, secret: &[u8], binding: &Binding<'_>) -> Result<Sealed, SealingError> {
        // Sized for the tag: growing would leave a copy of the secret behind.
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        body.extend_from_slice(secret);
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(binding.encode()), &mut *body)
            .map_err(|_| SealingError::Failed)?;
        let bytes = [nonce.as_ref().as_slice(), &body].concat();
        Ok(Sealed { sealed_by: self.id.clone(), bytes, row_version: binding.row_version })
    }

    fn open(&self, sealed: &Sealed, binding: &Binding<'_>) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let name = || binding.name.to_owned();
        if sealed.sealed_by != self.id {
            let (sealed_by, configured) = (sealed.sealed_by.clone(), self.id.clone());
            return Err(SealingError::OtherKey { name: name(), sealed_by, configured });
        }
        let altered = || SealingError::Altered { name: name() };
        let (nonce, body) = sealed.bytes.split_at_checked(AES_256_GCM.nonce_len()).ok_or_else(altered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| altered())?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(binding.encode()), &mut body)
            .map_err(|_| altered())?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

impl fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKek").field("id", &self.id).field("key", &"[redacted]").finish()
    }
}

impl Binding<'_> {
    /// Every part with its length before it, so that no two bindings read the same.
    fn encode(&self) -> Vec<u8> {
        let version = self.row_version.to_be_bytes();
        let parts = [
            BINDING_LABEL,
            self.environment.as_bytes(),
            self.purpose.as_bytes(),
            self.name.as_bytes(),
            &version,
        ];
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes(), *part].concat()).collect()
    }
}

/// 256 bits.
pub const KEK_BYTES: usize = 32;
const ID_BYTES: usize = 8;
const ID_LABEL: &[u8] = b"token-authority key-encryption key id";
const BINDING_LABEL: &[u8] = b"token-authority sealed secret 1";

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding<'static> =
        Binding { environment: "production", purpose: "access_token", name: "kid-1", row_version: 1 };

    fn kek(byte: u8) -> LocalKek {
        LocalKek::new(&[byte; KEK_BYTES]).unwrap()
    }

    #[test]
    fn a_secret_opens_for_the_row_it_was_sealed_for() {
        let sealed = kek(1).seal(b"seed", &BINDING).unwrap();
        assert_eq!(&**kek(1).open(&sealed, &BINDING).unwrap(), b"seed");
        assert!(!sealed.bytes.windows(4).any(|window| window == b"seed"));
    }

    #[test]
    fn a_secret_moved_to_another_row_does_not_open() {
        let sealed = kek(1).seal(b"seed", &BINDING).unwrap();
        let moved = [
            Binding { environment: "staging", ..BINDING },
            Binding { purpose: "deny_list", ..BINDING },
            Binding { name: "kid-2", ..BINDING },
            Binding { row_version: 2, ..BINDING },
            Binding { purpose: "access_tokenkid-1", name: "", ..BINDING },
        ];
        for binding in moved {
            assert!(
                matches!(kek(1).open(&sealed, &binding), Err(SealingError::Altered { .. })),
                "{binding:?}"
            );
        }
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let sealed = kek(1).seal(b"seed", &BINDING).unwrap();
        for at in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            let flipped = Sealed { bytes, ..sealed.clone() };
            assert!(kek(1).open(&flipped, &BINDING).is_err(), "byte {at}");
            let cut = Sealed { bytes: sealed.bytes[..at].to_vec(), ..sealed.clone() };
            assert!(kek(1).open(&cut, &BINDING).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_wrong_key_is_told_apart_from_a_damaged_row() {
        let sealed = kek(1).seal(b"seed", &BINDING).unwrap();
        let refusal = kek(2).open(&sealed, &BINDING).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!(
                "kid-1 was sealed under key-encryption key {}; the configured one is {}",
                kek(1).id(),
                kek(2).id()
            )
        );
    }

    #[test]
    fn its_debug_form_tells_nothing() {
        assert_eq!(
            format!("{:?}", kek(7)),
            format!("LocalKek {{ id: {:?}, key: \"[redacted]\" }}", kek(7).id())
        );
    }
}
