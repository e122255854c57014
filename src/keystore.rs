//! Private halves: sealed at rest, prepared once for signing.

mod answers;
pub mod digest_key;
pub mod kek_file;
mod private_half;
pub mod root_key;
pub mod sealing;
pub mod seed;
mod signer;
mod write_once;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use token_authority_verifier::Jwk;
use zeroize::Zeroizing;

pub use self::private_half::PrivateHalf;
pub use self::signer::Signer;
pub(crate) use self::write_once::{replace, write_once};

use self::answers::AnswerKey;
use self::digest_key::{DIGEST_BYTES, DigestKey, KEY_BYTES};
use self::sealing::{Binding, KeyEncryption, SealingError};
use crate::domain::credential::Credential;
use crate::domain::ids::WebhookId;
use crate::domain::key_ring::{Algorithm, Kid, Purpose};
use crate::domain::sealed::{Sealed, SealedKey, SealedSecret, SecretName};
use crate::domain::webhook::WebhookSecret;

/// Opens and uses what is sealed. Which key signs is never decided here: the caches
/// remember only bytes that cannot change.
#[derive(Debug)]
pub struct Keystore {
    kek: Arc<dyn KeyEncryption>,
    environment: String,
    digest_key: DigestKey,
    answers: AnswerKey,
    signers: RwLock<HashMap<String, Arc<Signer>>>,
}

impl Keystore {
    /// The keystore of a deployment, whose sealed digest key is opened at once: a
    /// wrong key-encryption key shows at the start, not at the first request.
    ///
    /// # Errors
    ///
    /// The digest key does not open.
    pub fn open(kek: Arc<dyn KeyEncryption>, digest_key: &SealedSecret) -> Result<Self, KeystoreError> {
        let environment = digest_key.environment.clone();
        let digest_key = open_digest_key(&*kek, digest_key)?;
        let answers = AnswerKey::of(&digest_key)?;
        Ok(Self { kek, environment, digest_key, answers, signers: RwLock::default() })
    }

    /// The digest under which a credential is stored and found.
    #[must_use]
    pub fn digest(&self, credential: &Credential) -> [u8; DIGEST_BYTES] {
        self.digest_key.digest(credential.kind().digest_label(), credential.expose().as_bytes())
    }

    /// Seals an answer that may hold a secret, bound to what it belongs to.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library.
    pub fn seal_answer(&self, belongs_to: &[u8], answer: &[u8]) -> Result<Vec<u8>, KeystoreError> {
        Ok(self.answers.seal(belongs_to, answer)?)
    }

    /// Opens what [`Self::seal_answer`] sealed for the same; `None` for anything else.
    #[must_use]
    pub fn open_answer(&self, belongs_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.answers.open(belongs_to, sealed)
    }

    /// The prepared signer of a key, where it was unsealed before.
    #[must_use]
    pub fn signer(&self, kid: &str) -> Option<Arc<Signer>> {
        self.signers.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned()
    }

    /// Opens the private half of an access-token key, proves that it is the one that its
    /// kid names, and remembers the signer.
    ///
    /// # Errors
    ///
    /// The private half does not open, or belongs to another key; the key has another purpose.
    pub fn unseal_signer(&self, key: &SealedKey) -> Result<Arc<Signer>, KeystoreError> {
        if key.purpose != Purpose::AccessTokens {
            return Err(KeystoreError::Unusable);
        }
        let signer = Arc::new(unseal_signer(&*self.kek, key)?);
        self.signers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.kid.to_string(), Arc::clone(&signer));
        Ok(signer)
    }

    /// Opens a private half, proves that it is the one that its kid names and that it signs, and wipes it again.
    ///
    /// # Errors
    ///
    /// The private half does not open, or belongs to another key.
    pub fn prove(&self, key: &SealedKey) -> Result<(), KeystoreError> {
        unseal_signer(&*self.kek, key).map(drop)
    }

    /// Seals what signs the deliveries to a webhook, bound to it and to the version of its secret.
    ///
    /// # Errors
    ///
    /// A fault of the key encryption.
    pub fn seal_webhook_secret(
        &self,
        webhook: WebhookId,
        secret: &WebhookSecret,
        version: i32,
    ) -> Result<Sealed, KeystoreError> {
        let name = webhook.to_string();
        Ok(self.kek.seal(secret.expose(), &self.webhook_binding(&name, version))?)
    }

    /// Opens what [`Self::seal_webhook_secret`] sealed for the same webhook.
    ///
    /// # Errors
    ///
    /// Another key sealed it; it was altered, or belongs to another webhook.
    pub fn open_webhook_secret(
        &self,
        webhook: WebhookId,
        sealed: &Sealed,
    ) -> Result<WebhookSecret, KeystoreError> {
        let name = webhook.to_string();
        let secret = self.kek.open(sealed, &self.webhook_binding(&name, sealed.row_version))?;
        Ok(WebhookSecret::from_bytes(&secret))
    }

    fn webhook_binding<'a>(&'a self, name: &'a str, row_version: i32) -> Binding<'a> {
        Binding { environment: &self.environment, purpose: WEBHOOK_SECRET, name, row_version }
    }

    /// Forgets, and thereby wipes, every signer but those of `kids`.
    pub fn keep_only(&self, kids: &HashSet<String>) {
        self.signers.write().unwrap_or_else(PoisonError::into_inner).retain(|kid, _| kids.contains(kid));
    }

    /// What seals.
    #[must_use]
    pub fn key_encryption(&self) -> &Arc<dyn KeyEncryption> {
        &self.kek
    }
}

/// A key that was just made: its names, and its private half already sealed.
#[derive(Clone, Debug)]
pub struct FreshKey {
    pub key: SealedKey,
    pub public_key: Jwk,
}

/// Makes a key of an algorithm, seals its private half, and proves that what was sealed
/// opens and signs.
///
/// # Errors
///
/// No randomness, or a fault of the key encryption.
pub fn generate_key(
    kek: &dyn KeyEncryption,
    environment: &str,
    purpose: Purpose,
    alg: Algorithm,
) -> Result<FreshKey, KeystoreError> {
    let private_half = PrivateHalf::generate(alg)?;
    let public_key = private_half.public_key()?;
    let kid = public_key.kid();
    let private_half =
        kek.seal(private_half.expose(), &binding(environment, purpose, &kid.to_string(), FIRST_SEALING))?;
    let key = SealedKey { kid, environment: environment.to_owned(), purpose, alg, private_half };
    unseal_signer(kek, &key)?;
    Ok(FreshKey { key, public_key })
}

/// Opens the private half of a key of this purpose, for one use: nothing remembers it.
///
/// # Errors
///
/// The private half does not open, or belongs to another key; the key has another purpose.
pub fn open_signer(
    kek: &dyn KeyEncryption,
    key: &SealedKey,
    purpose: Purpose,
) -> Result<Signer, KeystoreError> {
    if key.purpose != purpose {
        return Err(KeystoreError::Unusable);
    }
    unseal_signer(kek, key)
}

/// Makes the key under which credentials are digested.
///
/// # Errors
///
/// No randomness, or a fault of the key encryption.
pub fn generate_digest_key(
    kek: &dyn KeyEncryption,
    environment: &str,
) -> Result<SealedSecret, KeystoreError> {
    generate_digest_key_version(kek, environment, 1)
}

/// Makes another one in its place: whatever was digested under the one before opens nothing any more.
///
/// # Errors
///
/// No randomness, or a fault of the key encryption.
pub fn generate_digest_key_version(
    kek: &dyn KeyEncryption,
    environment: &str,
    version: i32,
) -> Result<SealedSecret, KeystoreError> {
    let key = random_bits()?;
    let secret = kek.seal(&*key, &secret_binding(environment, &secret_name(version), FIRST_SEALING))?;
    Ok(SealedSecret { environment: environment.to_owned(), name: SecretName::DigestKey, version, secret })
}

/// 256 random bits.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn random_bits() -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let mut bits = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bits).map_err(|_| KeystoreError::NoRandomness)?;
    Ok(bits)
}

fn unseal_signer(kek: &dyn KeyEncryption, key: &SealedKey) -> Result<Signer, KeystoreError> {
    let Sealed { row_version, .. } = key.private_half;
    let kid = key.kid.to_string();
    let opened = kek.open(&key.private_half, &binding(&key.environment, key.purpose, &kid, row_version))?;
    let wrong = KeystoreError::WrongSeed { kid: key.kid };
    let private_half = PrivateHalf::from_bytes(key.alg, &opened).ok_or(wrong)?;
    Signer::new(&private_half, key.kid)
}

fn open_digest_key(kek: &dyn KeyEncryption, sealed: &SealedSecret) -> Result<DigestKey, KeystoreError> {
    let name = secret_name(sealed.version);
    let bits =
        kek.open(&sealed.secret, &secret_binding(&sealed.environment, &name, sealed.secret.row_version))?;
    let bits: Zeroizing<[u8; KEY_BYTES]> =
        bits.as_slice().try_into().map(Zeroizing::new).map_err(|_| SealingError::Altered { name })?;
    Ok(DigestKey::new(&bits))
}

fn binding<'a>(environment: &'a str, purpose: Purpose, kid: &'a str, row_version: i32) -> Binding<'a> {
    Binding { environment, purpose: purpose.name(), name: kid, row_version }
}

fn secret_binding<'a>(environment: &'a str, name: &'a str, row_version: i32) -> Binding<'a> {
    Binding { environment, purpose: SecretName::DigestKey.as_str(), name, row_version }
}

fn secret_name(version: i32) -> String {
    format!("{}/{version}", SecretName::DigestKey.as_str())
}

const FIRST_SEALING: i32 = 1;
const WEBHOOK_SECRET: &str = "webhook_secret";

/// Why a key cannot be used. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error("the key has no private half any more")]
    NoPrivateHalf,
    #[error("the system has no randomness to give")]
    NoRandomness,
    #[error(transparent)]
    Sealing(#[from] SealingError),
    #[error("our own verifier does not accept what {kid} signs")]
    SelfTest { kid: Kid },
    #[error("the key cannot be used for signing here")]
    Unusable,
    #[error("the private half that is stored for {kid} belongs to another key")]
    WrongSeed { kid: Kid },
}

#[cfg(test)]
mod tests {
    use super::sealing::LocalKek;
    use super::*;
    use crate::keystore::seed::Seed;

    fn kek() -> Arc<dyn KeyEncryption> {
        Arc::new(LocalKek::new(&[7; 32]).unwrap())
    }

    fn keystore() -> Keystore {
        Keystore::open(kek(), &generate_digest_key(&*kek(), "development").unwrap()).unwrap()
    }

    fn fresh() -> SealedKey {
        generate_key(&*kek(), "development", Purpose::AccessTokens, Algorithm::EdDsa).unwrap().key
    }

    #[test]
    fn a_signer_is_unsealed_once_and_then_remembered() {
        let (keystore, key) = (keystore(), fresh());
        let kid = key.kid.to_string();
        assert!(keystore.signer(&kid).is_none());
        let signer = keystore.unseal_signer(&key).unwrap();
        assert!(Arc::ptr_eq(&signer, &keystore.signer(&kid).unwrap()));
        keystore.keep_only(&HashSet::new());
        assert!(keystore.signer(&kid).is_none());
    }

    #[test]
    fn private_halves_swapped_between_rows_do_not_open() {
        let (one, other) = (fresh(), fresh());
        let swapped = SealedKey { private_half: other.private_half, ..one };
        let refusal = keystore().unseal_signer(&swapped).unwrap_err();
        assert!(matches!(refusal, KeystoreError::Sealing(SealingError::Altered { .. })), "{refusal}");
    }

    #[test]
    fn a_private_half_of_another_key_is_refused_even_if_it_was_sealed_for_this_one() {
        let (one, seed) = (fresh(), Seed::generate().unwrap());
        let kid = one.kid.to_string();
        let private_half = kek()
            .seal(seed.expose(), &binding("development", Purpose::AccessTokens, &kid, FIRST_SEALING))
            .unwrap();
        let refusal = keystore().unseal_signer(&SealedKey { private_half, ..one }).unwrap_err();
        assert!(matches!(refusal, KeystoreError::WrongSeed { .. }), "{refusal}");
    }

    #[test]
    fn the_wrong_key_encryption_key_shows_at_the_start() {
        let digest_key = generate_digest_key(&*kek(), "development").unwrap();
        let other = Arc::new(LocalKek::new(&[8; 32]).unwrap());
        assert!(Keystore::open(other, &digest_key).is_err());
    }

    #[test]
    fn a_webhook_secret_opens_for_its_own_webhook_only() {
        let (keystore, secret) = (keystore(), WebhookSecret::from_bytes(&[1; 32]));
        let [one, other] = [1, 2].map(|number| WebhookId::from(uuid::Uuid::from_u128(number)));
        let sealed = keystore.seal_webhook_secret(one, &secret, 1).unwrap();
        assert_eq!(keystore.open_webhook_secret(one, &sealed).unwrap().expose(), secret.expose());
        assert!(keystore.open_webhook_secret(other, &sealed).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keystore = keystore();
        keystore.unseal_signer(&fresh()).unwrap();
        let printed = format!("{keystore:?}");
        assert_eq!(printed.matches("[redacted]").count(), 4, "{printed}");
    }
}
