//! A key that a verifier trusts: everything about it that does not depend on a token.

use crate::algorithm::Algorithm;
use crate::denials::Denials;
use crate::jwk::Jwk;
use crate::jws::{ProtectedHeader, Typ};
use crate::manifest::{Denial, Purpose};
use crate::prepared_key::PreparedKey;
use crate::verify_error::VerifyError;

/// A key, and everything about it that does not depend on a token.
#[derive(Clone, Debug)]
pub(crate) struct TrustedKey {
    pub(crate) jwk: Jwk,
    pub(crate) prepared: PreparedKey,
    /// The header of its tokens as our issuer spells it: most tokens need no JSON parser to find their key.
    pub(crate) usual_header: ProtectedHeader,
    pub(crate) purpose: Purpose,
    pub(crate) for_audience: bool,
    /// The last second at which anything that it signed is valid.
    pub(crate) not_after: Option<i64>,
    denied: Denied,
}

/// Which of a key's tokens are denied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    None,
    IssuedAfter(i64),
    All,
}

impl TrustedKey {
    pub(crate) fn new(jwk: Jwk, purpose: Purpose) -> Self {
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

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.jwk.algorithm()
    }

    pub(crate) fn check_purpose(&self) -> Result<(), VerifyError> {
        if self.purpose == Purpose::AccessTokens { Ok(()) } else { Err(VerifyError::KeyPurpose) }
    }

    /// Whether anything that the key signs for us can be valid now.
    pub(crate) fn check_standing(
        &self,
        place: usize,
        now: i64,
        denials: &Denials,
    ) -> Result<(), VerifyError> {
        if !self.for_audience {
            return Err(VerifyError::KeyAudience);
        }
        if self.denied == Denied::All || denials.deny_all(place, now) {
            return Err(VerifyError::KeyDenied);
        }
        match self.not_after {
            Some(not_after) if now > not_after => {
                Err(VerifyError::KeyExpired { ago: now.saturating_sub(not_after) })
            }
            _ => Ok(()),
        }
    }

    /// Whether what it signed at `iat` was still believed then.
    pub(crate) fn check_issued(
        &self,
        place: usize,
        iat: i64,
        now: i64,
        denials: &Denials,
    ) -> Result<(), VerifyError> {
        let by_manifest = matches!(self.denied, Denied::IssuedAfter(last) if iat > last);
        if by_manifest || denials.deny_issued_at(place, iat, now) {
            return Err(VerifyError::KeyDenied);
        }
        Ok(())
    }

    pub(crate) fn deny(&mut self, denial: Denial) {
        self.denied = match (self.denied, denial.iat_after) {
            (Denied::All, _) | (_, None) => Denied::All,
            (Denied::None, Some(last)) => Denied::IssuedAfter(last.unix()),
            (Denied::IssuedAfter(one), Some(other)) => Denied::IssuedAfter(one.min(other.unix())),
        };
    }
}
