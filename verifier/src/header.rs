//! The header of a token, read before anything in it can be believed (RFC 7515 §4).

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::members::Slot;

/// What a verifier wants to know of a header.
#[derive(Default)]
pub(crate) struct Header {
    pub(crate) alg: Option<String>,
    pub(crate) kid: Option<String>,
    pub(crate) typ: Option<String>,
    /// Has a `crit` member: demands something that must be understood (RFC 7515 §4.1.11).
    pub(crate) has_crit: bool,
    /// Brings a key, or says where to find one. Only an attacker wants that from us.
    pub(crate) brings_key: bool,
}

/// Not one JSON object whose members are each there once, with the right types.
pub(crate) struct HeaderMalformed;

impl Header {
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, HeaderMalformed> {
        // Text first: the parser does not look into what it skips.
        let json = str::from_utf8(json).map_err(|_| HeaderMalformed)?;
        serde_json::from_str::<Reading>(json).map_err(|_| HeaderMalformed)?.0
    }
}

/// Enough for every registered header parameter; keeps the search for repetitions short.
const MAX_MEMBERS: usize = 16;

/// The header parameters that carry keys, or point at them (RFC 7515 §4.1.2, §4.1.3, §4.1.5 to §4.1.8).
const KEY_BEARING: [&str; 6] = ["jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u"];

struct Reading(Result<Header, HeaderMalformed>);

impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Reading;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of header parameters")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Reading, M::Error> {
                let (mut alg, mut kid, mut typ) = (Slot::Empty, Slot::Empty, Slot::Empty);
                let mut others: Vec<String> = Vec::new();
                let mut refused = false;
                while let Some(name) = members.next_key::<String>()? {
                    refused |= match &*name {
                        "alg" => alg.fill(&mut members)?,
                        "kid" => kid.fill(&mut members)?,
                        "typ" => typ.fill(&mut members)?,
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            let duplicate = others.contains(&name);
                            if others.len() < MAX_MEMBERS {
                                others.push(name);
                                duplicate
                            } else {
                                true
                            }
                        }
                    };
                }
                Ok(Reading(match (refused, alg.into_value(), kid.into_value(), typ.into_value()) {
                    (false, Ok(alg), Ok(kid), Ok(typ)) => Ok(Header {
                        alg,
                        kid,
                        typ,
                        has_crit: others.iter().any(|name| name == "crit"),
                        brings_key: others.iter().any(|name| KEY_BEARING.contains(&&**name)),
                    }),
                    _ => Err(HeaderMalformed),
                }))
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}
