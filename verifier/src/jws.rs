//! What a signature covers: the protected header and the signing input (RFC 7515 §5.1).

use crate::algorithm::Algorithm;
use crate::base64url;
use crate::kid::Kid;

/// What a signed text is for. One kind is never taken for another (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Typ {
    /// An access token, `at+jwt` (RFC 9068 §2.1).
    AccessToken,
    /// How far the audit went, and what it said.
    AuditCheckpoint,
    /// What is denied between two builds.
    DenyList,
    /// The root's word on its own keys.
    KeySetRoot,
    /// The root's word on a key set.
    KeySetManifest,
    /// A token that asks a verifier for its verdict, and grants nothing.
    Probe,
    /// The issuer's word that an instance was released, by an audit-checkpoint key.
    ReleaseReceipt,
}

impl Typ {
    /// The exact text of the `typ` member.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::AuditCheckpoint => "audit-checkpoint+jws",
            Self::DenyList => "deny-list+jws",
            Self::KeySetRoot => "key-set-root+jws",
            Self::KeySetManifest => "key-set-manifest+jws",
            Self::Probe => "probe+jwt",
            Self::ReleaseReceipt => "release-receipt+jwt",
        }
    }
}

/// The protected header that every signature of ours carries: canonical JSON `{"alg":…,"kid":…,"typ":…}`.
///
/// It depends on nothing but the key and the purpose, so a signer makes it once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProtectedHeader(String);

impl ProtectedHeader {
    /// The header of what `kid` signs as `typ`.
    #[must_use]
    pub fn new(typ: Typ, algorithm: Algorithm, kid: Kid) -> Self {
        let json = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"{}"}}"#, typ.name());
        Self(base64url::encode(json.as_bytes()))
    }

    /// The header in base64url, as it stands in a token.
    #[must_use]
    pub fn encoded(&self) -> &str {
        &self.0
    }

    /// The bytes to sign for `payload`; for a token, all of it but the last dot and the signature.
    #[must_use]
    pub fn signing_input(&self, payload: &[u8]) -> String {
        let mut input = String::with_capacity(self.0.len() + 1 + (payload.len() * 4).div_ceil(3) + 90);
        input.push_str(&self.0);
        input.push('.');
        base64url::append(payload, &mut input);
        input
    }
}

/// Completes a signing input to a compact JWS (RFC 7515 §7.1), the form of a token.
#[must_use]
pub fn compact(mut signing_input: String, signature: &[u8]) -> String {
    signing_input.push('.');
    base64url::append(signature, &mut signing_input);
    signing_input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_payload_and_signature_are_joined_by_dots() {
        let header = ProtectedHeader::new(Typ::AccessToken, Algorithm::EdDsa, Kid::new([0; 32]));
        let json = base64url::decode(header.encoded()).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            r#"{"alg":"EdDSA","kid":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","typ":"at+jwt"}"#
        );
        let input = header.signing_input(b"{}");
        assert_eq!(input, format!("{}.e30", header.encoded()));
        assert_eq!(compact(input, &[0, 0, 0]), format!("{}.e30.AAAA", header.encoded()));
    }
}
