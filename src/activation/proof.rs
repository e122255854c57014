//! Proof that an installation holds the key that it registers (in the spirit of RFC 7800): a short-lived JWS.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::domain::ids::{InstanceId, InstanceUid};
use crate::storage::assertion_uses::AssertionUse;

/// A public key whose private half the installation has shown to hold.
#[derive(Clone, Debug)]
pub struct ActivationProof {
    key: VerifyingKey,
    jti_digest: [u8; 32],
    request_digest: [u8; 32],
    expires_at: DateTime<Utc>,
}

/// Why a key is not registered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// At `/public_key`.
    #[error(
        "must be an Ed25519 public key as a JWK: {{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": …}}, {0}"
    )]
    Key(&'static str),
    /// At `/proof`.
    #[error("must be a compact JWS by the public key, {0}")]
    Proof(&'static str),
}

/// The public key as a JWK (RFC 8037 §2). A private member is refused, so that nobody gets used to sending one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct PublicKeyJwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(default, skip_serializing)]
    d: Option<serde::de::IgnoredAny>,
}

impl ActivationProof {
    /// Checks the proof against the key that it comes with. `request` is the body that holds both.
    ///
    /// # Errors
    /// The key is weak or no Ed25519 key, or the proof is not by it, not for this
    /// issuer and installation, or not of now.
    pub fn check(
        key: &PublicKeyJwk,
        proof: &str,
        issuer: &str,
        instance_id: InstanceId,
        request: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Self, ProofError> {
        let key = public_key(key)?;
        let (signed, signature) = proof.rsplit_once('.').ok_or(ProofError::Proof("in three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(ProofError::Proof("in three parts"))?;
        let header: Header = part(header).ok_or(ProofError::Proof("whose header is JSON"))?;
        if !["EdDSA", "Ed25519"].contains(&header.alg.as_str()) || header.crit.is_some() {
            return Err(ProofError::Proof("with alg EdDSA and no crit"));
        }
        if header.typ.as_deref() != Some(TYPE) {
            return Err(ProofError::Proof("with typ activation-proof+jwt"));
        }
        let signature =
            URL_SAFE_NO_PAD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let signature = signature.ok_or(ProofError::Proof("with a signature of 64 bytes"))?;
        key.verify_strict(signed.as_bytes(), &signature)
            .map_err(|_| ProofError::Proof("whose signature that key verifies"))?;
        let claims: Claims =
            part(claims).ok_or(ProofError::Proof("with aud, instance_id, iat, exp and jti"))?;
        claims.check(issuer, instance_id, now)?;
        Ok(Self {
            key,
            jti_digest: Sha256::digest(claims.jti.as_bytes()).into(),
            request_digest: Sha256::digest(request).into(),
            expires_at: DateTime::from_timestamp(claims.exp, 0).unwrap_or(now) + LEEWAY,
        })
    }

    /// The raw Ed25519 point.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// What is remembered, so that the proof counts once; a retry of the same request passes.
    #[must_use]
    pub fn usage(&self, uid: InstanceUid) -> AssertionUse {
        AssertionUse {
            uid,
            jti_digest: self.jti_digest,
            request_digest: self.request_digest,
            expires_at: self.expires_at,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    instance_id: InstanceId,
    iat: i64,
    exp: i64,
    jti: String,
}

impl Claims {
    fn check(&self, issuer: &str, instance_id: InstanceId, now: DateTime<Utc>) -> Result<(), ProofError> {
        let now = now.timestamp();
        let leeway = LEEWAY.num_seconds();
        if self.aud != issuer {
            return Err(ProofError::Proof("whose aud is the issuer"));
        }
        if self.instance_id != instance_id {
            return Err(ProofError::Proof("whose instance_id is that of the body"));
        }
        if self.jti.is_empty() {
            return Err(ProofError::Proof("with a jti"));
        }
        if self.exp > self.iat.saturating_add(MAX_LIFE.num_seconds()) || self.exp <= self.iat {
            return Err(ProofError::Proof("whose exp is at the most 60 seconds after its iat"));
        }
        if self.iat > now + leeway || self.exp <= now - leeway {
            return Err(ProofError::Proof("that lives now"));
        }
        Ok(())
    }
}

fn public_key(jwk: &PublicKeyJwk) -> Result<VerifyingKey, ProofError> {
    if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
        return Err(ProofError::Key("with kty OKP and crv Ed25519"));
    }
    if jwk.d.is_some() {
        return Err(ProofError::Key("without its private member d"));
    }
    let bytes = URL_SAFE_NO_PAD.decode(&jwk.x).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let bytes = bytes.ok_or(ProofError::Key("whose x is 32 bytes in base64url"))?;
    let key =
        VerifyingKey::from_bytes(&bytes).map_err(|_| ProofError::Key("whose x is a point of the curve"))?;
    if key.is_weak() {
        return Err(ProofError::Key("whose x is no point of small order"));
    }
    Ok(key)
}

/// One base64url part as JSON. Repeated members are refused by the derived readers.
fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

const TYPE: &str = "activation-proof+jwt";
const MAX_LIFE: TimeDelta = TimeDelta::seconds(60);
/// Tolerated clock difference between an installation and this service.
const LEEWAY: TimeDelta = TimeDelta::seconds(10);
