//! Why a token was refused: a stable code for programs, a sentence for people.

use crate::claims::ClaimsError;
use crate::reason::Reason;

/// Why a token was refused.
///
/// [`code`](Self::code) is stable and meant for programs; the sentence (`Display`) is meant for logs and for the
/// detail of a 401. Neither contains any text of the token: what an unverified token says is an attacker's word.
/// The variants stand in the order in which the checks are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// `too_large`
    #[error("the token is longer than {limit} bytes")]
    TooLarge {
        /// The most that is accepted, in bytes.
        limit: usize,
    },
    /// `malformed`
    #[error("this is not a token: {0}")]
    Malformed(Malformed),
    /// `crit_unsupported`
    #[error("the token's header demands an extension (`crit`); this verifier supports none")]
    CritUnsupported,
    /// `key_in_header`
    #[error("the token's header brings its own key, or the address of one; only built-in keys are trusted")]
    KeyInHeader,
    /// `typ_wrong`
    #[error("the token's `typ` is not `at+jwt`: it was made for another use")]
    TypWrong,
    /// `kid_missing`
    #[error("the token's header names no key (`kid`)")]
    KidMissing,
    /// `kid_unknown`
    #[error(
        "the token names a key (`kid`) that this key set does not hold: it is from another environment, forged, \
         or signed by a key newer than this build"
    )]
    KidUnknown,
    /// `key_purpose`
    #[error("the token names a key that is not for access tokens")]
    KeyPurpose,
    /// `alg_mismatch`
    #[error("the token's `alg` is not the algorithm of the key that it names")]
    AlgMismatch,
    /// `alg_unsupported`
    #[error(
        "the token's key is of an algorithm that this build cannot verify: the crate's feature for it (`rs256`) is off"
    )]
    AlgUnsupported,
    /// `key_audience`
    #[error("the token names a key that may not sign for this audience")]
    KeyAudience,
    /// `key_denied`
    #[error("the key that signed the token is denied: it was withdrawn or compromised")]
    KeyDenied,
    /// `key_expired`
    #[error("the key that signed the token ended {ago} s ago")]
    KeyExpired {
        /// Seconds since the key's `not_after`.
        ago: i64,
    },
    /// `signature_invalid`
    #[error("the token's signature is wrong: it was altered, or not signed by the key that it names")]
    SignatureInvalid,
    /// `malformed`, `claim_duplicate`, `claim_type`, `claim_missing`
    #[error("the signature is right, but {0}")]
    Claims(#[from] ClaimsError),
    /// `issuer_mismatch`
    #[error("the token's `iss` is not exactly the issuer configured here (a trailing slash counts)")]
    IssuerMismatch,
    /// `audience_mismatch`
    #[error("the token is for other backends: its `aud` does not contain the audience configured here")]
    AudienceMismatch,
    /// `life_too_long`
    #[error("the token's life (`exp` − `iat`) is longer than {limit} s")]
    LifeTooLong {
        /// The most that is accepted, in seconds.
        limit: i64,
    },
    /// `issued_in_future`
    #[error("the token was issued {ahead} s from now (`iat`): one of the clocks is wrong")]
    IssuedInFuture {
        /// Seconds from now until `iat`.
        ahead: i64,
    },
    /// `not_yet_valid`
    #[error("the token becomes valid {ahead} s from now (`nbf`)")]
    NotYetValid {
        /// Seconds from now until `nbf`.
        ahead: i64,
    },
    /// `expired`
    #[error("the token expired {ago} s ago (`exp`)")]
    Expired {
        /// Seconds since `exp`.
        ago: i64,
    },
    /// `deny_list_stale`; found before anything else, and only where a
    /// [`LiveVerifier`](crate::LiveVerifier::refusing_when_stale) was told so.
    #[error("this backend has no fresh deny list, and is set to refuse every token until it has one")]
    DenyListStale,
}

/// What of a token could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Not three parts with two dots between them.
    #[error("a token has three parts with dots between them")]
    Parts,
    /// The header is not canonical base64url without padding.
    #[error("its header is not unpadded base64url")]
    HeaderEncoding,
    /// The header is not one JSON object whose members are there once, with the right types.
    #[error("its header is not a JSON object with each member once and of the right type")]
    Header,
    /// The signature is not canonical base64url, or for an Ed25519 key not 64 bytes.
    #[error("its signature is not unpadded base64url of the length that the key's signatures have")]
    Signature,
    /// The payload is not canonical base64url without padding.
    #[error("its payload is not unpadded base64url")]
    PayloadEncoding,
}

impl VerifyError {
    /// The stable name of the reason, in `snake_case`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.reason().code()
    }

    /// The reason alone, with its cause and remedy.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::Malformed(_) | Self::Claims(ClaimsError::Malformed) => Reason::Malformed,
            Self::CritUnsupported => Reason::CritUnsupported,
            Self::KeyInHeader => Reason::KeyInHeader,
            Self::TypWrong => Reason::TypWrong,
            Self::KidMissing => Reason::KidMissing,
            Self::KidUnknown => Reason::KidUnknown,
            Self::KeyPurpose => Reason::KeyPurpose,
            Self::AlgMismatch => Reason::AlgMismatch,
            Self::AlgUnsupported => Reason::AlgUnsupported,
            Self::KeyAudience => Reason::KeyAudience,
            Self::KeyDenied => Reason::KeyDenied,
            Self::KeyExpired { .. } => Reason::KeyExpired,
            Self::SignatureInvalid => Reason::SignatureInvalid,
            Self::Claims(ClaimsError::Duplicate(_) | ClaimsError::DuplicateUnknown) => Reason::ClaimDuplicate,
            Self::Claims(ClaimsError::Type(_)) => Reason::ClaimType,
            Self::Claims(ClaimsError::Missing(_)) => Reason::ClaimMissing,
            Self::IssuerMismatch => Reason::IssuerMismatch,
            Self::AudienceMismatch => Reason::AudienceMismatch,
            Self::LifeTooLong { .. } => Reason::LifeTooLong,
            Self::IssuedInFuture { .. } => Reason::IssuedInFuture,
            Self::NotYetValid { .. } => Reason::NotYetValid,
            Self::Expired { .. } => Reason::Expired,
            Self::DenyListStale => Reason::DenyListStale,
        }
    }
}
