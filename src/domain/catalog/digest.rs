//! What identifies a version of a catalog: the hash of its canonical JSON.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use token_authority_verifier::{Digest, DigestError};

/// `sha256:` and 64 hexadecimal digits in lower case. Cheap to clone.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct CatalogDigest(Arc<str>);

impl CatalogDigest {
    /// The digest of a catalog's canonical JSON.
    #[must_use]
    pub fn of(canonical_json: &str) -> Self {
        Self(Digest::of(canonical_json.as_bytes()).to_string().into())
    }

    /// The digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CatalogDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Digest>().map(|digest| Self(digest.to_string().into()))
    }
}

impl TryFrom<String> for CatalogDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CatalogDigest> for String {
    fn from(digest: CatalogDigest) -> Self {
        digest.0.as_ref().to_owned()
    }
}

impl fmt::Display for CatalogDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// JSON with sorted members and no blanks: one text for each value. For what a catalog holds (texts, lists
/// and members named in ASCII, no numbers) this is RFC 8785.
///
/// The order is made here, because whether `serde_json` keeps members sorted depends on the features that
/// other crates ask of it.
pub(super) fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(member, text);
            }
            text.push('}');
        }
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_is_sorted_and_has_no_blanks() {
        let value = json!({"b": [{"z": "é\n", "a": null}, []], "a": {}});
        assert_eq!(canonical_json(&value), r#"{"a":{},"b":[{"a":null,"z":"é\n"},[]]}"#);
    }

    #[test]
    fn a_digest_is_the_hash_of_the_text() {
        // `printf '{}' | sha256sum`
        let expected = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(CatalogDigest::of("{}").as_str(), expected);
        assert_eq!(expected.parse::<CatalogDigest>().unwrap(), CatalogDigest::of("{}"));
        assert_eq!("sha256:44".parse::<CatalogDigest>(), Err(DigestError));
    }
}
