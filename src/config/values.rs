//! What a setting's text turns into: types that cannot be wrong, and the sentence when the text is.

mod environment_name;
mod issuer;
mod log;
mod network;
mod traces;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

pub use environment_name::EnvironmentName;
pub use issuer::Issuer;
pub use log::{LogFilter, LogFormat};
pub use network::Network;
use secrecy::SecretString;
pub use traces::Ratio;

use crate::domain::key_ring::Algorithm;

/// A setting that can be read from text. The error completes "`name` …": "must be a whole number".
pub(in crate::config) trait Value: Sized {
    /// Parses the text of one value.
    fn parse(text: &str) -> Result<Self, String>;

    /// What stands for a value that is not set and has no default.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as it could be written again, or `None` for one that is not set. Never a secret.
    fn show(&self) -> Option<String>;
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// A list is separated by commas; an array in the file arrives the same way.
impl<T: Value> Value for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }

    fn show(&self) -> Option<String> {
        Some(self.iter().filter_map(T::show).collect::<Vec<_>>().join(","))
    }
}

impl Value for SecretString {
    fn parse(text: &str) -> Result<Self, String> {
        filled(text).map(Self::from)
    }

    fn show(&self) -> Option<String> {
        Some("[redacted]".to_owned())
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        filled(text).map(Self::from)
    }

    fn show(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be `true` or `false`".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for NonZeroUsize {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be a whole number, 1 or more".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for NonZeroU32 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be a whole number, 1 or more".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for Algorithm {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be `EdDSA` or `RS256`".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.as_str().to_owned())
    }
}

impl Value for u16 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("must be a whole number from 0 to {}", Self::MAX))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "must be an IP address and a port, such as `127.0.0.1:8080`".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A whole number with a unit (`1500ms`, `90s`, `5m`, `8h`, `14d`), or whole seconds.
///
/// # Errors
/// What the text must be.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration above zero, such as `1500ms`, `90s`, `5m`, `8h` or `14d`".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let millis_per_unit: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(millis_per_unit) {
        // A hundred years: beyond it sums of times overflow, and nobody means it.
        Some(millis @ 1..=3_155_760_000_000) => Ok(Duration::from_millis(millis)),
        _ => Err(wrong()),
    }
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }

    fn show(&self) -> Option<String> {
        let millis = self.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        units
            .iter()
            .find(|(size, _)| millis.is_multiple_of(*size))
            .map(|(size, unit)| format!("{}{unit}", millis / size))
    }
}

fn filled(text: &str) -> Result<&str, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit_or_seconds() {
        let seconds = |text| Duration::parse(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("1500ms"), Ok(1.5));
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("5m"), Ok(300.0));
        assert_eq!(seconds("8h"), Ok(28_800.0));
        assert_eq!(seconds("14d"), Ok(1_209_600.0));
        assert_eq!(Duration::from_secs(28_800).show().as_deref(), Some("8h"));
        assert_eq!(Duration::from_millis(1_500).show().as_deref(), Some("1500ms"));
        for wrong in ["", "0", "0s", "-1s", "1.5h", "8 h", "8H", "h", "99999999999999999999s", "40000d"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
