//! What a setting's text turns into: types that cannot be wrong, and the sentence when the text is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

/// A setting that can be read from text. The error completes "`name` …": "must be a whole number".
pub(super) trait Value: Sized {
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
impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be a duration above zero, such as `1500ms`, `90s`, `5m`, `8h` or `14d`".to_owned();
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
            Some(millis @ 1..=3_155_760_000_000) => Ok(Self::from_millis(millis)),
            _ => Err(wrong()),
        }
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

/// How logs are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For the eye.
    Text,
}

impl Value for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("must be `json` or `text`".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Which events are logged: directives that tracing-subscriber understands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err("must be a level (`info`), or directives such as `info,sqlx=warn`".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// The name of an environment: it is also a folder under `keys_dir`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the environment in which a development root, plain `http` and the like are allowed.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.0 == "development"
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for EnvironmentName {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let named = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed);
        if named && text.len() <= 40 {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a name of lower-case letters, digits and `-` that starts with a letter, of 40 \
                 characters at most"
                .to_owned())
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromStr for EnvironmentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// Who issues the tokens: an absolute URL, kept byte for byte, without a trailing slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    text: String,
    /// Plain `http` to another machine: anyone in between may answer for the issuer.
    is_exposed: bool,
}

impl Issuer {
    /// The URL exactly as it was configured: the `iss` of every token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is plain `http` to a host that is not this machine, which only development may use.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.is_exposed
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Value for Issuer {
    fn parse(text: &str) -> Result<Self, String> {
        let url =
            Url::parse(text).map_err(|_| "must be an absolute URL such as `https://tokens.example.com`")?;
        if text.ends_with('/') {
            return Err("must not end with a slash: verifiers compare `iss` byte for byte".to_owned());
        }
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("must be an `https` URL with a host".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password: every token shows it".to_owned());
        }
        // RFC 8414 section 2: an issuer has no query and no fragment.
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query or a fragment".to_owned());
        }
        // Verifiers see bytes, not URLs: only the normal form is unmistakable.
        if url.as_str().trim_end_matches('/') != text {
            return Err(format!(
                "must be written in its normal form, `{}`",
                url.as_str().trim_end_matches('/')
            ));
        }
        let is_exposed = url.scheme() == "http" && !url.host().is_some_and(is_loopback);
        Ok(Self { text: text.to_owned(), is_exposed })
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

fn is_loopback(host: Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// A range of addresses, as `10.0.0.0/8`; a single address is a range of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` lies in this range. An IPv4 address in IPv6 clothes counts as the IPv4 one.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be networks such as `10.0.0.0/8` or `::1`, and `{text}` is none");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse().ok().filter(|p| *p <= bits).ok_or_else(wrong)?,
        };
        Ok(Self { address, prefix })
    }
}

impl Value for Network {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
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

    #[test]
    fn an_issuer_is_kept_byte_for_byte_and_has_one_spelling() {
        for right in ["https://tokens.example.com", "https://example.com/licensing", "http://127.0.0.1:8080"]
        {
            let issuer = Issuer::parse(right).unwrap();
            assert_eq!(issuer.as_str(), right);
            assert!(!issuer.is_exposed());
        }
        assert!(Issuer::parse("http://tokens.example.com").unwrap().is_exposed());
        assert!(!Issuer::parse("http://[::1]:80").is_ok_and(|issuer| issuer.is_exposed()));
        for wrong in [
            "tokens.example.com",
            "https://tokens.example.com/",
            "HTTPS://tokens.example.com",
            "https://Tokens.example.com",
            "https://tokens.example.com:443",
            "https://user@tokens.example.com",
            "https://tokens.example.com?a=b",
            "https://tokens.example.com#a",
            "ftp://tokens.example.com",
            "https://tokens.example.com/a/../b",
        ] {
            assert!(Issuer::parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse::<IpAddr>().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.200.3.4"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(!contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "::1"));
        assert!(!contains("::/0", "10.0.0.1"));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "::/129", "host", "10.0.0.0/", "/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn an_environment_cannot_leave_its_folder() {
        assert!(EnvironmentName::parse("development").unwrap().is_development());
        assert!(!EnvironmentName::parse("staging-2").unwrap().is_development());
        for wrong in ["", "..", "a/b", "Production", "-a", "2a", "a_b"] {
            assert!(EnvironmentName::parse(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
