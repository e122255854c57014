//! The deny list: what the issuer takes away from keys between two builds. It can only deny.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::jws::{ProtectedHeader, Typ};
use crate::kid::Kid;
use crate::manifest::{Denial, Manifest, Purpose};
use crate::signed::{Contradiction, Verified};
use crate::timestamp::Timestamp;
use crate::{base64url, canonical_json};

/// What is denied now, in one environment: the payload of a compact JWS (RFC 7515 §7.1) with `typ`
/// `deny-list+jws`, signed by a key of the purpose `deny_list` in the environment's key set.
///
/// The key set decides whom to believe; this list only takes belief away, so a stolen deny-list key can stop a
/// backend, but never open it. An entry that was read once counts until its own `until`, even if a later list
/// omits it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DenyList {
    /// The issuer (`iss`) of the tokens.
    pub issuer: String,
    /// The environment.
    pub environment: String,
    /// Counts the changes of the list. A reader takes none with a lower serial than one that it has.
    pub serial: u64,
    /// When it was signed. It is signed anew, unchanged, every hour: an old one is a sign of a broken path.
    pub created: Timestamp,
    /// Sorted by kid, each once.
    pub entries: Vec<DenyListEntry>,
}

/// A key that is not to be believed, and until when that has to be said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DenyListEntry {
    /// The key's name. It may be in no key set that the reader knows.
    pub kid: Kid,
    /// Denies only what was issued after this instant; none denies all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat_after: Option<Timestamp>,
    /// The key's `not_after`: later, its end denies it anyway.
    pub until: Timestamp,
}

/// Why a deny list was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DenyListError {
    /// Its members contradict each other.
    #[error("the deny list contradicts itself: {0}")]
    Contradictory(#[from] Contradiction),
    /// It is of another issuer or environment.
    #[error("the deny list is another issuer's or environment's")]
    Foreign,
    /// The protected header is not exactly the one that deny lists have.
    #[error("the protected header must be exactly {{\"alg\":\"EdDSA\",\"kid\":…,\"typ\":\"deny-list+jws\"}}")]
    Header,
    /// The key is denied or has ended.
    #[error("the key {0} may not sign deny lists any more")]
    KeyEnded(Kid),
    /// The key set holds no key of this name for deny lists.
    #[error("the key set holds no deny-list key {0}")]
    KeyUnknown(Kid),
    /// Not a compact JWS over one JSON object with exactly the members of a deny list.
    #[error("not a compact JWS over a deny list: a member is missing, unknown, or of the wrong type")]
    Malformed,
    /// The payload is not canonical JSON (RFC 8785).
    #[error("the payload is not canonical JSON (RFC 8785)")]
    NotCanonical,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    SignatureInvalid,
    /// More bytes than any deny list needs.
    #[error("the deny list is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// More than a thousand entries; only keys that have not ended are listed.
const MAX_BYTES: usize = 262_144;

impl DenyList {
    /// The bytes that the key `kid` has to sign. [`compact`](crate::compact) completes them with the signature.
    ///
    /// # Errors
    /// The list contradicts itself, or holds a number that is no exact integer.
    pub fn signing_input(&self, kid: Kid) -> Result<String, DenyListError> {
        self.check()?;
        let payload = canonical_json::to_bytes(self).ok_or(DenyListError::NotCanonical)?;
        Ok(header(kid).signing_input(&payload))
    }

    /// Reads a signed list, as `GET /v1/deny-list` answers it, and believes it if a deny-list key of `manifest`
    /// signed it that has not ended and is not denied.
    ///
    /// # Errors
    /// See [`DenyListError`].
    pub fn verify(
        jws: &str,
        manifest: &Verified<Manifest>,
        now: SystemTime,
    ) -> Result<Verified<Self>, DenyListError> {
        if jws.len() > MAX_BYTES {
            return Err(DenyListError::TooLarge);
        }
        let (signed, signature) = jws.trim_end().rsplit_once('.').ok_or(DenyListError::Malformed)?;
        let (protected, payload) = signed.split_once('.').ok_or(DenyListError::Malformed)?;
        let kid = signer(protected)?;

        let named = manifest.find(kid).filter(|key| key.purpose == Purpose::DenyList);
        let (key, jwk) =
            named.and_then(|key| Some((key, key.jwk.as_ref()?))).ok_or(DenyListError::KeyUnknown(kid))?;
        if crate::verify::unix_seconds(now) > key.not_after.unix() {
            return Err(DenyListError::KeyEnded(kid));
        }
        let signature = base64url::decode_array(signature).ok_or(DenyListError::Malformed)?;
        if !jwk.has_signed(signed.as_bytes(), &signature) {
            return Err(DenyListError::SignatureInvalid);
        }

        let payload = base64url::decode(payload).ok_or(DenyListError::Malformed)?;
        let list: Self = serde_json::from_slice(&payload).map_err(|_| DenyListError::Malformed)?;
        // No member occurs twice, and none was passed over.
        if canonical_json::to_bytes(&list).is_none_or(|spelled| spelled != payload) {
            return Err(DenyListError::NotCanonical);
        }
        list.check()?;
        if list.issuer != manifest.issuer || list.environment != manifest.environment {
            return Err(DenyListError::Foreign);
        }
        let denial = manifest.denied.iter().find(|denial| denial.kid == kid);
        if denial.is_some_and(|denial| denial.iat_after.is_none_or(|last| list.created > last)) {
            return Err(DenyListError::KeyEnded(kid));
        }
        Ok(Verified::proven(list, &payload))
    }

    /// What the list denies at `now`, as [`Verifier::with_denials`](crate::Verifier::with_denials) takes it.
    pub fn denials(&self, now: SystemTime) -> impl Iterator<Item = Denial> {
        let now = crate::verify::unix_seconds(now);
        let counts = self.entries.iter().filter(move |entry| now <= entry.until.unix());
        counts.map(|entry| Denial { kid: entry.kid, iat_after: entry.iat_after })
    }

    fn check(&self) -> Result<(), Contradiction> {
        if self.issuer.is_empty() || self.environment.is_empty() {
            return Err(Contradiction("issuer and environment must not be empty"));
        }
        if !self.entries.is_sorted_by(|left, right| left.kid < right.kid) {
            return Err(Contradiction("`entries` must be sorted by kid, each once"));
        }
        Ok(())
    }
}

/// Deny lists are signed by Ed25519 keys only.
fn header(kid: Kid) -> ProtectedHeader {
    ProtectedHeader::new(Typ::DenyList, Algorithm::EdDsa, kid)
}

fn signer(protected: &str) -> Result<Kid, DenyListError> {
    /// Enough of a header to write it anew.
    #[derive(Deserialize)]
    struct Named {
        kid: Kid,
    }
    let json = base64url::decode(protected).ok_or(DenyListError::Header)?;
    let Named { kid } = serde_json::from_slice(&json).map_err(|_| DenyListError::Header)?;
    if header(kid).encoded() == protected { Ok(kid) } else { Err(DenyListError::Header) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::jwk::Jwk;
    use crate::jws::compact;
    use crate::manifest::{ManifestKey, SignedManifest};
    use crate::root::{Root, SignedRoot};

    #[test]
    fn a_list_signed_by_a_deny_list_key_of_the_set_is_believed() {
        let list = list();
        let verified = DenyList::verify(&signed(&list, 2), &manifest(vec![]), at(200)).unwrap();
        assert_eq!(*verified, list);
        let denials: Vec<_> = verified.denials(at(200)).collect();
        assert_eq!(denials, [Denial { kid: list.entries[0].kid, iat_after: timestamp(90) }]);
        assert_eq!(verified.denials(at(1001)).count(), 0, "the key has ended by itself");
    }

    #[test]
    fn nobody_else_can_deny_anything() {
        let manifest = manifest(vec![]);
        let refused = |jws: &str| DenyList::verify(jws, &manifest, at(200)).unwrap_err();
        // An access-token key has another purpose, and a stranger none.
        assert_eq!(refused(&signed(&list(), 1)), DenyListError::KeyUnknown(key(1).kid()));
        assert_eq!(refused(&signed(&list(), 9)), DenyListError::KeyUnknown(key(9).kid()));
        let good = signed(&list(), 2);
        let (head, _) = good.rsplit_once('.').unwrap();
        let forged = compact(head.to_owned(), &secret(9).sign(head.as_bytes()).to_bytes());
        assert_eq!(refused(&forged), DenyListError::SignatureInvalid);
        for foreign in [
            DenyList { issuer: "https://other.example".to_owned(), ..list() },
            DenyList { environment: "staging".to_owned(), ..list() },
        ] {
            assert_eq!(refused(&signed(&foreign, 2)), DenyListError::Foreign);
        }
    }

    #[test]
    fn every_flipped_bit_refuses_the_list() {
        let manifest = manifest(vec![]);
        let good = signed(&list(), 2);
        for index in 0..good.len() {
            for bit in 0..7 {
                let mut bytes = good.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                let altered = String::from_utf8(bytes).unwrap();
                if altered.trim_end() != good {
                    assert!(DenyList::verify(&altered, &manifest, at(200)).is_err(), "bit {bit} of {index}");
                }
            }
        }
    }

    #[test]
    fn a_deny_list_key_that_ended_or_is_denied_is_not_believed() {
        let ended = DenyListError::KeyEnded(key(2).kid());
        let verify = |denied, now| DenyList::verify(&signed(&list(), 2), &manifest(denied), at(now));
        let kid = key(2).kid();
        assert_eq!(verify(vec![], 1001).unwrap_err(), ended);
        assert_eq!(verify(vec![Denial { kid, iat_after: None }], 200).unwrap_err(), ended);
        assert_eq!(verify(vec![Denial { kid, iat_after: timestamp(99) }], 200).unwrap_err(), ended);
        assert!(verify(vec![Denial { kid, iat_after: timestamp(100) }], 200).is_ok());
    }

    #[test]
    fn a_list_has_one_spelling() {
        let list = list();
        let mut twice = list.clone();
        twice.entries.push(list.entries[0]);
        assert!(matches!(twice.signing_input(key(2).kid()), Err(DenyListError::Contradictory(_))));

        let payload = String::from_utf8(canonical_json::to_bytes(&list).unwrap()).unwrap();
        for (other, error) in [
            (payload.replacen('{', "{ ", 1), DenyListError::NotCanonical),
            (payload.replacen('{', r#"{"allow":[],"#, 1), DenyListError::Malformed),
            (payload.replace("\"serial\":3", "\"serial\":-3"), DenyListError::Malformed),
        ] {
            let input = header(key(2).kid()).signing_input(other.as_bytes());
            let signature = secret(2).sign(input.as_bytes()).to_bytes();
            assert_eq!(DenyList::verify(&compact(input, &signature), &manifest(vec![]), at(1)), Err(error));
        }
    }

    fn list() -> DenyList {
        let entry =
            DenyListEntry { kid: key(1).kid(), iat_after: timestamp(90), until: timestamp(1000).unwrap() };
        DenyList {
            issuer: ISSUER.to_owned(),
            environment: "test".to_owned(),
            serial: 3,
            created: timestamp(100).unwrap(),
            entries: vec![entry],
        }
    }

    fn signed(list: &DenyList, by: u8) -> String {
        let input = list.signing_input(key(by).kid()).unwrap();
        let signature = secret(by).sign(input.as_bytes()).to_bytes();
        compact(input, &signature)
    }

    /// Key 1 is for access tokens, key 2 for deny lists, key 3 is the root's.
    fn manifest(mut denied: Vec<Denial>) -> Verified<Manifest> {
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
        let mut keys = vec![described(1, Purpose::AccessTokens), described(2, Purpose::DenyList)];
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

    const ISSUER: &str = "https://authority.example.com";

    fn timestamp(seconds: i64) -> Option<Timestamp> {
        Timestamp::from_unix(seconds)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secret(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn key(n: u8) -> Jwk {
        Jwk::from_ed25519_public(secret(n).verifying_key().as_bytes()).unwrap()
    }
}
