//! Public keys as JSON Web Keys (RFC 7517, RFC 8037), refused unless they are beyond doubt.

mod rsa;

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

pub(crate) use rsa::RsaPublicKey;

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::kid::Kid;

/// A public key for signatures under its thumbprint as `kid`: a valid Ed25519 point of prime order, or an RSA key of
/// 2048 to 4096 bits for RS256.
///
/// Read with [`Jwk::from_json`] or serde. `kty`, and `crv` and `x` or `n` and `e`, are required; `alg`, `use` and
/// `kid` follow from them, may be absent (a [`KeySet`](crate::KeySet) demands them), and are refused if they say
/// otherwise. A private member is refused; other members are ignored (RFC 7517 §4).
#[derive(Clone, Eq, PartialEq)]
pub struct Jwk {
    kid: Kid,
    key: PublicKey,
}

/// The key itself, by kind.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum PublicKey {
    Ed25519(VerifyingKey),
    Rsa(Arc<RsaPublicKey>),
}

/// Why a JSON Web Key was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// `alg` is not the algorithm of this kind of key.
    #[error("`alg` must be EdDSA for an Ed25519 key, and RS256 for an RSA key")]
    AlgorithmMismatch,
    /// `crv` is not `Ed25519`.
    #[error("`crv` must be Ed25519")]
    CurveUnsupported,
    /// `e` is not 65537.
    #[error("`e` must be AQAB (65537)")]
    ExponentUnsupported,
    /// `kid` is not the key's RFC 7638 thumbprint.
    #[error("`kid` must be the key's RFC 7638 thumbprint")]
    KidMismatch,
    /// `kty` is neither `OKP` nor `RSA`.
    #[error("`kty` must be OKP or RSA")]
    KindUnsupported,
    /// Not a JSON object with members of the right types, or a member occurs twice.
    #[error("not a JSON object with the members of a key, each once and a string")]
    Malformed,
    /// A member that must be there is not; its name is in the field.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// `n` is no odd number of 2048 to 4096 bits without a leading zero.
    #[error(
        "`n` must be an odd number of 2048 to 4096 bits, big-endian without a leading zero, in unpadded base64url"
    )]
    ModulusInvalid,
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
    /// The Ed25519 key with these 32 bytes (RFC 8032 §5.1.5).
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
        // RFC 7638 §3.2 with the members that RFC 8037 §2 requires.
        let x = base64url::encode(bytes);
        let kid = thumbprint(&format!(r#"{{"crv":"{CURVE}","kty":"{OKP}","x":"{x}"}}"#));
        Ok(Self { kid, key: PublicKey::Ed25519(key) })
    }

    /// The RSA key with this modulus and this public exponent, both big-endian (RFC 7518 §6.3.1).
    ///
    /// # Errors
    /// The modulus is not an odd number of 2048 to 4096 bits without a leading zero, or the exponent is not 65537.
    pub fn from_rsa_public(modulus: &[u8], exponent: &[u8]) -> Result<Self, JwkError> {
        let key = RsaPublicKey::new(modulus, exponent)?;
        let (n, e) = (base64url::encode(key.modulus()), base64url::encode(RsaPublicKey::EXPONENT));
        let kid = thumbprint(&format!(r#"{{"e":"{e}","kty":"{RSA}","n":"{n}"}}"#));
        Ok(Self { kid, key: PublicKey::Rsa(Arc::new(key)) })
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
        match self.key {
            PublicKey::Ed25519(_) => Algorithm::EdDsa,
            PublicKey::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// The 32 bytes of an Ed25519 key.
    #[must_use]
    pub fn ed25519_public(&self) -> Option<&[u8; 32]> {
        match &self.key {
            PublicKey::Ed25519(key) => Some(key.as_bytes()),
            PublicKey::Rsa(_) => None,
        }
    }

    /// The modulus of an RSA key, big-endian. Its exponent is always 65537.
    #[must_use]
    pub fn rsa_modulus(&self) -> Option<&[u8]> {
        match &self.key {
            PublicKey::Ed25519(_) => None,
            PublicKey::Rsa(key) => Some(key.modulus()),
        }
    }

    /// The key as canonical JSON (RFC 8785), with all of its members.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        let (alg, kid) = (self.algorithm(), self.kid);
        match &self.key {
            PublicKey::Ed25519(key) => {
                let x = base64url::encode(key.as_bytes());
                format!(
                    r#"{{"alg":"{alg}","crv":"{CURVE}","kid":"{kid}","kty":"{OKP}","use":"{USE}","x":"{x}"}}"#
                )
            }
            PublicKey::Rsa(key) => {
                let (n, e) = (base64url::encode(key.modulus()), base64url::encode(RsaPublicKey::EXPONENT));
                format!(r#"{{"alg":"{alg}","e":"{e}","kid":"{kid}","kty":"{RSA}","n":"{n}","use":"{USE}"}}"#)
            }
        }
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether `signature` is this Ed25519 key's over `message`, without any malleability; no RSA key ever signs what
    /// this is asked about.
    #[must_use]
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match &self.key {
            PublicKey::Ed25519(key) => {
                key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
            }
            PublicKey::Rsa(_) => false,
        }
    }
}

const CURVE: &str = "Ed25519";
const OKP: &str = "OKP";
const RSA: &str = "RSA";
const USE: &str = "sig";

/// The digest of a key's required members, sorted (RFC 7638 §3).
fn thumbprint(required_members: &str) -> Kid {
    Kid::new(Sha256::digest(required_members).into())
}

/// A key as it is written, before anything in it is believed.
#[derive(Deserialize)]
pub(crate) struct RawJwk {
    kty: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    n: Option<String>,
    e: Option<String>,
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
        let key = match self.kty.as_deref().ok_or(JwkError::Missing("kty"))? {
            OKP => self.ed25519_key()?,
            RSA => self.rsa_key()?,
            _ => return Err(JwkError::KindUnsupported),
        };
        if self.r#use.is_some_and(|r#use| r#use != USE) {
            return Err(JwkError::UseMismatch);
        }
        if self.alg.is_some_and(|alg| alg != key.algorithm().name()) {
            return Err(JwkError::AlgorithmMismatch);
        }
        if self.kid.is_some_and(|kid| kid.parse() != Ok(key.kid)) {
            return Err(JwkError::KidMismatch);
        }
        Ok(key)
    }

    fn ed25519_key(&self) -> Result<Jwk, JwkError> {
        if self.crv.as_deref().ok_or(JwkError::Missing("crv"))? != CURVE {
            return Err(JwkError::CurveUnsupported);
        }
        let x = self.x.as_deref().ok_or(JwkError::Missing("x"))?;
        Jwk::from_ed25519_public(&base64url::decode_array(x).ok_or(JwkError::PointInvalid)?)
    }

    fn rsa_key(&self) -> Result<Jwk, JwkError> {
        let n = self.n.as_deref().ok_or(JwkError::Missing("n"))?;
        let e = self.e.as_deref().ok_or(JwkError::Missing("e"))?;
        let modulus = base64url::decode(n).ok_or(JwkError::ModulusInvalid)?;
        Jwk::from_rsa_public(&modulus, &base64url::decode(e).ok_or(JwkError::ExponentUnsupported)?)
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
        match &self.key {
            PublicKey::Ed25519(key) => {
                members.serialize_field("crv", CURVE)?;
                members.serialize_field("kid", &self.kid)?;
                members.serialize_field("kty", OKP)?;
                members.serialize_field("use", USE)?;
                members.serialize_field("x", &base64url::encode(key.as_bytes()))?;
            }
            PublicKey::Rsa(key) => {
                members.serialize_field("e", &base64url::encode(RsaPublicKey::EXPONENT))?;
                members.serialize_field("kid", &self.kid)?;
                members.serialize_field("kty", RSA)?;
                members.serialize_field("n", &base64url::encode(key.modulus()))?;
                members.serialize_field("use", USE)?;
            }
        }
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
        assert_eq!(Jwk::from_json(key.to_canonical_json().as_bytes()).as_ref(), Ok(&key));
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
        let good = VerifyingKey::from_bytes(good.ed25519_public().unwrap()).unwrap().to_edwards();
        let mixed = (good + torsion).compress().to_bytes();
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

    /// RFC 7638 §3.1: an RSA key of 2048 bits, and its thumbprint.
    const RFC_7638_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const RFC_7638_THUMBPRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    #[test]
    fn an_rsa_key_has_the_thumbprint_of_rfc_7638_3_1_and_reads_back() {
        let key = read(&json!({"kty": "RSA", "n": RFC_7638_N, "e": "AQAB"})).unwrap();
        assert_eq!(key.kid().to_string(), RFC_7638_THUMBPRINT);
        assert_eq!(key.algorithm(), Algorithm::Rs256);
        assert_eq!(Jwk::from_json(key.to_canonical_json().as_bytes()).as_ref(), Ok(&key));
        assert_eq!(serde_json::to_string(&key).unwrap(), key.to_canonical_json());
        assert_eq!(crate::canonical_json::to_bytes(&key).unwrap(), key.to_canonical_json().as_bytes());
    }

    #[test]
    fn an_rsa_key_that_leaves_a_doubt_is_refused() {
        for (member, value, error) in [
            ("alg", json!("EdDSA"), JwkError::AlgorithmMismatch),
            ("alg", json!("PS256"), JwkError::AlgorithmMismatch),
            ("e", json!("Aw"), JwkError::ExponentUnsupported),
            ("e", json!("AAEAAQ"), JwkError::ExponentUnsupported),
            ("n", json!(&RFC_7638_N[..256]), JwkError::ModulusInvalid),
            ("n", json!(format!("AAAA{RFC_7638_N}")), JwkError::ModulusInvalid),
            ("n", json!(format!("{}hA", &RFC_7638_N[..340])), JwkError::ModulusInvalid),
            ("n", json!(format!("{RFC_7638_N}==")), JwkError::ModulusInvalid),
            ("kid", json!(RFC_8037_THUMBPRINT), JwkError::KidMismatch),
            ("d", json!("AA"), JwkError::Private),
        ] {
            let mut key = json!({"kty": "RSA", "n": RFC_7638_N, "e": "AQAB", "alg": "RS256", "use": "sig"});
            assert!(read(&key).is_ok());
            key[member] = value;
            assert_eq!(read(&key), Err(error), "{member}");
        }
        for member in ["n", "e"] {
            let mut key = json!({"kty": "RSA", "n": RFC_7638_N, "e": "AQAB"});
            key.as_object_mut().unwrap().remove(member);
            assert_eq!(read(&key), Err(JwkError::Missing(member)));
        }
    }
}
