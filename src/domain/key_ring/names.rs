//! The names that the ring shares with the wire.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The RFC 7638 thumbprint of a public key: a key cannot return under another name.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Kid([u8; 32]);

impl Kid {
    /// The kid of the key with this thumbprint.
    #[must_use]
    pub fn new(thumbprint: [u8; 32]) -> Self {
        Self(thumbprint)
    }

    /// The kid of an Ed25519 public key (RFC 8037, appendix A.3).
    #[must_use]
    pub fn of_ed25519(point: &[u8; 32]) -> Self {
        let x = BASE64_URL_SAFE_NO_PAD.encode(point);
        Self(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)).into())
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kid({self})")
    }
}

impl FromStr for Kid {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| NotAName { text: text.to_owned(), needed: "kid (43 characters of base64url)" })
    }
}

/// The SHA-256 of a manifest's payload: the link between one key set and the next.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SetDigest([u8; 32]);

impl SetDigest {
    #[must_use]
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetDigest({self})")
    }
}

/// What a key signs with: a property of the key, never of a token.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// Ed25519 under the name that verifiers know (RFC 8037).
    EdDsa,
    /// RSA for verifiers that know nothing else (RFC 7518 §3.3).
    Rs256,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::EdDsa, Self::Rs256];

    /// The `alg` of its tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|alg| alg.as_str() == text)
            .ok_or_else(|| NotAName { text: text.to_owned(), needed: "signature algorithm" })
    }
}

/// What a key signs. No key signs two kinds of thing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    AccessToken,
    AuditCheckpoint,
    DenyList,
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::AccessToken, Self::AuditCheckpoint, Self::DenyList];

    /// The word in the database and in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::AuditCheckpoint => "audit_checkpoint",
            Self::DenyList => "deny_list",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| NotAName { text: text.to_owned(), needed: "purpose of a key" })
    }
}

/// A text that names nothing of its kind.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is no {needed}")]
pub struct NotAName {
    text: String,
    needed: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.3.
    #[test]
    fn the_kid_of_an_ed25519_key_is_its_thumbprint() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let point = BASE64_URL_SAFE_NO_PAD.decode(x).unwrap().try_into().unwrap();
        let kid = Kid::of_ed25519(&point);
        assert_eq!(kid.to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(kid.to_string().parse(), Ok(kid));
    }

    #[test]
    fn a_text_of_another_length_or_alphabet_is_no_kid() {
        for text in ["", "kPrK", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k=", &"+".repeat(43)] {
            assert!(text.parse::<Kid>().is_err(), "{text}");
        }
    }
}
