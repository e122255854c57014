//! Public keys as JSON Web Keys (RFC 7517, RFC 8037), refused unless they are beyond doubt.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::kid::Kid;

/// A public key for signatures: a valid Ed25519 point of prime order, under its thumbprint as `kid`.
///
/// Read with [`Jwk::from_json`] or serde. `kty`, `crv` and `x` are required; `alg`, `use` and `kid` follow from
/// them, may be absent (a [`KeySet`](crate::KeySet) demands them), and are refused if they say otherwise. A
/// private member is refused; other members are ignored (RFC 7517 §4).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Jwk {
    kid: Kid,
    key: VerifyingKey,
}

/// Why a JSON Web Key was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// `alg` is not the algorithm of this kind of key.
    #[error("`alg` must be EdDSA for an Ed25519 key")]
    AlgorithmMismatch,
    /// `crv` is not `Ed25519`.
    #[error("`crv` must be Ed25519")]
    CurveUnsupported,
    /// `kid` is not the key's RFC 7638 thumbprint.
    #[error("`kid` must be the key's RFC 7638 thumbprint")]
    KidMismatch,
    /// `kty` is not `OKP`.
    #[error("`kty` must be OKP")]
    KindUnsupported,
    /// Not a JSON object with members of the right types, or a member occurs twice.
    #[error("not a JSON object with the members of a key, each once and a string")]
    Malformed,
    /// A member that must be there is not; its name is in the field.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// `x` is not the canonical encoding of a point of the curve.
    #[error("`x` must be a point of the curve in canonical encoding: 32 bytes in unpadded base64url")]
    PointInvalid,
    /// The point has no part, or not only a part, in the subgroup of prime order. Such a key lets more than one
    /// signature, or message, pass as one.
    #[error("`x` must be a point of prime order")]
    PointWeak,
    /// A private member is present. Whoever published it must treat the key as compromised.
    #[error("the key contains a private member: it is compromised, do not use it")]
    Private,
    /// `use` is not `sig`.
    #[error("`use` must be sig")]
    UseMismatch,
}

impl Jwk {
    /// The key with these 32 bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// The bytes are no canonical encoding of a point, or the point is not of prime order.
    pub fn from_ed25519_public(bytes: &[u8; 32]) -> Result<Self, JwkError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| JwkError::PointInvalid)?;
        let point = key.to_edwards();
        // The library reads non-canonical encodings too: one point would have several thumbprints.
        if point.compress().as_bytes() != bytes {
            return Err(JwkError::PointInvalid);
        }
        if point.is_small_order() || !point.is_torsion_free() {
            return Err(JwkError::PointWeak);
        }
        Ok(Self { kid: thumbprint(bytes), key })
    }

    /// Reads one key.
    ///
    /// # Errors
    /// See [`JwkError`].
    pub fn from_json(json: &[u8]) -> Result<Self, JwkError> {
        serde_json::from_slice::<RawJwk>(json).map_err(|_| JwkError::Malformed)?.into_key()
    }

    /// The key's name, which is its thumbprint.
    #[must_use]
    pub const fn kid(&self) -> Kid {
        self.kid
    }

    /// The SHA-256 thumbprint (RFC 7638 §3), computed when the key was made.
    #[must_use]
    pub const fn thumbprint(&self) -> Kid {
        self.kid
    }

    /// The one algorithm with which this key signs.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        Algorithm::EdDsa
    }

    /// The public key's 32 bytes.
    #[must_use]
    pub fn ed25519_public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key as canonical JSON (RFC 8785), with all of its members.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        format!(
            r#"{{"alg":"{}","crv":"{CURVE}","kid":"{}","kty":"{KIND}","use":"{USE}","x":"{}"}}"#,
            self.algorithm(),
            self.kid,
            base64url::encode(self.ed25519_public()),
        )
    }

    /// Whether `signature` is this key's over `message`, without any malleability.
    #[must_use]
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

const CURVE: &str = "Ed25519";
const KIND: &str = "OKP";
const USE: &str = "sig";

/// RFC 7638 §3.2 with the members that RFC 8037 §2 requires.
fn thumbprint(public: &[u8; 32]) -> Kid {
    let x = base64url::encode(public);
    let json = format!(r#"{{"crv":"{CURVE}","kty":"{KIND}","x":"{x}"}}"#);
    Kid::new(Sha256::digest(json).into())
}

/// A key as it is written, before anything in it is believed.
#[derive(Deserialize)]
pub(crate) struct RawJwk {
    kty: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    kid: Option<String>,
    /// The private and symmetric members of RFC 7518 §6 and RFC 8037 §2.
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    oth: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

impl RawJwk {
    /// A key as a set publishes it: nothing left to be guessed.
    pub(crate) fn into_published_key(self) -> Result<Jwk, JwkError> {
        for (member, name) in [(&self.alg, "alg"), (&self.r#use, "use"), (&self.kid, "kid")] {
            if member.is_none() {
                return Err(JwkError::Missing(name));
            }
        }
        self.into_key()
    }

    fn into_key(self) -> Result<Jwk, JwkError> {
        let private = [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi, &self.oth, &self.k];
        if private.iter().any(|member| member.is_some()) {
            return Err(JwkError::Private);
        }
        if self.kty.ok_or(JwkError::Missing("kty"))? != KIND {
            return Err(JwkError::KindUnsupported);
        }
        if self.crv.ok_or(JwkError::Missing("crv"))? != CURVE {
            return Err(JwkError::CurveUnsupported);
        }
        if self.r#use.is_some_and(|r#use| r#use != USE) {
            return Err(JwkError::UseMismatch);
        }
        let x = self.x.ok_or(JwkError::Missing("x"))?;
        let public = base64url::decode_array(&x).ok_or(JwkError::PointInvalid)?;
        let key = Jwk::from_ed25519_public(&public)?;
        if self.alg.is_some_and(|alg| alg != key.algorithm().name()) {
            return Err(JwkError::AlgorithmMismatch);
        }
        if self.kid.is_some_and(|kid| kid.parse() != Ok(key.kid)) {
            return Err(JwkError::KidMismatch);
        }
        Ok(key)
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({})", self.kid)
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut members = serializer.serialize_struct("Jwk", 6)?;
        members.serialize_field("alg", &self.algorithm())?;
        members.serialize_field("crv", CURVE)?;
        members.serialize_field("kid", &self.kid)?;
        members.serialize_field("kty", KIND)?;
        members.serialize_field("use", USE)?;
        members.serialize_field("x", &base64url::encode(self.ed25519_public()))?;
        members.end()
    }
}

impl<'de> Deserialize<'de> for Jwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawJwk::deserialize(deserializer)?.into_key().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// RFC 8037 A.2.
    const RFC_8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    /// RFC 8037 A.3.
    const RFC_8037_THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn read(value: &Value) -> Result<Jwk, JwkError> {
        Jwk::from_json(value.to_string().as_bytes())
    }

    fn full() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": RFC_8037_X, "alg": "EdDSA", "use": "sig", "kid": RFC_8037_THUMBPRINT})
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037_a_3() {
        let key = read(&json!({"kty": "OKP", "crv": "Ed25519", "x": RFC_8037_X})).unwrap();
        assert_eq!(key.thumbprint().to_string(), RFC_8037_THUMBPRINT);
        assert_eq!(key.kid(), key.thumbprint());
    }

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        let key = read(&full()).unwrap();
        assert_eq!(Jwk::from_json(key.to_canonical_json().as_bytes()), Ok(key));
        assert_eq!(serde_json::to_string(&key).unwrap(), key.to_canonical_json());
        assert_eq!(serde_json::from_value::<Jwk>(full()).unwrap(), key);
        assert_eq!(crate::canonical_json::to_bytes(&key).unwrap(), key.to_canonical_json().as_bytes());
    }

    #[test]
    fn what_contradicts_the_key_is_refused() {
        for (member, value, error) in [
            ("kty", json!("EC"), JwkError::KindUnsupported),
            ("crv", json!("X25519"), JwkError::CurveUnsupported),
            ("alg", json!("HS256"), JwkError::AlgorithmMismatch),
            ("alg", json!("eddsa"), JwkError::AlgorithmMismatch),
            ("use", json!("enc"), JwkError::UseMismatch),
            ("kid", json!("key-1"), JwkError::KidMismatch),
            ("kid", json!(7), JwkError::Malformed),
            ("d", json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"), JwkError::Private),
            ("d", json!(1), JwkError::Private),
            ("k", json!("AA"), JwkError::Private),
        ] {
            let mut key = full();
            key[member] = value;
            assert_eq!(read(&key), Err(error), "{member}");
        }
        for member in ["kty", "crv", "x"] {
            let mut key = full();
            key.as_object_mut().unwrap().remove(member);
            assert_eq!(read(&key), Err(JwkError::Missing(member)));
        }
    }

    #[test]
    fn a_member_that_occurs_twice_is_refused() {
        let json = full().to_string().replacen('{', r#"{"kty":"OKP","#, 1);
        assert_eq!(Jwk::from_json(json.as_bytes()), Err(JwkError::Malformed));
    }

    #[test]
    fn points_that_are_not_beyond_doubt_are_refused() {
        let identity = {
            let mut y = [0; 32];
            y[0] = 1;
            y
        };
        let order_two = {
            let mut y = [0xff; 32];
            y[0] = 0xec;
            y[31] = 0x7f;
            y
        };
        let order_four = [0; 32];
        // p + 1 in the place of 1: the identity again, in a spelling that RFC 8032 §5.1.3 forbids.
        let non_canonical = {
            let mut y = [0xff; 32];
            y[0] = 0xee;
            y[31] = 0x7f;
            y
        };
        let off_the_curve = {
            let mut y = [0; 32];
            y[0] = 2;
            y
        };
        for (bytes, error) in [
            (identity, JwkError::PointWeak),
            (order_two, JwkError::PointWeak),
            (order_four, JwkError::PointWeak),
            (non_canonical, JwkError::PointInvalid),
            (off_the_curve, JwkError::PointInvalid),
        ] {
            assert_eq!(Jwk::from_ed25519_public(&bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_point_of_mixed_order_is_refused() {
        let good = read(&full()).unwrap();
        let torsion = VerifyingKey::from_bytes(&[0; 32]).unwrap().to_edwards();
        let mixed = (good.key.to_edwards() + torsion).compress().to_bytes();
        assert_eq!(Jwk::from_ed25519_public(&mixed), Err(JwkError::PointWeak));
    }

    #[test]
    fn x_has_exactly_one_spelling() {
        for x in [
            &RFC_8037_X[..42],
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp",
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        ] {
            let mut key = full();
            key["x"] = json!(x);
            assert_eq!(read(&key), Err(JwkError::PointInvalid), "{x}");
        }
        let mut padded = full();
        padded["x"] = json!(format!("{RFC_8037_X}="));
        assert_eq!(read(&padded), Err(JwkError::PointInvalid));
    }
}
