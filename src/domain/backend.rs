//! A registered verifier of tokens, and the names of its processes.

use std::fmt;
use std::str::FromStr;

use super::words::words;

words! {
    /// Where a backend has its keys from.
    KeyTrust {
        /// From the key set that it fetches while it runs.
        Discovery => "discovery",
        /// From the key set that was compiled into it.
        Embedded => "embedded",
    }
}

/// What a running process calls itself: chosen anew at each start.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProcessId(String);

/// The text cannot name a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be 1 to 128 characters of A-Z, a-z, 0-9, `.`, `_` and `-`")]
pub struct NotAProcessId;

impl ProcessId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProcessId {
    type Err = NotAProcessId;

    fn from_str(text: &str) -> Result<Self, NotAProcessId> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=128).contains(&text.len()) && text.chars().all(is_known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAProcessId)
        }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_what_fits_into_a_path() {
        for good in ["gateway-5f7c9-x2x4z", "a", "01a1f98f-638c-7e41-a2c1-a5602970731c", &"x".repeat(128)] {
            assert_eq!(good.parse::<ProcessId>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a:b", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(bad.parse::<ProcessId>(), Err(NotAProcessId), "{bad}");
        }
    }
}
