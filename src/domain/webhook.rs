//! Webhooks: where events are told, which ones, and the secret that signs them (Standard Webhooks).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use zeroize::Zeroizing;

use super::words::words;

words! {
    /// Whether events are delivered.
    WebhookState {
        /// Gone for good, and remembered.
        Deleted => "deleted",
        /// Not now: it keeps its place, and goes on from there when it is enabled again.
        Disabled => "disabled",
        Enabled => "enabled",
    }
}

/// Where events are delivered: an absolute `http` or `https` URL, without user, password and fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebhookUrl(Url);

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebhookUrlError {
    #[error("must not hold a user or a password: they would be shown; deliveries are signed instead")]
    Credentials,
    #[error("must be an absolute URL such as `https://example.com/hooks`, without a fragment")]
    Malformed,
    #[error("must be 2048 characters at the most")]
    TooLong,
}

impl WebhookUrl {
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether anyone on the way can read what is delivered.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for WebhookUrl {
    type Err = WebhookUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().count() > LONGEST_URL {
            return Err(WebhookUrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| WebhookUrlError::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookUrlError::Credentials);
        }
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || url.fragment().is_some() {
            return Err(WebhookUrlError::Malformed);
        }
        // Escapes may have made it longer.
        if url.as_str().len() > LONGEST_URL { Err(WebhookUrlError::TooLong) } else { Ok(Self(url)) }
    }
}

/// Which events are wanted: one type (`license.revoke`), or all of a kind (`license.*`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventTypes(String);

/// The text names no type of event.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be a type of event such as `license.revoke`, or all of a kind, such as `license.*`")]
pub struct NoEventType;

impl EventTypes {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventTypes {
    type Err = NoEventType;

    fn from_str(text: &str) -> Result<Self, NoEventType> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        match text.split_once('.') {
            Some((kind, what)) if text.len() <= 100 && is_word(kind) && (is_word(what) || what == "*") => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NoEventType),
        }
    }
}

impl fmt::Display for EventTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What signs the deliveries to one webhook. No `Display`, a redacted `Debug`, wiped when it goes.
#[derive(Clone)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// As the specification hands it out: `whsec_` and the bytes in base64.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + self.0.len().div_ceil(3) * 4));
        text.push_str(PREFIX);
        STANDARD.encode_string(&*self.0, &mut text);
        text
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret([redacted])")
    }
}

/// Records whose content is told with their events, because whoever reads the feed may read them as well. Of other
/// kinds an event says only that there was a change; who may read the audit finds it there.
#[must_use]
pub fn tells_content(subject_kind: &str) -> bool {
    TOLD_KINDS.contains(&subject_kind)
}

/// Sorted. What the scope `fulfillment:read` can read.
const TOLD_KINDS: [&str; 7] =
    ["add_on_purchase", "backend", "customer", "import", "instance", "license", "subscription"];

const LONGEST_URL: usize = 2048;
const PREFIX: &str = "whsec_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_absolute_and_holds_no_secret_of_its_own() {
        let parse = |text: &str| text.parse::<WebhookUrl>().map(|url| url.as_str().to_owned());
        assert_eq!(parse("https://example.com/hooks?a=b").unwrap(), "https://example.com/hooks?a=b");
        assert_eq!(parse("https://user@example.com/"), Err(WebhookUrlError::Credentials));
        assert_eq!(parse("https://:pass@example.com/"), Err(WebhookUrlError::Credentials));
        for wrong in
            ["example.com", "/hooks", "ftp://example.com", "https://", "https://example.com/#a", "data:,a"]
        {
            assert_eq!(parse(wrong), Err(WebhookUrlError::Malformed), "{wrong}");
        }
        assert_eq!(
            parse(&format!("https://example.com/{}", "a".repeat(2048))),
            Err(WebhookUrlError::TooLong)
        );
        assert_eq!(parse(&format!("https://example.com/{}", "ä".repeat(500))), Err(WebhookUrlError::TooLong));
        // Other spellings of an address become the one that is checked.
        assert_eq!(parse("http://0x7f.1/").unwrap(), "http://127.0.0.1/");
        assert_eq!(parse("http://2130706433/").unwrap(), "http://127.0.0.1/");
    }

    #[test]
    fn a_type_is_a_kind_and_what_happened() {
        for right in ["license.revoke", "add_on_purchase.*", "key_set.floor_raised"] {
            assert_eq!(right.parse::<EventTypes>().unwrap().as_str(), right);
        }
        for wrong in
            ["", "license", "license.", ".revoke", "*", "*.revoke", "license.*x", "License.revoke", "a.b.c"]
        {
            assert!(wrong.parse::<EventTypes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_written_as_the_specification_says_and_never_printed() {
        let secret = WebhookSecret::from_bytes(&[0xff; 32]);
        assert_eq!(&**secret.to_text(), "whsec_//////////////////////////////////////////8=");
        assert_eq!(format!("{secret:?}"), "WebhookSecret([redacted])");
    }
}
