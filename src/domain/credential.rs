//! Secrets that we hand out: a prefix that names the kind, 256 random bits, a checksum.
//!
//! They are shown once and stored only as a keyed digest. The prefix lets secret
//! scanners find a leak; the checksum tells a mistyped one apart without a lookup.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What a credential opens.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CredentialKind {
    /// Activates instances under one license.
    ActivationCode,
    /// Authenticates a caller of the admin API.
    AdminToken,
    /// Authenticates a backend that reports its deployments.
    BackendToken,
    /// Authenticates one instance.
    InstanceSecret,
    /// Authenticates one instance of the older surface, without its uid.
    LicenseKey,
}

impl CredentialKind {
    /// The first characters of every credential of this kind.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::ActivationCode => "tac_",
            Self::AdminToken => "taa_",
            Self::BackendToken => "tab_",
            Self::InstanceSecret => "tai_",
            Self::LicenseKey => "tal_",
        }
    }

    /// Separates the digests of one kind from those of another.
    #[must_use]
    pub fn digest_label(self) -> &'static str {
        match self {
            Self::ActivationCode => "activation_code",
            Self::AdminToken => "admin_token",
            Self::BackendToken => "backend_token",
            Self::InstanceSecret => "instance_secret",
            Self::LicenseKey => "license_key",
        }
    }
}

/// One secret in clear. It has no `Display`, its `Debug` is redacted, and its
/// memory is wiped when it goes.
#[derive(Clone)]
pub struct Credential {
    kind: CredentialKind,
    text: Zeroizing<String>,
}

impl Credential {
    /// The credential that these random bits make.
    #[must_use]
    pub fn from_random(kind: CredentialKind, bits: &[u8; RANDOM_BYTES]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(kind.prefix().len() + BODY_LEN + CHECKSUM_LEN));
        text.push_str(kind.prefix());
        URL_SAFE_NO_PAD.encode_string(bits, &mut text);
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Self { kind, text }
    }

    /// Reads a credential of the expected kind.
    ///
    /// Returns `None` for any other prefix, length or alphabet, and where the
    /// checksum does not fit: such a text was never handed out.
    #[must_use]
    pub fn parse(kind: CredentialKind, text: &str) -> Option<Self> {
        let body = text.strip_prefix(kind.prefix())?;
        if body.len() != BODY_LEN + CHECKSUM_LEN || !body.is_ascii() {
            return None;
        }
        let (signed, given) = text.split_at(text.len() - CHECKSUM_LEN);
        URL_SAFE_NO_PAD.decode(&body[..BODY_LEN]).ok()?;
        (checksum(signed) == given).then(|| Self { kind, text: Zeroizing::new(text.to_owned()) })
    }

    /// What it opens.
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }

    /// The text itself: to digest it, or to show it the one time it is shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("kind", &self.kind).field("text", &"[redacted]").finish()
    }
}

fn checksum(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(text.as_bytes())[..CHECKSUM_BYTES])
}

/// 256 bits.
pub const RANDOM_BYTES: usize = 32;
const BODY_LEN: usize = 43;
const CHECKSUM_BYTES: usize = 3;
const CHECKSUM_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_reads_back_as_its_own_kind_only() {
        let made = Credential::from_random(CredentialKind::InstanceSecret, &[7; 32]);
        assert!(made.expose().starts_with("tai_"));
        let read = Credential::parse(CredentialKind::InstanceSecret, made.expose()).expect("reads back");
        assert_eq!(read.expose(), made.expose());
        assert!(Credential::parse(CredentialKind::AdminToken, made.expose()).is_none());
    }

    #[test]
    fn any_changed_character_is_noticed() {
        let made = Credential::from_random(CredentialKind::AdminToken, &[0xA5; 32]);
        for at in 0..made.expose().len() {
            let mut bytes = made.expose().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(bytes).expect("ASCII");
            assert!(Credential::parse(CredentialKind::AdminToken, &text).is_none(), "at {at}");
        }
    }

    #[test]
    fn its_debug_form_hides_the_text() {
        let made = Credential::from_random(CredentialKind::ActivationCode, &[1; 32]);
        assert!(!format!("{made:?}").contains(&made.expose()[4..]));
    }
}
