//! Judges a whole HTTP request, whatever the framework: the token, the headers beside it, what it permits.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::claims::Claims;
use crate::live::LiveVerifier;
use crate::reason::Reason;
use crate::verify::KeySetName;
use crate::verify_error::VerifyError;

/// Verifies requests: `Authorization: Bearer …`, and the headers that repeat what the token says.
///
/// ```
/// # use std::sync::Arc;
/// # use token_authority_verifier::{LiveVerifier, RequestVerifier, SignedManifest, SignedRoot};
/// # macro_rules! file { ($name:literal) => { include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/", $name)) } }
/// # let setup: serde_json::Value = serde_json::from_slice(file!("setup.json"))?;
/// # let trusted = setup["root_digest"].as_str().ok_or("no digest")?;
/// # let root = SignedRoot::parse(file!("root.json"))?.verify_pinned(trusted.parse()?)?;
/// # let manifest = SignedManifest::parse(file!("manifest.json"))?.verify(&root)?;
/// # let verifier = Arc::new(LiveVerifier::new(manifest, file!("jwks.json"), "gitlab-ai-gateway")?);
/// let requests = RequestVerifier::new(verifier).permitting("duo_chat");
///
/// let headers = [("authorization", "Bearer not.a.token"), ("x-gitlab-realm", "self-managed")];
/// let refusal = requests.judge(&headers[..], std::time::SystemTime::now()).unwrap_err();
/// assert_eq!(refusal.status(), 401);
/// assert!(requests.challenge(&refusal).starts_with(r#"Bearer error="invalid_token", error_code="malformed", key_set="1""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RequestVerifier {
    verifier: Arc<LiveVerifier>,
    permission: Option<Arc<str>>,
    headers_required: bool,
}

/// A request's header fields, by name in lower case. Implemented for slices of pairs, for `http::HeaderMap` with the
/// feature `tower`, and for actix's with the feature `actix`.
pub trait Headers {
    /// Every value of this field, in any order.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

impl Headers for [(&str, &str)] {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_bytes())
    }
}

/// A header that repeats a claim. Whoever reads such a header believes it, so it must say what the token says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TokenHeader {
    /// `X-Gitlab-Duo-Seat-Count`, the claim `duo_seat_count`.
    DuoSeatCount,
    /// `X-Gitlab-Instance-Id`, the claim `sub`.
    InstanceId,
    /// `X-Gitlab-Realm`, the claim `gitlab_realm`.
    Realm,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// `header_mismatch`: the header says something else than the token, or is there twice.
    #[error("the header {0} does not say what the token says")]
    HeaderMismatch(TokenHeader),
    /// `header_mismatch`: the header is required here.
    #[error("the header {0} is missing")]
    HeaderMissing(TokenHeader),
    /// `not_permitted`
    #[error("the token is good, but does not permit this")]
    NotPermitted,
    /// The token is refused.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// `token_missing`
    #[error("the request must have exactly one header `Authorization: Bearer`, followed by a token")]
    TokenMissing,
}

impl RequestVerifier {
    /// Verifies requests by this verifier. Headers that repeat claims must agree with them where they are there.
    #[must_use]
    pub fn new(verifier: Arc<LiveVerifier>) -> Self {
        Self { verifier, permission: None, headers_required: false }
    }

    /// Demands that the token permits this unit primitive.
    #[must_use]
    pub fn permitting(mut self, unit_primitive: impl Into<Arc<str>>) -> Self {
        self.permission = Some(unit_primitive.into());
        self
    }

    /// Demands the headers that repeat claims: realm and instance always, seats where the token counts them.
    #[must_use]
    pub fn requiring_headers(mut self) -> Self {
        self.headers_required = true;
        self
    }

    /// The verifier underneath.
    #[must_use]
    pub fn verifier(&self) -> &Arc<LiveVerifier> {
        &self.verifier
    }

    /// What the request's token says, if the request is to be served at `now`.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn judge<H: Headers + ?Sized>(
        &self,
        headers: &H,
        now: SystemTime,
    ) -> Result<Arc<Claims>, RequestError> {
        let token = bearer_token(headers)?;
        let claims = self.verifier.verify(token, now)?;
        self.check_headers(&claims, headers)?;
        if self.permission.as_deref().is_some_and(|unit_primitive| !claims.permits(unit_primitive)) {
            return Err(RequestError::NotPermitted);
        }
        Ok(claims)
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3) that tells a client why it was refused: `error_code` is the stable
    /// code, `key_set` the version that this backend runs. It repeats nothing of the token.
    ///
    /// Unlike RFC 6750 §3.1 suggests, a request without a token is told so too: the header is read by people who look
    /// for what is wrong.
    #[must_use]
    pub fn challenge(&self, refusal: &RequestError) -> String {
        let mut challenge = Challenge::default();
        let reason = refusal.reason();
        match reason {
            Reason::TokenMissing | Reason::DenyListStale => {}
            Reason::NotPermitted => challenge.add("error", "insufficient_scope"),
            _ => challenge.add("error", "invalid_token"),
        }
        challenge.add("error_code", reason.code());
        let verifier = self.verifier.verifier();
        match verifier.key_set() {
            KeySetName::Digest(digest) => challenge.add("key_set", &digest.to_string()),
            KeySetName::Version { environment, version } => {
                challenge.add("key_set", &version.to_string());
                challenge.add("environment", environment);
            }
        }
        challenge.add("audience", verifier.audience());
        if let (Reason::NotPermitted, Some(unit_primitive)) = (reason, &self.permission) {
            challenge.add("scope", unit_primitive);
        }
        challenge.add("error_description", &refusal.to_string());
        challenge.0
    }

    /// The body of the refusal's answer, `application/problem+json` (RFC 9457).
    #[must_use]
    pub fn problem(&self, refusal: &RequestError) -> String {
        let status = refusal.status();
        let title = match status {
            403 => "Forbidden",
            503 => "Service Unavailable",
            _ => "Unauthorized",
        };
        let detail = refusal.to_string();
        serde_json::json!({"code": refusal.code(), "detail": detail, "status": status, "title": title})
            .to_string()
    }

    fn check_headers<H: Headers + ?Sized>(&self, claims: &Claims, headers: &H) -> Result<(), RequestError> {
        for header in [TokenHeader::DuoSeatCount, TokenHeader::InstanceId, TokenHeader::Realm] {
            let claim = header.claim(claims);
            let mut values = headers.values(header.field()).peekable();
            if values.peek().is_none() {
                if self.headers_required && claim.is_some() {
                    return Err(RequestError::HeaderMissing(header));
                }
                continue;
            }
            // A second value may be the one that somebody behind us reads.
            if !values.all(|value| claim.is_some_and(|claim| claim.as_bytes() == value)) {
                return Err(RequestError::HeaderMismatch(header));
            }
        }
        Ok(())
    }
}

/// The token of the one `Authorization` header (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110 §11.1).
fn bearer_token<H: Headers + ?Sized>(headers: &H) -> Result<&str, RequestError> {
    let mut values = headers.values("authorization");
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(RequestError::TokenMissing);
    };
    let value = str::from_utf8(value).map_err(|_| RequestError::TokenMissing)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_matches(' ')),
        _ => Err(RequestError::TokenMissing),
    }
}

impl TokenHeader {
    /// The field's name, in lower case.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::DuoSeatCount => "x-gitlab-duo-seat-count",
            Self::InstanceId => "x-gitlab-instance-id",
            Self::Realm => "x-gitlab-realm",
        }
    }

    fn claim(self, claims: &Claims) -> Option<&str> {
        match self {
            Self::DuoSeatCount => claims.duo_seat_count.as_deref(),
            Self::InstanceId => Some(&claims.sub),
            Self::Realm => Some(&claims.gitlab_realm),
        }
    }
}

impl fmt::Display for TokenHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DuoSeatCount => "X-Gitlab-Duo-Seat-Count",
            Self::InstanceId => "X-Gitlab-Instance-Id",
            Self::Realm => "X-Gitlab-Realm",
        })
    }
}

impl RequestError {
    /// When to come back after a 503: a deny list arrives with each beat of a backend, every half minute.
    #[cfg(any(feature = "actix", feature = "tower"))]
    pub(crate) const RETRY_AFTER_SECONDS: u16 = 60;

    /// The reason alone, with its cause and remedy.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::HeaderMismatch(_) | Self::HeaderMissing(_) => Reason::HeaderMismatch,
            Self::NotPermitted => Reason::NotPermitted,
            Self::Token(refusal) => refusal.reason(),
            Self::TokenMissing => Reason::TokenMissing,
        }
    }

    /// The stable name of the reason, in `snake_case`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.reason().code()
    }

    /// The HTTP status with which to answer: 401, 403 or 503.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.reason().status()
    }
}

/// The clock of the middlewares, the one place of this crate that reads one.
#[cfg(any(feature = "actix", feature = "tower"))]
#[expect(clippy::disallowed_methods, reason = "a request is judged at the time it is")]
pub(crate) fn system_clock() -> SystemTime {
    SystemTime::now()
}

/// One challenge with its parameters (RFC 9110 §11.6.1).
struct Challenge(String);

impl Default for Challenge {
    fn default() -> Self {
        Self("Bearer".to_owned())
    }
}

impl Challenge {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push_str(if self.0.ends_with("Bearer") { " " } else { ", " });
        self.0.push_str(name);
        self.0.push_str("=\"");
        // Only what RFC 6750 §3 allows in a description; a header has no other alphabet.
        self.0.extend(value.chars().map(|character| match character {
            '−' => '-',
            '"' | '\\' => '\'',
            ' '..='~' => character,
            _ => '?',
        }));
        self.0.push('"');
    }
}
