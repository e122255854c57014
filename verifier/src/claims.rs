//! What a token says (RFC 7519 §4, RFC 9068 §2.2), read so that no wrong type passes for an absent claim.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::members::{FromJson, OfWrongType, Slot};

/// The claims of an access token, in the order in which they are written.
///
/// Times are seconds since 1970-01-01T00:00:00Z (`NumericDate` without a fraction).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Claims {
    /// The issuer, exactly as configured: no trailing slash is added or taken away.
    pub iss: String,
    /// The instance, by the id that it gave itself.
    pub sub: String,
    /// The backends that may accept the token. Written as an array; read as a string too (RFC 7519 §4.1.3).
    pub aud: Vec<String>,
    /// When it was issued.
    pub iat: i64,
    /// From when on it may be used; a little before `iat`, for clocks that are behind.
    pub nbf: i64,
    /// From when on it may not be used any more.
    pub exp: i64,
    /// The token's own id, under which the issuer recorded it.
    pub jti: String,
    /// The unit primitives that the instance may use.
    pub scopes: Vec<String>,
    /// Where the instance runs: `self-managed` or `saas`.
    pub gitlab_realm: String,
    /// The instance, by the id that the issuer gave it.
    pub gitlab_instance_uid: String,
    /// The seats behind the scopes, where seats are counted: a decimal number as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duo_seat_count: Option<String>,
}

/// The claims that this crate knows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is described where `Claims` has it")]
pub enum Claim {
    Iss,
    Sub,
    Aud,
    Iat,
    Nbf,
    Exp,
    Jti,
    Scopes,
    GitlabRealm,
    GitlabInstanceUid,
    DuoSeatCount,
}

/// Why a payload is not a set of claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// A claim occurs twice (RFC 7519 §4 lets a reader refuse that; readers that differ in which one counts
    /// would differ in what the token says).
    #[error("the claim `{0}` occurs twice")]
    Duplicate(Claim),
    /// A claim that this crate does not know occurs twice.
    #[error("a claim occurs twice")]
    DuplicateUnknown,
    /// Not one JSON object.
    #[error("the claims are not one JSON object")]
    Malformed,
    /// A required claim is missing.
    #[error("the claim `{0}` is missing")]
    Missing(Claim),
    /// A claim has another JSON type than it must have.
    #[error("the claim `{0}` must be {expected}", expected = .0.expected())]
    Type(Claim),
}

impl Claims {
    /// Whether the token permits the use of a unit primitive.
    ///
    /// Holds only for claims that a [`Verifier`](crate::Verifier) returned.
    #[must_use]
    pub fn permits(&self, unit_primitive: &str) -> bool {
        self.scopes.iter().any(|scope| scope == unit_primitive)
    }

    /// Reads claims without verifying anything but their form. Unknown claims are ignored.
    ///
    /// # Errors
    /// See [`ClaimsError`].
    pub fn from_json(json: &[u8]) -> Result<Self, ClaimsError> {
        // Text first: the parser does not look into what it skips.
        let json = str::from_utf8(json).map_err(|_| ClaimsError::Malformed)?;
        serde_json::from_str::<Reading>(json).map_err(|_| ClaimsError::Malformed)?.0
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reading::deserialize(deserializer)?.0.map_err(D::Error::custom)
    }
}

impl Claim {
    /// Its name in the token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iss => "iss",
            Self::Sub => "sub",
            Self::Aud => "aud",
            Self::Iat => "iat",
            Self::Nbf => "nbf",
            Self::Exp => "exp",
            Self::Jti => "jti",
            Self::Scopes => "scopes",
            Self::GitlabRealm => "gitlab_realm",
            Self::GitlabInstanceUid => "gitlab_instance_uid",
            Self::DuoSeatCount => "duo_seat_count",
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Iat | Self::Nbf | Self::Exp => "a whole number of seconds",
            Self::Aud => "an array of strings, or one string",
            Self::Scopes => "an array of strings",
            _ => "a string",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "iss" => Self::Iss,
            "sub" => Self::Sub,
            "aud" => Self::Aud,
            "iat" => Self::Iat,
            "nbf" => Self::Nbf,
            "exp" => Self::Exp,
            "jti" => Self::Jti,
            "scopes" => Self::Scopes,
            "gitlab_realm" => Self::GitlabRealm,
            "gitlab_instance_uid" => Self::GitlabInstanceUid,
            "duo_seat_count" => Self::DuoSeatCount,
            _ => return None,
        })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The outcome of reading claims, apart from the JSON around them: serde's own errors are only text.
struct Reading(Result<Claims, ClaimsError>);

impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimsVisitor;
        impl<'de> Visitor<'de> for ClaimsVisitor {
            type Value = Reading;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of claims")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Reading, M::Error> {
                let mut slots = Slots::default();
                let mut duplicate = None;
                while let Some(name) = members.next_key::<Name>()? {
                    if let Some(found) = slots.read(name, &mut members)? {
                        duplicate.get_or_insert(found);
                    }
                }
                Ok(Reading(duplicate.map_or_else(|| slots.into_claims(), Err)))
            }
        }
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

/// What was found of each claim so far.
#[derive(Default)]
struct Slots {
    iss: Slot<String>,
    sub: Slot<String>,
    aud: Slot<Audience>,
    iat: Slot<i64>,
    nbf: Slot<i64>,
    exp: Slot<i64>,
    jti: Slot<String>,
    scopes: Slot<Vec<String>>,
    gitlab_realm: Slot<String>,
    gitlab_instance_uid: Slot<String>,
    duo_seat_count: Slot<String>,
    unknown: BTreeSet<String>,
}

impl Slots {
    /// Takes in the member `name`; says whether it was there before.
    fn read<'de, M: MapAccess<'de>>(
        &mut self,
        name: Name,
        members: &mut M,
    ) -> Result<Option<ClaimsError>, M::Error> {
        let claim = match name {
            Name::Known(claim) => claim,
            Name::Unknown(name) => {
                members.next_value::<IgnoredAny>()?;
                return Ok((!self.unknown.insert(name)).then_some(ClaimsError::DuplicateUnknown));
            }
        };
        let duplicate = match claim {
            Claim::Iss => self.iss.fill(members)?,
            Claim::Sub => self.sub.fill(members)?,
            Claim::Aud => self.aud.fill(members)?,
            Claim::Iat => self.iat.fill(members)?,
            Claim::Nbf => self.nbf.fill(members)?,
            Claim::Exp => self.exp.fill(members)?,
            Claim::Jti => self.jti.fill(members)?,
            Claim::Scopes => self.scopes.fill(members)?,
            Claim::GitlabRealm => self.gitlab_realm.fill(members)?,
            Claim::GitlabInstanceUid => self.gitlab_instance_uid.fill(members)?,
            Claim::DuoSeatCount => self.duo_seat_count.fill(members)?,
        };
        Ok(duplicate.then_some(ClaimsError::Duplicate(claim)))
    }

    fn into_claims(self) -> Result<Claims, ClaimsError> {
        fn required<T>(slot: Slot<T>, claim: Claim) -> Result<T, ClaimsError> {
            optional(slot, claim)?.ok_or(ClaimsError::Missing(claim))
        }
        fn optional<T>(slot: Slot<T>, claim: Claim) -> Result<Option<T>, ClaimsError> {
            slot.into_value().map_err(|OfWrongType| ClaimsError::Type(claim))
        }
        Ok(Claims {
            iss: required(self.iss, Claim::Iss)?,
            sub: required(self.sub, Claim::Sub)?,
            aud: required(self.aud, Claim::Aud)?.0,
            iat: required(self.iat, Claim::Iat)?,
            nbf: required(self.nbf, Claim::Nbf)?,
            exp: required(self.exp, Claim::Exp)?,
            jti: required(self.jti, Claim::Jti)?,
            scopes: required(self.scopes, Claim::Scopes)?,
            gitlab_realm: required(self.gitlab_realm, Claim::GitlabRealm)?,
            gitlab_instance_uid: required(self.gitlab_instance_uid, Claim::GitlabInstanceUid)?,
            duo_seat_count: optional(self.duo_seat_count, Claim::DuoSeatCount)?,
        })
    }
}

/// A member's name; owned only where the claim is unknown.
enum Name {
    Known(Claim),
    Unknown(String),
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a claim's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Claim::from_name(name).map_or_else(|| Name::Unknown(name.to_owned()), Name::Known))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// One audience may stand without its array.
struct Audience(Vec<String>);

impl FromJson for Audience {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(vec![text.to_owned()]))
    }
    fn from_texts(texts: Vec<String>) -> Option<Self> {
        Some(Self(texts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn full() -> Value {
        json!({
            "iss": "https://authority.example.com", "sub": "3f0f7d5e", "aud": ["gitlab-ai-gateway"],
            "iat": 1_763_647_380, "nbf": 1_763_647_375, "exp": 1_763_676_180, "jti": "01999",
            "scopes": ["complete_code", "duo_chat"], "gitlab_realm": "self-managed",
            "gitlab_instance_uid": "01998", "duo_seat_count": "25"
        })
    }

    fn read(value: &Value) -> Result<Claims, ClaimsError> {
        Claims::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn claims_are_written_in_one_order_and_read_back() {
        let claims = read(&full()).unwrap();
        let json = serde_json::to_string(&claims).unwrap();
        assert_eq!(
            json,
            r#"{"iss":"https://authority.example.com","sub":"3f0f7d5e","aud":["gitlab-ai-gateway"],"iat":1763647380,"nbf":1763647375,"exp":1763676180,"jti":"01999","scopes":["complete_code","duo_chat"],"gitlab_realm":"self-managed","gitlab_instance_uid":"01998","duo_seat_count":"25"}"#
        );
        assert_eq!(serde_json::from_str::<Claims>(&json).unwrap(), claims);
        assert!(claims.permits("duo_chat") && !claims.permits("duo") && !claims.permits("duo_chat "));
    }

    #[test]
    fn seats_that_are_not_counted_are_not_written() {
        let mut value = full();
        value.as_object_mut().unwrap().remove("duo_seat_count");
        let claims = read(&value).unwrap();
        assert_eq!(claims.duo_seat_count, None);
        assert!(!serde_json::to_string(&claims).unwrap().contains("seat"));
    }

    #[test]
    fn every_claim_must_have_its_type_and_be_there() {
        let names: Vec<_> = full().as_object().unwrap().keys().cloned().collect();
        for name in names {
            let claim = Claim::from_name(&name).unwrap();
            assert_eq!(claim.name(), name);
            for wrong in [
                json!(null),
                json!(true),
                json!(1.5),
                json!({"a": [1]}),
                json!([1]),
                json!(["a", null]),
                json!(u64::MAX),
            ] {
                let mut value = full();
                value[&name] = wrong;
                assert_eq!(read(&value), Err(ClaimsError::Type(claim)), "{value}");
            }
            let mut value = full();
            let expected_text = value[&name].is_string() || name == "aud";
            value[&name] = if expected_text { json!(7) } else { json!("7") };
            assert_eq!(read(&value), Err(ClaimsError::Type(claim)), "{value}");
            value.as_object_mut().unwrap().remove(&name);
            let missing = (name != "duo_seat_count").then_some(ClaimsError::Missing(claim));
            assert_eq!(read(&value).err(), missing, "{name}");
        }
    }

    #[test]
    fn one_audience_may_stand_without_its_array() {
        let mut value = full();
        value["aud"] = json!("gitlab-ai-gateway");
        assert_eq!(read(&value), read(&full()));
    }

    #[test]
    fn unknown_claims_are_ignored_unless_they_occur_twice() {
        let json = full().to_string();
        let with =
            |members: &str| Claims::from_json(json.replacen('{', &format!("{{{members},"), 1).as_bytes());
        assert_eq!(with(r#""extra":{"exp":[]}"#), read(&full()));
        assert_eq!(with(r#""extra":1,"extra":1"#), Err(ClaimsError::DuplicateUnknown));
        assert_eq!(with(r#""exp":9999999999"#), Err(ClaimsError::Duplicate(Claim::Exp)));
        assert_eq!(with(r#""\u0065xp":9999999999"#), Err(ClaimsError::Duplicate(Claim::Exp)));
        assert_eq!(with(r#""duo_seat_count":null"#), Err(ClaimsError::Duplicate(Claim::DuoSeatCount)));
    }

    #[test]
    fn what_is_not_one_object_is_malformed() {
        for json in ["", "[]", "null", "{", "{} {}", "\"\"", "{\"iss\":\"\u{1}\"}"] {
            assert_eq!(Claims::from_json(json.as_bytes()), Err(ClaimsError::Malformed), "{json}");
        }
    }
}
