//! The issuer's URL, which verifiers compare byte for byte.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use super::Value;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
