//! A plain JSON Web Key Set (RFC 7517 §5) of access-token keys.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::jwk::{Jwk, JwkError, RawJwk};
use crate::kid::Kid;

/// Public keys, each once, sorted by kid.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct KeySet {
    keys: Vec<Jwk>,
}

/// Why a key set was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Two keys have one name.
    #[error("the key {0} occurs twice")]
    DuplicateKid(Kid),
    /// Without a key nothing can be verified.
    #[error("the key set is empty")]
    Empty,
    /// One of the keys is refused.
    #[error("key {index} of the set (counted from 0) is refused")]
    Key {
        /// Its place in the file, counted from 0.
        index: usize,
        /// What is wrong with it.
        source: JwkError,
    },
    /// Not a JSON object whose `keys` is an array of objects.
    #[error("not a JSON Web Key Set: a JSON object whose `keys` is an array of keys")]
    Malformed,
    /// More bytes, or more keys, than any set needs.
    #[error("the key set is larger than {MAX_BYTES} bytes or {MAX_KEYS} keys")]
    TooLarge,
}

/// A set of 64 RSA keys of 4096 bits has 59 KiB; one of Ed25519 keys has 14.
const MAX_BYTES: usize = 65_536;
const MAX_KEYS: usize = 64;

impl KeySet {
    /// A set of these keys.
    ///
    /// # Errors
    /// There is no key, one occurs twice, or there are more than 64.
    pub fn new(keys: impl IntoIterator<Item = Jwk>) -> Result<Self, KeySetError> {
        let mut keys: Vec<Jwk> = keys.into_iter().collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooLarge);
        }
        keys.sort_by_key(Jwk::kid);
        match keys.windows(2).find(|pair| pair[0].kid() == pair[1].kid()) {
            Some(pair) => Err(KeySetError::DuplicateKid(pair[0].kid())),
            None => Ok(Self { keys }),
        }
    }

    /// Reads a `jwks.json`. Every key must name its `alg`, `use` and `kid`; unknown members of the set and of
    /// its keys are ignored (RFC 7517 §5), keys of an unknown kind are not.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse(jwks: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct RawKeySet {
            keys: Vec<RawJwk>,
        }
        if jwks.len() > MAX_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let raw: RawKeySet = serde_json::from_slice(jwks).map_err(|_| KeySetError::Malformed)?;
        let mut keys = Vec::with_capacity(raw.keys.len());
        for (index, key) in raw.keys.into_iter().enumerate() {
            keys.push(key.into_published_key().map_err(|source| KeySetError::Key { index, source })?);
        }
        Self::new(keys)
    }

    /// The key of this name.
    #[must_use]
    pub fn find(&self, kid: Kid) -> Option<&Jwk> {
        self.keys.binary_search_by_key(&kid, Jwk::kid).ok().map(|index| &self.keys[index])
    }

    /// The keys, sorted by kid.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Jwk> {
        self.keys.iter()
    }

    /// The set's one spelling (RFC 8785): what is published, and what a manifest's `jwks_sha256` digests.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(Jwk::to_canonical_json).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(","))
    }

    /// The digest of [`to_canonical_json`](Self::to_canonical_json).
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_canonical_json().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use serde_json::json;

    use super::*;

    fn key(seed: u8) -> Jwk {
        Jwk::from_ed25519_public(SigningKey::from_bytes(&[seed; 32]).verifying_key().as_bytes()).unwrap()
    }

    #[test]
    fn the_same_keys_in_any_order_are_the_same_bytes() {
        let set = KeySet::new([key(1), key(2), key(3)]).unwrap();
        let json = set.to_canonical_json();
        assert_eq!(KeySet::new([key(3), key(1), key(2)]).unwrap().to_canonical_json(), json);
        assert_eq!(KeySet::parse(json.as_bytes()), Ok(set.clone()));
        assert_eq!(crate::canonical_json::to_bytes(&set).unwrap(), json.as_bytes());
        assert_eq!(set.digest(), Digest::of(json.as_bytes()));
    }

    #[test]
    fn keys_are_found_by_name() {
        let set = KeySet::new([key(1), key(2)]).unwrap();
        assert_eq!(set.find(key(2).kid()), Some(&key(2)));
        assert_eq!(set.find(key(3).kid()), None);
        assert_eq!(set.iter().len(), 2);
    }

    #[test]
    fn a_set_that_leaves_a_doubt_is_refused() {
        let good = serde_json::to_value(key(1)).unwrap();
        let read = |set: serde_json::Value| KeySet::parse(set.to_string().as_bytes()).unwrap_err();
        assert_eq!(read(json!({"keys": []})), KeySetError::Empty);
        assert_eq!(read(json!({"keys": {}})), KeySetError::Malformed);
        assert_eq!(read(json!([good])), KeySetError::Malformed);
        assert_eq!(read(json!({"keys": [good, good]})), KeySetError::DuplicateKid(key(1).kid()));
        for member in ["alg", "use", "kid", "x"] {
            let mut bare = good.clone();
            bare.as_object_mut().unwrap().remove(member);
            let source = JwkError::Missing(member);
            assert_eq!(read(json!({"keys": [good, bare]})), KeySetError::Key { index: 1, source });
        }
    }

    #[test]
    fn a_set_has_a_bounded_size() {
        let set = KeySet::new([key(1)]).unwrap().to_canonical_json();
        let long = format!("{set}{}", " ".repeat(MAX_BYTES));
        assert_eq!(KeySet::parse(long.as_bytes()), Err(KeySetError::TooLarge));
        assert_eq!(KeySet::new((0..=64).map(key)), Err(KeySetError::TooLarge));
    }

    #[test]
    fn what_follows_the_set_is_refused() {
        let set = KeySet::new([key(1)]).unwrap().to_canonical_json();
        assert_eq!(KeySet::parse(format!("{set}x").as_bytes()), Err(KeySetError::Malformed));
    }
}
