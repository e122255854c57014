//! The deny list: what the issuer takes away from keys between two builds. It can only deny.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::issued_document::{DocumentKind, Opened, Refusal};
use crate::jws::Typ;
use crate::kid::Kid;
use crate::manifest::{Denial, Manifest, Purpose};
use crate::signed::{Contradiction, Verified};
use crate::timestamp::Timestamp;

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

const KIND: DocumentKind =
    DocumentKind { typ: Typ::DenyList, purpose: Purpose::DenyList, max_bytes: MAX_BYTES };

impl DenyList {
    /// The bytes that the key `kid` has to sign. [`compact`](crate::compact) completes them with the signature.
    ///
    /// # Errors
    /// The list contradicts itself, or holds a number that is no exact integer.
    pub fn signing_input(&self, kid: Kid) -> Result<String, DenyListError> {
        self.check()?;
        KIND.signing_input(self, kid).ok_or(DenyListError::NotCanonical)
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
        let Opened { content: list, payload, kid, key } = KIND.open::<Self>(jws, manifest)?;
        if crate::verify::unix_seconds(now) > key.not_after.unix() {
            return Err(DenyListError::KeyEnded(kid));
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

impl From<Refusal> for DenyListError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Header => Self::Header,
            Refusal::KeyUnknown(kid) => Self::KeyUnknown(kid),
            Refusal::Malformed => Self::Malformed,
            Refusal::NotCanonical => Self::NotCanonical,
            Refusal::SignatureInvalid => Self::SignatureInvalid,
            Refusal::TooLarge => Self::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::canonical_json;
    use crate::issued_document::fixture::{ISSUER, at, key, manifest, secret, timestamp};
    use crate::jws::{ProtectedHeader, compact};

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
            let input = ProtectedHeader::new(Typ::DenyList, Algorithm::EdDsa, key(2).kid())
                .signing_input(other.as_bytes());
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
}
