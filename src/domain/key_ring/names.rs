//! The names that the ring shares with the wire.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::domain::words::words;

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
    type Err = NotAKid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| NotAKid(text.to_owned()))
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

words! {
    /// What a key signs with: a property of the key, never of a token.
    Algorithm {
        /// Ed25519 under the name that verifiers know (RFC 8037 §3.1).
        EdDsa => "EdDSA",
        /// RSA for verifiers that know nothing else (RFC 7518 §3.3).
        Rs256 => "RS256",
    }
}

words! {
    /// What a key signs. No key signs two kinds of thing.
    Purpose {
        AccessToken => "access_token",
        AuditCheckpoint => "audit_checkpoint",
        DenyList => "deny_list",
    }
}

/// A text that cannot be a kid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no kid, which is 43 characters of base64url")]
pub struct NotAKid(String);

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
