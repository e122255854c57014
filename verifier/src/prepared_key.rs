//! Signature verification, prepared once per key.

use std::fmt;
use std::sync::Arc;

use crate::base64url;
use crate::ed25519::StrictKey;
use crate::jwk::{Jwk, PublicKey};
use crate::verify_error::{Malformed, VerifyError};

/// A key in the form that verifies fastest. Cheap to clone.
#[derive(Clone)]
pub(crate) enum PreparedKey {
    Ed25519(Arc<StrictKey>),
    #[cfg(feature = "rs256")]
    Rsa(aws_lc_rs::signature::ParsedPublicKey),
    /// This build cannot verify what the key signs.
    Unsupported,
}

impl PreparedKey {
    pub(crate) fn new(jwk: &Jwk) -> Self {
        match jwk.public_key() {
            PublicKey::Ed25519(key) => Self::Ed25519(Arc::new(StrictKey::new(key))),
            PublicKey::Rsa(key) => rsa(key),
        }
    }

    /// Whether this build can verify what the key signs.
    pub(crate) fn check_supported(&self) -> Result<(), VerifyError> {
        match self {
            Self::Unsupported => Err(VerifyError::AlgUnsupported),
            _ => Ok(()),
        }
    }

    /// Checks the signature of a token, in base64url, over the characters before it.
    pub(crate) fn check(&self, signed: &str, signature: &str) -> Result<(), VerifyError> {
        let malformed = VerifyError::Malformed(Malformed::Signature);
        let right = match self {
            Self::Ed25519(key) => {
                key.has_signed(signed.as_bytes(), &base64url::decode_array(signature).ok_or(malformed)?)
            }
            #[cfg(feature = "rs256")]
            Self::Rsa(key) => {
                let signature = base64url::decode(signature).ok_or(malformed)?;
                key.verify_sig(signed.as_bytes(), &signature).is_ok()
            }
            Self::Unsupported => return Err(VerifyError::AlgUnsupported),
        };
        if right { Ok(()) } else { Err(VerifyError::SignatureInvalid) }
    }
}

#[cfg(feature = "rs256")]
fn rsa(key: &crate::jwk::RsaPublicKey) -> PreparedKey {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    let components = RsaPublicKeyComponents { n: key.modulus(), e: crate::jwk::RsaPublicKey::EXPONENT };
    components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_or(PreparedKey::Unsupported, PreparedKey::Rsa)
}

#[cfg(not(feature = "rs256"))]
fn rsa(_: &crate::jwk::RsaPublicKey) -> PreparedKey {
    PreparedKey::Unsupported
}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "PreparedKey(Ed25519)",
            #[cfg(feature = "rs256")]
            Self::Rsa(_) => "PreparedKey(RSA)",
            Self::Unsupported => "PreparedKey(unsupported)",
        })
    }
}
