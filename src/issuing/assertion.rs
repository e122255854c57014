//! Client assertions: an instance proves by its registered Ed25519 key that it is itself (RFC 7523 §3).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};

use crate::domain::ids::InstanceUid;
use crate::storage::assertion_uses::AssertionUse;

/// An assertion as it came, not yet believed.
#[derive(Clone)]
pub struct ClientAssertion {
    /// Who it claims to be from (`iss` and `sub`).
    pub uid: InstanceUid,
    signed: String,
    signature: Signature,
    expires_at: DateTime<Utc>,
    audience_fits: bool,
    jti_digest: [u8; 32],
    /// Of the assertion and of the request it came with: an identical retry is recognized by it.
    request_digest: [u8; 32],
}

impl std::fmt::Debug for ClientAssertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAssertion").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl ClientAssertion {
    /// Reads the claims that are needed to look the key up. `request` is what the
    /// assertion came with: method, path and body.
    ///
    /// Returns `None` for what is no client assertion of one of our instances.
    #[must_use]
    pub fn parse(compact: &str, issuer: &str, request: &[u8]) -> Option<Self> {
        if compact.len() > MAX_LENGTH {
            return None;
        }
        let (signed, signature) = compact.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: AssertionHeader = part(header)?;
        let known_type = header.typ.as_deref().is_none_or(|typ| TYPES.contains(&typ));
        if !ALGS.contains(&header.alg.as_str()) || !known_type || header.crit.is_some() {
            return None;
        }
        let claims: AssertionClaims = part(claims)?;
        if claims.iss != claims.sub || claims.jti.is_empty() {
            return None;
        }
        let request_digest =
            Sha256::new().chain_update(compact).chain_update([0]).chain_update(request).finalize();
        Some(Self {
            uid: claims.iss.parse().ok()?,
            signed: signed.to_owned(),
            signature: Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?,
            expires_at: DateTime::from_timestamp(claims.exp, 0)?,
            audience_fits: claims.aud.is_only(issuer),
            jti_digest: Sha256::digest(claims.jti.as_bytes()).into(),
            request_digest: request_digest.into(),
        })
    }

    /// Whether the assertion is by this key (a raw Ed25519 point), meant for us, and lives now.
    #[must_use]
    pub fn is_by(&self, public_key: &[u8], now: DateTime<Utc>) -> bool {
        let lives = now - LEEWAY < self.expires_at && self.expires_at <= now + MAX_LIFE + LEEWAY;
        if !self.audience_fits || !lives {
            return false;
        }
        let key = <&[u8; 32]>::try_from(public_key).ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
        key.is_some_and(|key| key.verify_strict(self.signed.as_bytes(), &self.signature).is_ok())
    }

    /// What is remembered, so that the assertion is accepted once.
    #[must_use]
    pub fn usage(&self) -> AssertionUse {
        AssertionUse {
            uid: self.uid,
            jti_digest: self.jti_digest,
            request_digest: self.request_digest,
            expires_at: self.expires_at + LEEWAY,
        }
    }
}

#[derive(Deserialize)]
struct AssertionHeader {
    alg: String,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

impl Audience {
    /// A second audience could replay the assertion here: exactly ours is taken.
    fn is_only(&self, issuer: &str) -> bool {
        match self {
            Self::Many(audiences) => matches!(audiences.as_slice(), [one] if one == issuer),
            Self::One(audience) => audience == issuer,
        }
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// One algorithm under both of its names (RFC 8037 §3.1, RFC 9864 §2.2).
const ALGS: &[&str] = &["EdDSA", "Ed25519"];
/// An assertion ends at the most this far ahead.
const MAX_LIFE: TimeDelta = TimeDelta::seconds(60);
/// Tolerated clock difference between an instance and this service.
const LEEWAY: TimeDelta = TimeDelta::seconds(10);
const MAX_LENGTH: usize = 4096;
/// RFC 7523 says nothing of `typ`; its successor draft names the second.
const TYPES: &[&str] = &["JWT", "client-authentication+jwt"];
