//! Every reason to refuse a request: its stable code, what causes it, and what to do about it.

use std::fmt;
use std::str::FromStr;

/// Why a request was refused, without its particulars.
///
/// Codes never change their meaning. New ones may come.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says itself what it is: `cause`")]
pub enum Reason {
    AlgMismatch,
    AlgUnsupported,
    AudienceMismatch,
    ClaimDuplicate,
    ClaimMissing,
    ClaimType,
    CritUnsupported,
    DenyListStale,
    Expired,
    HeaderMismatch,
    IssuedInFuture,
    IssuerMismatch,
    KeyAudience,
    KeyDenied,
    KeyExpired,
    KeyInHeader,
    KeyPurpose,
    KidMissing,
    KidUnknown,
    LifeTooLong,
    Malformed,
    NotPermitted,
    NotYetValid,
    SignatureInvalid,
    TokenMissing,
    TooLarge,
    TypWrong,
}

/// The text is no code of a reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this is no code of a refusal")]
pub struct UnknownReason;

impl Reason {
    /// Every reason, sorted by code.
    pub const ALL: [Self; 27] = [
        Self::AlgMismatch,
        Self::AlgUnsupported,
        Self::AudienceMismatch,
        Self::ClaimDuplicate,
        Self::ClaimMissing,
        Self::ClaimType,
        Self::CritUnsupported,
        Self::DenyListStale,
        Self::Expired,
        Self::HeaderMismatch,
        Self::IssuedInFuture,
        Self::IssuerMismatch,
        Self::KeyAudience,
        Self::KeyDenied,
        Self::KeyExpired,
        Self::KeyInHeader,
        Self::KeyPurpose,
        Self::KidMissing,
        Self::KidUnknown,
        Self::LifeTooLong,
        Self::Malformed,
        Self::NotPermitted,
        Self::NotYetValid,
        Self::SignatureInvalid,
        Self::TokenMissing,
        Self::TooLarge,
        Self::TypWrong,
    ];

    /// The stable name, in `snake_case`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::AlgMismatch => "alg_mismatch",
            Self::AlgUnsupported => "alg_unsupported",
            Self::AudienceMismatch => "audience_mismatch",
            Self::ClaimDuplicate => "claim_duplicate",
            Self::ClaimMissing => "claim_missing",
            Self::ClaimType => "claim_type",
            Self::CritUnsupported => "crit_unsupported",
            Self::DenyListStale => "deny_list_stale",
            Self::Expired => "expired",
            Self::HeaderMismatch => "header_mismatch",
            Self::IssuedInFuture => "issued_in_future",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::KeyAudience => "key_audience",
            Self::KeyDenied => "key_denied",
            Self::KeyExpired => "key_expired",
            Self::KeyInHeader => "key_in_header",
            Self::KeyPurpose => "key_purpose",
            Self::KidMissing => "kid_missing",
            Self::KidUnknown => "kid_unknown",
            Self::LifeTooLong => "life_too_long",
            Self::Malformed => "malformed",
            Self::NotPermitted => "not_permitted",
            Self::NotYetValid => "not_yet_valid",
            Self::SignatureInvalid => "signature_invalid",
            Self::TokenMissing => "token_missing",
            Self::TooLarge => "too_large",
            Self::TypWrong => "typ_wrong",
        }
    }

    /// The HTTP status with which to answer: 401; 403 where the token is good but does not permit what is asked for; 503
    /// where the fault is the backend's own and passes.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::DenyListStale => 503,
            Self::NotPermitted => 403,
            _ => 401,
        }
    }

    /// What most likely causes it, as a sentence.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::AlgMismatch => {
                "The token names another algorithm than its key has: somebody tries one key as if it were of another kind."
            }
            Self::AlgUnsupported => {
                "The token is signed by an RSA key, and the backend was built without the feature for RS256."
            }
            Self::AudienceMismatch => {
                "The token was made for another backend, or this backend is configured with another audience than the \
                 catalog has for it."
            }
            Self::ClaimDuplicate | Self::ClaimMissing | Self::ClaimType => {
                "The signature is right, but the claims are not those of an access token: the issuer is of another version \
                 or has a defect, or its key is in other hands."
            }
            Self::CritUnsupported => {
                "The token demands an extension that no token of this issuer needs: it is not one of its tokens."
            }
            Self::DenyListStale => {
                "The backend has had no fresh deny list for too long, and is set to refuse every token then. The token is \
                 not at fault."
            }
            Self::Expired => "The instance has not synced for hours, or the backend's clock is ahead.",
            Self::HeaderMismatch => {
                "A header of the request (X-Gitlab-Realm, X-Gitlab-Instance-Id or X-Gitlab-Duo-Seat-Count) says something \
                 else than the token: the token is another instance's, or the header was not brought up to date with it."
            }
            Self::IssuedInFuture | Self::NotYetValid => {
                "The clocks of the issuer and of the backend differ by more than the tolerance."
            }
            Self::IssuerMismatch => {
                "The backend is configured with another issuer than the one that signs, often only by a slash at its end, \
                 or the token is from another environment under a shared key."
            }
            Self::KeyAudience => {
                "The key that signed the token may not sign for this backend, by the key set's manifest."
            }
            Self::KeyDenied => {
                "The key was withdrawn or compromised, or the token was issued by it after it was demoted."
            }
            Self::KeyExpired => {
                "The build of the backend is very old: the key that signed the token has ended."
            }
            Self::KeyInHeader => {
                "The token brings its own key along, or an address to fetch one from: an attack, or a foreign issuer's \
                 token."
            }
            Self::KeyPurpose => {
                "The token is signed by a key for other things than access tokens: an attack or a mix-up."
            }
            Self::KidMissing => "The token's header names no key: it is not one of this issuer's tokens.",
            Self::KidUnknown => {
                "The build of the backend is older than the key, or the token is from another environment, or forged."
            }
            Self::LifeTooLong => {
                "The token lives longer than any token of this issuer may: its lifetime was raised above what the key set \
                 says, or a stolen key made it."
            }
            Self::Malformed => "What was sent as a token is none, or was cut, quoted or altered on its way.",
            Self::NotPermitted => {
                "The token is good, but what is asked for is not among its scopes: it was not bought, or the instance has \
                 not synced since."
            }
            Self::SignatureInvalid => "The token was altered, or not signed by the key that it names.",
            Self::TokenMissing => "The request has no header `Authorization: Bearer …`, or more than one.",
            Self::TooLarge => {
                "The header holds something else than a token, or the catalog has outgrown the budget for tokens."
            }
            Self::TypWrong => "What was sent is a JWT for another use, for example an ID token or a probe.",
        }
    }

    /// What to do about it, and who, as a sentence.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::AlgUnsupported => "Backend team: build the verifier with the feature `rs256`.",
            Self::AudienceMismatch => {
                "Backend team: compare the configured audience with the catalog's (`token-authority catalog show`)."
            }
            Self::ClaimDuplicate | Self::ClaimMissing | Self::ClaimType => {
                "Operator: look the token up with `token-authority token inspect -`; if the issuer has no record of its \
                 `jti`, treat the key as compromised."
            }
            Self::DenyListStale => {
                "Backend team: look at the path to the issuer's /v1/deny-list; the next list that arrives mends it. Client: \
                 retry later."
            }
            Self::Expired => {
                "Administrator of the instance: let it sync, and look why it did not. Backend team: compare the clock with a \
                 time server."
            }
            Self::HeaderMismatch => {
                "Administrator of the instance: sync again, and look for a proxy that sets these headers."
            }
            Self::IssuedInFuture | Self::NotYetValid => {
                "Backend team: compare the clock with a time server; operator: the same for the issuer's database."
            }
            Self::IssuerMismatch => {
                "Backend team: copy the issuer from the manifest of the embedded key set."
            }
            Self::KeyAudience => "Operator: look at `audiences` in the manifest of the key set.",
            Self::KeyDenied => {
                "Administrator of the instance: let it sync, which brings a token under another key. Backend team: embed the \
                 newest key set."
            }
            Self::KeyExpired => {
                "Backend team: embed the newest key set and deploy. Operator: the key should have been rotated long ago \
                 (`token-authority keys plan`)."
            }
            Self::KidUnknown => {
                "Backend team: embed the newest key set (`token-authority key-set embed`) and deploy; if it is the newest, \
                 compare the environments of the instance and of the backend."
            }
            Self::LifeTooLong => {
                "Operator: compare the configured token lifetime with `max_token_ttl` of the key set; if it is within, treat \
                 the key as compromised."
            }
            Self::NotPermitted => {
                "Administrator of the instance: sync, then ask for the explanation of the unit primitive (GET \
                 /v1/entitlements)."
            }
            Self::TokenMissing => {
                "Client: send the token of the last sync as `Authorization: Bearer …`, once."
            }
            Self::TooLarge => {
                "Client: send the token alone. Operator: `token-authority catalog check` predicts the largest token."
            }
            Self::AlgMismatch
            | Self::CritUnsupported
            | Self::KeyInHeader
            | Self::KeyPurpose
            | Self::KidMissing
            | Self::Malformed
            | Self::SignatureInvalid
            | Self::TypWrong => {
                "Client: send the token of the last sync, unchanged. Backend team: if that is what was sent, find what alters \
                 it on its way; else nothing is to be done: refusing it is the verifier's job."
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        let place = Self::ALL.binary_search_by(|reason| reason.code().cmp(code));
        place.map(|place| Self::ALL[place]).map_err(|_| UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_code() {
        assert!(Reason::ALL.is_sorted_by(|left, right| left.code() < right.code()));
        for reason in Reason::ALL {
            assert_eq!(reason.code().parse(), Ok(reason));
            assert!(reason.cause().ends_with('.') && reason.remedy().ends_with('.'), "{reason}");
        }
        assert_eq!("".parse::<Reason>(), Err(UnknownReason));
    }
}
