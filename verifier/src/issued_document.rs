//! Documents that a key of the service signs: a compact JWS (RFC 7515 §7.1) over canonical JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::jws::{ProtectedHeader, Typ};
use crate::kid::Kid;
use crate::manifest::{Manifest, ManifestKey, Purpose};
use crate::signed::Verified;
use crate::{base64url, canonical_json};

/// A document whose signature is right; what it says is still to be judged.
pub(crate) struct Opened<'a, T> {
    pub(crate) content: T,
    pub(crate) payload: Vec<u8>,
    pub(crate) kid: Kid,
    /// What the root says about the key that signed.
    pub(crate) key: &'a ManifestKey,
}

/// Why a document was refused.
pub(crate) enum Refusal {
    /// The protected header is another one than such documents have.
    Header,
    /// The key set holds no key of this name for this purpose.
    KeyUnknown(Kid),
    Malformed,
    /// The payload is not canonical JSON.
    NotCanonical,
    SignatureInvalid,
    TooLarge,
}

/// What a kind of document is signed as, and by which keys.
#[derive(Clone, Copy)]
pub(crate) struct DocumentKind {
    pub(crate) typ: Typ,
    pub(crate) purpose: Purpose,
    pub(crate) max_bytes: usize,
}

impl DocumentKind {
    /// The bytes that `kid` has to sign; `None` where a number is no exact integer.
    pub(crate) fn signing_input<T: Serialize>(self, document: &T, kid: Kid) -> Option<String> {
        Some(self.header(kid).signing_input(&canonical_json::to_bytes(document)?))
    }

    /// Reads a document, once a key of `manifest` for this purpose has signed it.
    pub(crate) fn open<'a, T: DeserializeOwned + Serialize>(
        self,
        jws: &str,
        manifest: &'a Verified<Manifest>,
    ) -> Result<Opened<'a, T>, Refusal> {
        if jws.len() > self.max_bytes {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = jws.trim_end().rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (protected, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let kid = self.named_by(protected)?;

        let named = manifest.find(kid).filter(|key| key.purpose == self.purpose);
        let (key, jwk) =
            named.and_then(|key| Some((key, key.jwk.as_ref()?))).ok_or(Refusal::KeyUnknown(kid))?;
        let signature = base64url::decode_array(signature).ok_or(Refusal::Malformed)?;
        if !jwk.has_signed(signed.as_bytes(), &signature) {
            return Err(Refusal::SignatureInvalid);
        }

        let payload = base64url::decode(payload).ok_or(Refusal::Malformed)?;
        let content: T = serde_json::from_slice(&payload).map_err(|_| Refusal::Malformed)?;
        // No member occurs twice, and none was passed over.
        if canonical_json::to_bytes(&content).is_none_or(|spelled| spelled != payload) {
            return Err(Refusal::NotCanonical);
        }
        Ok(Opened { content, payload, kid, key })
    }

    /// Such documents are signed by Ed25519 keys only.
    fn header(self, kid: Kid) -> ProtectedHeader {
        ProtectedHeader::new(self.typ, Algorithm::EdDsa, kid)
    }

    /// The key that a document names as the one that signed it, which is still to be proved.
    pub(crate) fn signer(self, jws: &str) -> Result<Kid, Refusal> {
        let (protected, _) = jws.split_once('.').ok_or(Refusal::Malformed)?;
        self.named_by(protected)
    }

    fn named_by(self, protected: &str) -> Result<Kid, Refusal> {
        /// Enough of a header to write it anew.
        #[derive(Deserialize)]
        struct Named {
            kid: Kid,
        }
        let json = base64url::decode(protected).ok_or(Refusal::Header)?;
        let Named { kid } = serde_json::from_slice(&json).map_err(|_| Refusal::Header)?;
        if self.header(kid).encoded() == protected { Ok(kid) } else { Err(Refusal::Header) }
    }
}

/// Keys, and a manifest that holds them.
#[cfg(test)]
pub(crate) mod fixture {
    use std::time::{Duration, SystemTime};

    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::jwk::Jwk;
    use crate::manifest::{Denial, SignedManifest};
    use crate::root::{Root, SignedRoot};
    use crate::timestamp::Timestamp;

    /// Key 1 is for access tokens, key 2 for deny lists, key 3 is the root's, key 4 is for audit checkpoints. All end
    /// at 1000.
    pub(crate) fn manifest(mut denied: Vec<Denial>) -> Verified<Manifest> {
        denied.sort_unstable();
        let created = timestamp(0).unwrap();
        let root = Root {
            issuer: ISSUER.to_owned(),
            environment: "test".to_owned(),
            version: 1,
            threshold: 1,
            keys: vec![key(3)],
            created,
            development: true,
        };
        let root = SignedRoot::new(root).unwrap();
        let signature = secret(3).sign(root.signing_input(key(3).kid()).as_bytes()).to_bytes();
        let root = root.with_signature(key(3).kid(), signature).unwrap();
        let root = root.verify_pinned(root.digest()).unwrap();

        let described = |n: u8, purpose: Purpose| ManifestKey {
            kid: key(n).kid(),
            alg: Algorithm::EdDsa,
            purpose,
            not_after: timestamp(1000).unwrap(),
            audiences: None,
            jwk: (purpose != Purpose::AccessTokens).then(|| key(n)),
        };
        let mut keys = vec![
            described(1, Purpose::AccessTokens),
            described(2, Purpose::DenyList),
            described(4, Purpose::AuditCheckpoints),
        ];
        keys.sort_by_key(|key| key.kid);
        let manifest = Manifest {
            issuer: ISSUER.to_owned(),
            environment: "test".to_owned(),
            version: 1,
            prev: None,
            created,
            build_before: timestamp(1).unwrap(),
            jwks_sha256: crate::KeySet::new([key(1)]).unwrap().digest(),
            max_token_ttl: 1,
            leeway: 0,
            keys,
            denied,
            min_deployable_version: 1,
            root_version: 1,
        };
        let manifest = SignedManifest::new(manifest).unwrap();
        let signature = secret(3).sign(manifest.signing_input(key(3).kid()).as_bytes()).to_bytes();
        manifest.with_signature(key(3).kid(), signature).unwrap().verify(&root).unwrap()
    }

    pub(crate) const ISSUER: &str = "https://authority.example.com";

    pub(crate) fn timestamp(seconds: i64) -> Option<Timestamp> {
        Timestamp::from_unix(seconds)
    }

    pub(crate) fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    pub(crate) fn secret(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    pub(crate) fn key(n: u8) -> Jwk {
        Jwk::from_ed25519_public(secret(n).verifying_key().as_bytes()).unwrap()
    }
}
