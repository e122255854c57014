//! Links to pages for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

/// Links are at most this long, in bytes.
const MAX_LENGTH: usize = 512;

/// An absolute `http` or `https` URL without credentials, kept as it was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(into = "String", try_from = "String")]
pub struct HttpUrl(String);

/// A text that is no such link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a link is an absolute http or https URL without credentials, of at most {MAX_LENGTH} bytes")]
pub struct InvalidUrl;

impl HttpUrl {
    /// The link as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // The parser drops blanks and line ends silently; what is kept here must not hold any.
        if text.len() > MAX_LENGTH || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidUrl);
        }
        let url = Url::parse(&text).map_err(|_| InvalidUrl)?;
        let is_web = matches!(url.scheme(), "http" | "https") && text.contains("://");
        if is_web && url.username().is_empty() && url.password().is_none() {
            Ok(Self(text))
        } else {
            Err(InvalidUrl)
        }
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_kept_as_it_was_written() {
        for text in
            ["https://docs.example.com/duo/chat", "http://localhost:8080/a?b=c#d", "https://example.com"]
        {
            assert_eq!(text.parse::<HttpUrl>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_no_web_link_is_refused() {
        let too_long = format!("https://example.com/{}", "a".repeat(MAX_LENGTH));
        for text in [
            "",
            "docs/chat.md",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://user:secret@example.com",
            "https://exam ple.com",
            "https://example.com/\n",
            "https:example.com",
            &too_long,
        ] {
            assert_eq!(text.parse::<HttpUrl>(), Err(InvalidUrl), "{text:?}");
        }
    }
}
