//! Versions as instances report them, and as the catalog names them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version of the vendor's software, ordered by precedence (Semantic Versioning 2.0 §11).
///
/// Reading is lenient where installations are: a leading `v` is dropped, missing numbers are zero (`17.1` is
/// `17.1.0`), and so are the edition and package revision that some builds append (`17.1.0-ee`, `17.1.0-ce.0`)
/// and build metadata (`17.1.0+20260101`), which say nothing about what the software can do.
///
/// Every other suffix is a pre-release and comes before its release: `17.1.0-pre` and `17.1.0-rc42-ee` do
/// not reach a minimum of `17.1`, since a feature may have landed after that build was made. They do reach
/// `17.0`.
///
/// Two texts that differ only in what is dropped are the same version.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version(semver::Version);

/// A text that is not a version. The message says what is wrong, without the text itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidVersion {
    #[error("a version is written like 17.1 or 17.1.0: {0}")]
    Malformed(String),
    #[error("a version has at most {MAX_LENGTH} characters")]
    TooLong,
}

/// Longer texts are refused before they are read.
pub const MAX_LENGTH: usize = 64;

/// Suffixes that name the edition of a build, not a state of its code.
const EDITIONS: [&str; 2] = ["ee", "ce"];

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidVersion::TooLong);
        }
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(before, _build)| before);
        let (numbers, suffix) =
            text.split_once('-').map_or((text, None), |(numbers, suffix)| (numbers, Some(suffix)));
        let padding = match numbers.split('.').count() {
            1 => ".0.0",
            2 => ".0",
            _ => "",
        };
        let padded = match suffix.map(without_edition) {
            None | Some(Some("")) => format!("{numbers}{padding}"),
            Some(Some(pre)) => format!("{numbers}{padding}-{pre}"),
            Some(None) => return Err(InvalidVersion::Malformed("its suffix is empty".to_owned())),
        };
        semver::Version::parse(&padded)
            .map(Self)
            .map_err(|error| InvalidVersion::Malformed(error.to_string()))
    }
}

/// The suffix without its edition and package revision: `rc42-ee.0` is `rc42`, `ee` is nothing at all.
/// `None` for an empty suffix, which is a mistake.
fn without_edition(suffix: &str) -> Option<&str> {
    if suffix.is_empty() {
        return None;
    }
    let (before, last) = suffix.rsplit_once('-').unwrap_or(("", suffix));
    let (name, revision) = last.split_once('.').unwrap_or((last, ""));
    let is_edition = EDITIONS.contains(&name) && revision.bytes().all(|byte| byte.is_ascii_digit());
    Some(if is_edition { before } else { suffix })
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn missing_numbers_are_zero() {
        assert_eq!(version("17"), version("17.0.0"));
        assert_eq!(version("17.1"), version("17.1.0"));
        assert_eq!(version("17.1").to_string(), "17.1.0");
    }

    #[test]
    fn numbers_compare_as_numbers() {
        assert!(version("17.10") > version("17.9.9"));
        assert!(version("17.1") < version("17.10"));
    }

    #[test]
    fn an_edition_a_package_revision_and_build_metadata_change_nothing() {
        for text in
            ["v17.1.0-ee", "17.1.0-ee", "17.1-ce", "17.1.0-ee.0", "17.1.0-ce.12", "17.1.0+build.7", "V17.1"]
        {
            assert_eq!(version(text), version("17.1.0"), "{text}");
        }
    }

    #[test]
    fn a_pre_release_comes_before_its_release_and_after_the_one_before() {
        for text in ["17.1.0-pre", "17.1.0-rc42-ee", "17.1.0-rc42", "17.1.0-beta.1-ee.0", "17.1-pre"] {
            assert!(version(text) < version("17.1"), "{text}");
            assert!(version(text) > version("17.0.9"), "{text}");
        }
        assert_eq!(version("17.1.0-rc42-ee"), version("17.1.0-rc42"));
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "v",
            "seventeen",
            "17.",
            "17..1",
            "17.1.0.1",
            "017.1",
            "17.1.0-",
            " 17.1",
            "17.1 ",
            "-1",
            "17.1.0-é",
        ] {
            assert!(matches!(text.parse::<Version>(), Err(InvalidVersion::Malformed(_))), "{text:?}");
        }
        assert_eq!("1".repeat(65).parse::<Version>(), Err(InvalidVersion::TooLong));
    }

    proptest! {
        #[test]
        fn a_version_reads_back_what_it_prints(text in "v?[0-9]{1,3}(\\.[0-9]{1,3}){0,2}(-(pre|rc[0-9]|ee|rc1-ee\\.0))?") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
            }
        }

        #[test]
        fn no_text_makes_reading_panic(text in ".{0,80}") {
            let _ = text.parse::<Version>();
        }
    }
}
