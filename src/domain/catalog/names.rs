//! The names of what is sold, one type per kind, so that none can stand in for another.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names are at most this long. They are scopes of tokens, whose size is a budget.
pub const MAX_LENGTH: usize = 64;

/// A text that is no name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a name has 1 to {MAX_LENGTH} characters out of a–z, 0–9 and _")]
pub struct InvalidName;

fn check(text: &str) -> Result<(), InvalidName> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(is_allowed) {
        return Err(InvalidName);
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// 1 to 64 characters out of `a-z`, `0-9` and `_`. Cheap to clone.
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Refuses what is not a name.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// What a customer can buy in addition to a plan: `duo_pro`.
    AddOnName
    /// A hosted backend, which verifies tokens: `ai_gateway`.
    BackendName
    /// A plan: `premium`.
    LicenseTypeName
    /// A group of unit primitives as older instances know them: `code_suggestions`.
    ServiceName
    /// The smallest sellable piece of a feature, and a scope of tokens: `duo_chat`.
    UnitPrimitiveName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_snake_case_and_bounded() {
        assert_eq!(UnitPrimitiveName::new("ask_epic2").unwrap().as_str(), "ask_epic2");
        let longest = "a".repeat(64);
        assert!(AddOnName::new(&longest).is_ok());
        for text in ["", "Duo", "duo-pro", "duo pro", "é", &format!("{longest}a"), "../x", "duo\n"] {
            assert_eq!(AddOnName::new(text), Err(InvalidName), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_checked_on_its_way_in_from_json_too() {
        assert!(serde_json::from_str::<BackendName>(r#""ai_gateway""#).is_ok());
        assert!(serde_json::from_str::<BackendName>(r#""AI gateway""#).is_err());
    }
}
