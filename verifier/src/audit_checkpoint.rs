//! The audit checkpoint: the issuer's signed word on how far its audit went, kept where its database cannot reach.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::issued_document::{DocumentKind, Opened, Refusal};
use crate::jws::Typ;
use crate::kid::Kid;
use crate::manifest::{Manifest, Purpose};
use crate::signed::Verified;
use crate::timestamp::Timestamp;

/// The audit up to one event: the payload of a compact JWS (RFC 7515 §7.1) with `typ` `audit-checkpoint+jws`,
/// signed by a key of the purpose `audit_checkpoints` in the environment's key set.
///
/// Each event's digest covers the one before it, so this one digest stands for every event up to `sequence`: a
/// database that cannot show it has lost or altered something, or is an older copy of itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCheckpoint {
    /// The issuer (`iss`) of the tokens.
    pub issuer: String,
    /// The environment.
    pub environment: String,
    /// The number of the last event; 0 when there was none yet.
    pub sequence: u64,
    /// The digest of that event; 32 zero bytes when there was none yet.
    pub digest: Digest,
    /// When it was signed.
    pub created: Timestamp,
}

/// Why an audit checkpoint was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditCheckpointError {
    /// It is of another issuer or environment.
    #[error("the checkpoint is another issuer's or environment's")]
    Foreign,
    /// The protected header is not exactly the one that checkpoints have.
    #[error(
        "the protected header must be exactly {{\"alg\":\"EdDSA\",\"kid\":…,\"typ\":\"audit-checkpoint+jws\"}}"
    )]
    Header,
    /// The key had ended or was denied when it signed.
    #[error("the key {0} might not sign checkpoints any more when it signed this one")]
    KeyEnded(Kid),
    /// The key set holds no key of this name for checkpoints.
    #[error("the key set holds no key {0} for audit checkpoints")]
    KeyUnknown(Kid),
    /// Not a compact JWS over one JSON object with exactly the members of a checkpoint.
    #[error("not a compact JWS over an audit checkpoint: a member is missing, unknown, or of the wrong type")]
    Malformed,
    /// The payload is not canonical JSON (RFC 8785).
    #[error("the payload is not canonical JSON (RFC 8785)")]
    NotCanonical,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    SignatureInvalid,
    /// More bytes than any checkpoint needs.
    #[error("the checkpoint is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

const MAX_BYTES: usize = 8_192;

const KIND: DocumentKind =
    DocumentKind { typ: Typ::AuditCheckpoint, purpose: Purpose::AuditCheckpoints, max_bytes: MAX_BYTES };

impl AuditCheckpoint {
    /// The bytes that the key `kid` has to sign. [`compact`](crate::compact) completes them with the signature.
    ///
    /// # Errors
    /// The number is larger than any that JSON keeps exactly (RFC 7493 §2.2).
    pub fn signing_input(&self, kid: Kid) -> Result<String, AuditCheckpointError> {
        KIND.signing_input(self, kid).ok_or(AuditCheckpointError::NotCanonical)
    }

    /// The key that a checkpoint names as the one that signed it, unproved: to find the manifest that holds it.
    ///
    /// # Errors
    /// See [`AuditCheckpointError`].
    pub fn signer(jws: &str) -> Result<Kid, AuditCheckpointError> {
        Ok(KIND.signer(jws)?)
    }

    /// Reads a checkpoint, and believes it if a key of `manifest` for checkpoints signed it.
    ///
    /// A checkpoint tells of the past and is kept for years: its key must have been good when it signed, and may
    /// have ended since. For an old one take the manifest of its time, which still holds the key.
    ///
    /// # Errors
    /// See [`AuditCheckpointError`].
    pub fn verify(jws: &str, manifest: &Verified<Manifest>) -> Result<Verified<Self>, AuditCheckpointError> {
        let Opened { content: checkpoint, payload, kid, key } = KIND.open::<Self>(jws, manifest)?;
        if checkpoint.issuer != manifest.issuer || checkpoint.environment != manifest.environment {
            return Err(AuditCheckpointError::Foreign);
        }
        let denial = manifest.denied.iter().find(|denial| denial.kid == kid);
        let is_denied =
            denial.is_some_and(|denial| denial.iat_after.is_none_or(|last| checkpoint.created > last));
        if is_denied || checkpoint.created > key.not_after {
            return Err(AuditCheckpointError::KeyEnded(kid));
        }
        Ok(Verified::proven(checkpoint, &payload))
    }
}

impl From<Refusal> for AuditCheckpointError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Header => Self::Header,
            Refusal::KeyUnknown(kid) => Self::KeyUnknown(kid),
            Refusal::Malformed => Self::Malformed,
            Refusal::NotCanonical => Self::NotCanonical,
            Refusal::SignatureInvalid => Self::SignatureInvalid,
            Refusal::TooLarge => Self::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;

    use super::*;
    use crate::issued_document::fixture::{ISSUER, key, manifest, secret, timestamp};
    use crate::jws::compact;
    use crate::manifest::Denial;

    #[test]
    fn a_checkpoint_by_a_key_for_checkpoints_is_believed() {
        let jws = signed(&checkpoint(), 4);
        assert_eq!(AuditCheckpoint::signer(&jws), Ok(key(4).kid()));
        assert_eq!(*AuditCheckpoint::verify(&jws, &manifest(vec![])).unwrap(), checkpoint());
    }

    #[test]
    fn nobody_else_signs_for_the_audit() {
        let refused = |jws: &str| AuditCheckpoint::verify(jws, &manifest(vec![])).unwrap_err();
        for other in [1, 2, 9] {
            let error = AuditCheckpointError::KeyUnknown(key(other).kid());
            assert_eq!(refused(&signed(&checkpoint(), other)), error);
        }
        let good = signed(&checkpoint(), 4);
        let (head, _) = good.rsplit_once('.').unwrap();
        let forged = compact(head.to_owned(), &secret(9).sign(head.as_bytes()).to_bytes());
        assert_eq!(refused(&forged), AuditCheckpointError::SignatureInvalid);
        for foreign in [
            AuditCheckpoint { issuer: "https://other.example".to_owned(), ..checkpoint() },
            AuditCheckpoint { environment: "staging".to_owned(), ..checkpoint() },
        ] {
            assert_eq!(refused(&signed(&foreign, 4)), AuditCheckpointError::Foreign);
        }
    }

    #[test]
    fn its_key_must_have_been_good_when_it_signed() {
        let kid = key(4).kid();
        let verify = |created, denied| {
            let checkpoint = AuditCheckpoint { created: timestamp(created).unwrap(), ..checkpoint() };
            AuditCheckpoint::verify(&signed(&checkpoint, 4), &manifest(denied)).map(|_| ())
        };
        let ended = Err(AuditCheckpointError::KeyEnded(kid));
        assert_eq!(verify(1000, vec![]), Ok(()));
        assert_eq!(verify(1001, vec![]), ended);
        assert_eq!(verify(100, vec![Denial { kid, iat_after: timestamp(100) }]), Ok(()));
        assert_eq!(verify(101, vec![Denial { kid, iat_after: timestamp(100) }]), ended);
        assert_eq!(verify(1, vec![Denial { kid, iat_after: None }]), ended);
    }

    fn checkpoint() -> AuditCheckpoint {
        AuditCheckpoint {
            issuer: ISSUER.to_owned(),
            environment: "test".to_owned(),
            sequence: 7,
            digest: Digest::of(b"event"),
            created: timestamp(100).unwrap(),
        }
    }

    fn signed(checkpoint: &AuditCheckpoint, by: u8) -> String {
        let input = checkpoint.signing_input(key(by).kid()).unwrap();
        let signature = secret(by).sign(input.as_bytes()).to_bytes();
        compact(input, &signature)
    }
}
