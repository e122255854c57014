//! `keyset.lock`: which key set a backend has embedded, and which root it trusts for the next one.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What stands in a backend's own repository beside the key set that it embeds. It says where trust begins, so it
/// is changed by embedding and reviewed as code.
///
/// Its members are named as in the report of a deployment, which repeats them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The issuer (`iss`) of the tokens.
    pub issuer: String,
    /// The environment, which never changes: another one has a folder of its own.
    pub environment: String,
    /// The version of the trusted root.
    pub root_version: u32,
    /// The digest of the trusted root's payload. Later roots are followed from there.
    pub root_digest: Digest,
    /// The version of the embedded key set. The next one is not lower.
    pub key_set_version: u32,
    /// The digest of the embedded plain set, `jwks.json`.
    pub key_set_digest: Digest,
    /// The serial of the embedded deny list; none (`null`) where there was none. The next one is not lower.
    pub deny_list_serial: Option<u64>,
}

/// The text is no `keyset.lock`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a keyset.lock: {0}")]
pub struct LockError(String);

impl Lock {
    /// Reads a `keyset.lock`.
    ///
    /// # Errors
    /// A member is missing, unknown, or of the wrong type; the sentence says which.
    pub fn parse(json: &[u8]) -> Result<Self, LockError> {
        serde_json::from_slice(json).map_err(|error| LockError(error.to_string()))
    }

    /// The one spelling of this lock: JSON with a member a line, so that a review shows what changed.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = String::from("{\n");
        let quoted = |value: &str| serde_json::Value::from(value).to_string();
        let members = [
            ("issuer", quoted(&self.issuer)),
            ("environment", quoted(&self.environment)),
            ("root_version", self.root_version.to_string()),
            ("root_digest", quoted(&self.root_digest.to_string())),
            ("key_set_version", self.key_set_version.to_string()),
            ("key_set_digest", quoted(&self.key_set_digest.to_string())),
            (
                "deny_list_serial",
                self.deny_list_serial.map_or_else(|| "null".to_owned(), |serial| serial.to_string()),
            ),
        ];
        let lines: Vec<_> = members.iter().map(|(name, value)| format!("  \"{name}\": {value}")).collect();
        text.push_str(&lines.join(",\n"));
        text.push_str("\n}\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_reads_back_what_it_wrote() {
        for deny_list_serial in [None, Some(12)] {
            let lock = Lock {
                issuer: "https://authority.example.com/\"".to_owned(),
                environment: "production".to_owned(),
                root_version: 2,
                root_digest: Digest::of(b"root"),
                key_set_version: 7,
                key_set_digest: Digest::of(b"set"),
                deny_list_serial,
            };
            let text = lock.to_json();
            assert_eq!(Lock::parse(text.as_bytes()), Ok(lock));
            assert_eq!(text.lines().count(), 9);
        }
    }

    #[test]
    fn what_a_lock_does_not_say_is_not_guessed() {
        let told = Lock::parse(br#"{"issuer":"x"}"#).unwrap_err().to_string();
        assert!(told.contains("environment"), "{told}");
        assert!(Lock::parse(br#"{"trust":"everybody"}"#).is_err());
    }
}
