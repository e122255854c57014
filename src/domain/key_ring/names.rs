//! The names that the ring shares with the wire.

use crate::domain::words::words;

pub use token_authority_verifier::{Digest, Kid, Purpose};

words! {
    /// What a key signs with: a property of the key, never of a token. Verifiers of
    /// ours know the first; the second is for those that know nothing else.
    Algorithm {
        /// Ed25519 under the name that verifiers know (RFC 8037 §3.1).
        EdDsa => "EdDSA",
        /// RSA (RFC 7518 §3.3).
        Rs256 => "RS256",
    }
}

impl From<Algorithm> for token_authority_verifier::Algorithm {
    fn from(alg: Algorithm) -> Self {
        match alg {
            Algorithm::EdDsa => Self::EdDsa,
            Algorithm::Rs256 => Self::Rs256,
        }
    }
}

/// Every purpose that a key of the service can have. The root's keys are not among
/// them: they never touch the service.
pub const PURPOSES: [Purpose; 3] = [Purpose::AccessTokens, Purpose::AuditCheckpoints, Purpose::DenyList];
