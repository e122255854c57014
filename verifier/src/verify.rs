//! Verifies tokens: the whole story of accepting or refusing one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::claims::Claims;
use crate::header::Header;
use crate::jwk::Jwk;
use crate::jws::{ProtectedHeader, Typ};
use crate::key_set::KeySet;
use crate::kid::Kid;
use crate::manifest::{Denial, Manifest, ManifestError, Purpose};
use crate::prepared_key::PreparedKey;
use crate::signed::Verified;
use crate::verify_error::{Malformed, VerifyError};

/// Tolerated difference between the issuer's clock and the verifier's, where no manifest says otherwise.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// The longest life (`exp − iat`) of a token, where no manifest says otherwise.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(72 * 60 * 60);

/// The longest token that is looked at; longer request metadata is refused by many servers anyway.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Accepts the tokens of one issuer for one audience, and refuses everything else.
///
/// Made once, used for every request: it is immutable, shareable between threads, and reads no clock, file or
/// network.
#[derive(Clone, Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    /// Sorted by kid.
    keys: Vec<TrustedKey>,
    leeway: i64,
    max_token_ttl: i64,
    max_token_bytes: usize,
}

/// A key, and everything about it that does not depend on a token.
#[derive(Clone, Debug)]
struct TrustedKey {
    jwk: Jwk,
    prepared: PreparedKey,
    /// The header of its tokens as our issuer spells it: most tokens need no JSON parser to find their key.
    usual_header: ProtectedHeader,
    purpose: Purpose,
    for_audience: bool,
    /// The last second at which anything that it signed is valid.
    not_after: Option<i64>,
    denied: Denied,
}

/// Which of a key's tokens are denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    None,
    IssuedAfter(i64),
    All,
}

impl Verifier {
    /// A verifier for the keys of a plain set.
    ///
    /// `issuer` is compared with `iss` exactly: a trailing slash counts. A plain set does not say when its keys
    /// end or who may use them; [`Verifier::from_manifest`] does.
    #[must_use]
    pub fn from_key_set(keys: &KeySet, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys: keys.iter().map(|key| TrustedKey::new(key.clone(), Purpose::AccessTokens)).collect(),
            leeway: seconds(LEEWAY),
            max_token_ttl: seconds(MAX_TOKEN_TTL),
            max_token_bytes: MAX_TOKEN_BYTES,
        }
    }

    /// A verifier for the keys of one version of an environment's key set, with all that its manifest says about
    /// them: issuer, ends, audiences, denials, the longest life of a token, leeway.
    ///
    /// # Errors
    /// `jwks` is not the set that the manifest describes, or no key of it is for `audience`.
    pub fn from_manifest(
        manifest: &Verified<Manifest>,
        jwks: &[u8],
        audience: impl Into<String>,
    ) -> Result<Self, ManifestError> {
        let audience = audience.into();
        let set = manifest.matches(jwks)?;
        let mut keys = Vec::with_capacity(manifest.keys.len());
        for described in &manifest.keys {
            let Some(jwk) = described.jwk.as_ref().or_else(|| set.find(described.kid)) else {
                return Err(ManifestError::Keys);
            };
            let mut key = TrustedKey::new(jwk.clone(), described.purpose);
            key.not_after = Some(described.not_after.unix());
            key.for_audience =
                described.audiences.as_ref().is_none_or(|audiences| audiences.contains(&audience));
            keys.push(key);
        }
        if !keys.iter().any(|key| key.purpose == Purpose::AccessTokens && key.for_audience) {
            return Err(ManifestError::Audience);
        }
        let verifier = Self {
            issuer: manifest.issuer.clone(),
            audience,
            keys,
            leeway: i64::from(manifest.leeway),
            max_token_ttl: i64::from(manifest.max_token_ttl),
            max_token_bytes: MAX_TOKEN_BYTES,
        };
        Ok(verifier.with_denials(manifest.denied.iter().copied()))
    }

    /// Denies more. What is denied already stays denied.
    #[must_use]
    pub fn with_denials(mut self, denials: impl IntoIterator<Item = Denial>) -> Self {
        for denial in denials {
            if let Ok(index) = self.keys.binary_search_by_key(&denial.kid, |key| key.jwk.kid()) {
                self.keys[index].deny(denial);
            }
        }
        self
    }

    /// Tolerates this difference between clocks, in whole seconds.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = seconds(leeway);
        self
    }

    /// Refuses tokens with a longer life (`exp − iat`), in whole seconds.
    #[must_use]
    pub fn with_max_token_ttl(mut self, max_token_ttl: Duration) -> Self {
        self.max_token_ttl = seconds(max_token_ttl);
        self
    }

    /// Refuses longer tokens unread.
    #[must_use]
    pub fn with_max_token_bytes(mut self, max_token_bytes: usize) -> Self {
        self.max_token_bytes = max_token_bytes;
        self
    }

    /// The issuer whose tokens are accepted.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audience for which tokens are accepted.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The keys that may sign tokens for this audience, sorted, also those that have ended or are denied. For a line
    /// in the log at start.
    pub fn kids(&self) -> impl Iterator<Item = Kid> {
        let ours = |key: &&TrustedKey| key.for_audience && key.purpose == Purpose::AccessTokens;
        self.keys.iter().filter(ours).map(|key| key.jwk.kid())
    }

    /// What the token says, if it is to be believed at `now`.
    ///
    /// # Errors
    /// The first reason found not to believe it; see [`VerifyError`]. The checks are made in the order of its
    /// variants, cheap ones before the signature, claims after it.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, VerifyError> {
        self.verify_as(Typ::AccessToken, token, now)
    }

    /// The verdict on a probe: what [`verify`](Self::verify) would say if its `typ` were an access token's. Its
    /// `jti` is the probe's nonce, and it has no scopes.
    ///
    /// A backend reports these verdicts with its next beat. They prove to the issuer which keys it believes, and
    /// that it refuses forgeries; a probe never permits anything.
    ///
    /// # Errors
    /// The same as those of [`verify`](Self::verify).
    pub fn verify_probe(&self, probe: &str, now: SystemTime) -> Result<Claims, VerifyError> {
        self.verify_as(Typ::Probe, probe, now)
    }

    fn verify_as(&self, typ: Typ, token: &str, now: SystemTime) -> Result<Claims, VerifyError> {
        let now = unix_seconds(now);

        // 1. The form: three parts, not too long.
        if token.len() > self.max_token_bytes {
            return Err(VerifyError::TooLarge { limit: self.max_token_bytes });
        }
        let parts = Parts::of(token)?;

        // 2. The header names a key. Everything else is a property of that key.
        let key = self.key_for(typ, parts.header)?;
        key.check_standing(now)?;

        // 3. The signature, over the very characters received.
        key.prepared.check(parts.signed, parts.signature)?;

        // 4. What it says is ours, and holds now.
        let payload =
            base64url::decode(parts.payload).ok_or(VerifyError::Malformed(Malformed::PayloadEncoding))?;
        let claims = Claims::from_json(&payload)?;
        self.check_claims(&claims, key, now)?;
        Ok(claims)
    }

    fn key_for(&self, typ: Typ, header: &str) -> Result<&TrustedKey, VerifyError> {
        let usual = self.keys.iter().find(|key| key.usual_header.encoded() == header);
        if let Some(key) = usual.filter(|_| typ == Typ::AccessToken) {
            key.check_purpose()?;
            key.prepared.check_supported()?;
            return Ok(key);
        }
        let json = base64url::decode(header).ok_or(VerifyError::Malformed(Malformed::HeaderEncoding))?;
        let header = Header::from_json(&json).map_err(|_| VerifyError::Malformed(Malformed::Header))?;
        if header.has_crit {
            return Err(VerifyError::CritUnsupported);
        }
        if header.brings_key {
            return Err(VerifyError::KeyInHeader);
        }
        if header.typ.as_deref() != Some(typ.name()) {
            return Err(VerifyError::TypWrong);
        }
        let kid = header.kid.ok_or(VerifyError::KidMissing)?;
        // Whatever is no thumbprint is no key of ours either.
        let kid: Kid = kid.parse().map_err(|_| VerifyError::KidUnknown)?;
        let index = self.keys.binary_search_by_key(&kid, |key| key.jwk.kid());
        let key = &self.keys[index.map_err(|_| VerifyError::KidUnknown)?];
        key.check_purpose()?;
        if header.alg.as_deref() != Some(key.algorithm().name()) {
            return Err(VerifyError::AlgMismatch);
        }
        key.prepared.check_supported()?;
        Ok(key)
    }

    fn check_claims(&self, claims: &Claims, key: &TrustedKey, now: i64) -> Result<(), VerifyError> {
        if claims.iss != self.issuer {
            return Err(VerifyError::IssuerMismatch);
        }
        if !claims.aud.contains(&self.audience) {
            return Err(VerifyError::AudienceMismatch);
        }
        if claims.exp.checked_sub(claims.iat).is_none_or(|life| life > self.max_token_ttl) {
            return Err(VerifyError::LifeTooLong { limit: self.max_token_ttl });
        }
        let (earliest, latest) = (now.saturating_sub(self.leeway), now.saturating_add(self.leeway));
        if claims.iat > latest {
            return Err(VerifyError::IssuedInFuture { ahead: claims.iat.saturating_sub(now) });
        }
        if claims.nbf > latest {
            return Err(VerifyError::NotYetValid { ahead: claims.nbf.saturating_sub(now) });
        }
        // On or after `exp` it is not accepted (RFC 7519 §4.1.4).
        if claims.exp <= earliest {
            return Err(VerifyError::Expired { ago: now.saturating_sub(claims.exp) });
        }
        match key.denied {
            Denied::IssuedAfter(last) if claims.iat > last => Err(VerifyError::KeyDenied),
            _ => Ok(()),
        }
    }
}

impl TrustedKey {
    fn new(jwk: Jwk, purpose: Purpose) -> Self {
        let usual_header = ProtectedHeader::new(Typ::AccessToken, jwk.algorithm(), jwk.kid());
        let prepared = PreparedKey::new(&jwk);
        Self {
            jwk,
            prepared,
            usual_header,
            purpose,
            for_audience: true,
            not_after: None,
            denied: Denied::None,
        }
    }

    fn algorithm(&self) -> Algorithm {
        self.jwk.algorithm()
    }

    fn check_purpose(&self) -> Result<(), VerifyError> {
        if self.purpose == Purpose::AccessTokens { Ok(()) } else { Err(VerifyError::KeyPurpose) }
    }

    /// Whether anything that the key signs for us can be valid now.
    fn check_standing(&self, now: i64) -> Result<(), VerifyError> {
        if !self.for_audience {
            return Err(VerifyError::KeyAudience);
        }
        if self.denied == Denied::All {
            return Err(VerifyError::KeyDenied);
        }
        match self.not_after {
            Some(not_after) if now > not_after => {
                Err(VerifyError::KeyExpired { ago: now.saturating_sub(not_after) })
            }
            _ => Ok(()),
        }
    }

    fn deny(&mut self, denial: Denial) {
        self.denied = match (self.denied, denial.iat_after) {
            (Denied::All, _) | (_, None) => Denied::All,
            (Denied::None, Some(last)) => Denied::IssuedAfter(last.unix()),
            (Denied::IssuedAfter(one), Some(other)) => Denied::IssuedAfter(one.min(other.unix())),
        };
    }
}

/// The three parts of a compact JWS (RFC 7515 §7.1), still encoded.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    signature: &'a str,
    /// Header and payload with the dot between them.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(token: &'a str) -> Result<Self, VerifyError> {
        let wrong = VerifyError::Malformed(Malformed::Parts);
        let (signed, signature) = token.rsplit_once('.').ok_or(wrong)?;
        let (header, payload) = signed.split_once('.').ok_or(wrong)?;
        if payload.contains('.') {
            return Err(wrong);
        }
        Ok(Self { header, payload, signature, signed })
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Whole seconds since 1970, rounded down, also before 1970.
pub(crate) fn unix_seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => seconds(since),
        Err(before) => {
            let before = before.duration();
            -seconds(before) - i64::from(before.subsec_nanos() > 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "rs256"))]
    #[test]
    fn a_build_without_rs256_reads_rsa_keys_and_refuses_their_tokens() {
        let modulus = [&[0xff; 255][..], &[1]].concat();
        let key = Jwk::from_rsa_public(&modulus, &[1, 0, 1]).unwrap();
        let header = ProtectedHeader::new(Typ::AccessToken, Algorithm::Rs256, key.kid());
        let token = crate::jws::compact(header.signing_input(b"{}"), &[0; 256]);
        let verifier = Verifier::from_key_set(&KeySet::new([key]).unwrap(), "https://issuer", "audience");
        let refusal = verifier.verify(&token, UNIX_EPOCH).unwrap_err();
        assert_eq!(refusal.code(), "alg_unsupported");
    }

    #[test]
    fn a_verifier_can_be_shared_between_threads() {
        fn assert_shareable<T: Send + Sync + 'static>() {}
        assert_shareable::<Verifier>();
        assert_shareable::<VerifyError>();
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_1970() {
        let (half, second) = (Duration::from_millis(500), Duration::from_secs(1));
        assert_eq!(unix_seconds(UNIX_EPOCH + second + half), 1);
        assert_eq!(unix_seconds(UNIX_EPOCH - half), -1);
        assert_eq!(unix_seconds(UNIX_EPOCH - second), -1);
        assert_eq!(unix_seconds(UNIX_EPOCH - second - half), -2);
    }
}
