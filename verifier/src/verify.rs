//! Verifies tokens: the whole story of accepting or refusing one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base64url;
use crate::claims::Claims;
use crate::denials::Denials;
use crate::digest::Digest;
use crate::header::Header;
use crate::jws::Typ;
use crate::key_set::KeySet;
use crate::kid::Kid;
use crate::manifest::{Denial, Manifest, ManifestError, Purpose};
use crate::signed::Verified;
use crate::trusted_key::TrustedKey;
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
    key_set: KeySetName,
    issuer: String,
    audience: String,
    /// Sorted by kid.
    keys: Vec<TrustedKey>,
    leeway: i64,
    max_token_ttl: i64,
    max_token_bytes: usize,
}

/// How a key set is named to people.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeySetName {
    /// A plain set has no number: the digest of its canonical JSON.
    Digest(Digest),
    /// A version of an environment's chain.
    Version {
        /// The environment.
        environment: String,
        /// Its version.
        version: u32,
    },
}

impl Verifier {
    /// A verifier for the keys of a plain set.
    ///
    /// `issuer` is compared with `iss` exactly: a trailing slash counts. A plain set does not say when its keys
    /// end or who may use them; [`Verifier::from_manifest`] does.
    #[must_use]
    pub fn from_key_set(keys: &KeySet, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            key_set: KeySetName::Digest(keys.digest()),
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
        let key_set =
            KeySetName::Version { environment: manifest.environment.clone(), version: manifest.version };
        let verifier = Self {
            key_set,
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

    /// Which key set this is, for logs and for the answer of a 401.
    #[must_use]
    pub fn key_set(&self) -> &KeySetName {
        &self.key_set
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
        Ok(self.examine(typ, token, unix_seconds(now), &Denials::default())?.0)
    }

    /// What the token says, and the place of its key; `denials` adds to what the keys themselves say.
    pub(crate) fn examine(
        &self,
        typ: Typ,
        token: &str,
        now: i64,
        denials: &Denials,
    ) -> Result<(Claims, usize), VerifyError> {
        // 1. The form: three parts, not too long.
        if token.len() > self.max_token_bytes {
            return Err(VerifyError::TooLarge { limit: self.max_token_bytes });
        }
        let parts = Parts::of(token)?;

        // 2. The header names a key. Everything else is a property of that key.
        let place = self.place_for(typ, parts.header)?;
        let key = &self.keys[place];
        key.check_standing(place, now, denials)?;

        // 3. The signature, over the very characters received.
        key.prepared.check(parts.signed, parts.signature)?;

        // 4. What it says is ours, and holds now.
        let payload =
            base64url::decode(parts.payload).ok_or(VerifyError::Malformed(Malformed::PayloadEncoding))?;
        let claims = Claims::from_json(&payload)?;
        self.check_addressed(&claims)?;
        self.check_times(&claims, now)?;
        key.check_issued(place, claims.iat, now, denials)?;
        Ok((claims, place))
    }

    /// All that can have changed since the token passed: the key's standing, the times, the denials.
    pub(crate) fn check_again(
        &self,
        claims: &Claims,
        place: usize,
        now: i64,
        denials: &Denials,
    ) -> Result<(), VerifyError> {
        let key = self.keys.get(place).ok_or(VerifyError::KidUnknown)?;
        key.check_standing(place, now, denials)?;
        self.check_times(claims, now)?;
        key.check_issued(place, claims.iat, now, denials)
    }

    /// How many keys there are, of any purpose.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The place of a key, the same for as long as this verifier lives.
    pub(crate) fn place_of(&self, kid: Kid) -> Option<usize> {
        self.keys.binary_search_by_key(&kid, |key| key.jwk.kid()).ok()
    }

    fn place_for(&self, typ: Typ, header: &str) -> Result<usize, VerifyError> {
        let usual = self.keys.iter().position(|key| key.usual_header.encoded() == header);
        if let Some(place) = usual.filter(|_| typ == Typ::AccessToken) {
            self.keys[place].check_purpose()?;
            self.keys[place].prepared.check_supported()?;
            return Ok(place);
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
        let place = self.place_of(kid).ok_or(VerifyError::KidUnknown)?;
        let key = &self.keys[place];
        key.check_purpose()?;
        if header.alg.as_deref() != Some(key.algorithm().name()) {
            return Err(VerifyError::AlgMismatch);
        }
        key.prepared.check_supported()?;
        Ok(place)
    }

    fn check_addressed(&self, claims: &Claims) -> Result<(), VerifyError> {
        if claims.iss != self.issuer {
            return Err(VerifyError::IssuerMismatch);
        }
        if !claims.aud.contains(&self.audience) {
            return Err(VerifyError::AudienceMismatch);
        }
        if claims.exp.checked_sub(claims.iat).is_none_or(|life| life > self.max_token_ttl) {
            return Err(VerifyError::LifeTooLong { limit: self.max_token_ttl });
        }
        Ok(())
    }

    fn check_times(&self, claims: &Claims, now: i64) -> Result<(), VerifyError> {
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
        Ok(())
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

pub(crate) fn seconds(duration: Duration) -> i64 {
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
        use crate::algorithm::Algorithm;
        use crate::jwk::Jwk;
        use crate::jws::ProtectedHeader;

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
