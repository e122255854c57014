//! The name of a key: the RFC 7638 thumbprint of its public half.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base64url;

/// The SHA-256 thumbprint (RFC 7638) of a public key, and so its `kid`.
///
/// Because the name follows from the key, no key can return under another name. Its text form is base64url,
/// 43 characters.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Kid([u8; 32]);

/// The text is not the thumbprint of anything: 43 characters of base64url are expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a kid is 43 characters of base64url: the SHA-256 thumbprint of the key (RFC 7638)")]
pub struct KidError;

impl Kid {
    /// The name with these thumbprint bytes.
    #[must_use]
    pub const fn new(thumbprint: [u8; 32]) -> Self {
        Self(thumbprint)
    }

    /// The thumbprint's 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kid({self})")
    }
}

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, KidError> {
        base64url::decode_array(text).map(Self).ok_or(KidError)
    }
}

impl Serialize for Kid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_reads_back_as_it_was_written() {
        let kid = Kid::new([0xA5; 32]);
        assert_eq!(kid.to_string().parse(), Ok(kid));
        assert_eq!(serde_json::from_str::<Kid>(&serde_json::to_string(&kid).unwrap()).unwrap(), kid);
    }

    #[test]
    fn what_is_no_thumbprint_is_no_kid() {
        for text in ["", "key-1", "paddedpaddedpaddedpaddedpaddedpaddedpadded=", "é"] {
            assert_eq!(text.parse::<Kid>(), Err(KidError), "{text}");
        }
    }
}
