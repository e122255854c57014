//! The public half of an RSA key, within the bounds that every verifier handles.

use super::JwkError;

/// A modulus of 2048 to 4096 bits with the exponent 65537.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct RsaPublicKey {
    /// Big-endian, without a leading zero.
    modulus: Box<[u8]>,
}

/// In bytes. Less can be factored (NIST SP 800-131A allows no less); more makes every verification slow.
const MODULUS_LENGTHS: std::ops::RangeInclusive<usize> = 256..=512;

impl RsaPublicKey {
    /// The one exponent that is accepted: small ones have a history of forgeries, large ones cost whoever verifies.
    pub(crate) const EXPONENT: &[u8] = &[1, 0, 1];

    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, JwkError> {
        if exponent != Self::EXPONENT {
            return Err(JwkError::ExponentUnsupported);
        }
        // A first byte below 128 would make 2041 bits pass for 2048.
        let large = MODULUS_LENGTHS.contains(&modulus.len()) && modulus[0] >= 0x80;
        if !large || modulus.last().is_none_or(|last| last % 2 == 0) {
            return Err(JwkError::ModulusInvalid);
        }
        Ok(Self { modulus: modulus.into() })
    }

    pub(crate) fn modulus(&self) -> &[u8] {
        &self.modulus
    }
}
