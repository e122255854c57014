//! What a token claims to be, for people who look into one: nothing here is verified.

use std::fmt;

use crate::base64url;
use crate::header::Header;
use crate::kid::Kid;
use crate::verify::{MAX_TOKEN_BYTES, Parts};
use crate::verify_error::{Malformed, VerifyError};

/// The decoded text of a token that nobody has verified: anyone can have written it.
///
/// For display and for logs. It has no `permits`: only a [`Verifier`](crate::Verifier) makes claims that count.
#[derive(Clone, Eq, PartialEq)]
pub struct Unverified {
    header: String,
    payload: String,
    kid: Option<Kid>,
}

impl Unverified {
    /// Decodes the parts of a token of up to 8 KiB, of any issuer and algorithm.
    ///
    /// # Errors
    /// It is too long, or does not consist of parts in base64url whose text is UTF-8 and whose header is a JSON
    /// object: `too_large` or `malformed`.
    pub fn decode(token: &str) -> Result<Self, VerifyError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(VerifyError::TooLarge { limit: MAX_TOKEN_BYTES });
        }
        let parts = Parts::of(token)?;
        let header = text(parts.header).ok_or(VerifyError::Malformed(Malformed::HeaderEncoding))?;
        let payload = text(parts.payload).ok_or(VerifyError::Malformed(Malformed::PayloadEncoding))?;
        let named =
            Header::from_json(header.as_bytes()).map_err(|_| VerifyError::Malformed(Malformed::Header))?;
        let kid = named.kid.and_then(|kid| kid.parse().ok());
        Ok(Self { header, payload, kid })
    }

    /// The header's JSON.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The payload's text; JSON, if the token is one of ours.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The key that the token names, if it is the thumbprint of one; safe to log.
    #[must_use]
    pub fn kid(&self) -> Option<Kid> {
        self.kid
    }
}

/// A token is a credential: `{:?}` in a log must not spill what it says.
impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn text(part: &str) -> Option<String> {
    String::from_utf8(base64url::decode(part)?).ok()
}
