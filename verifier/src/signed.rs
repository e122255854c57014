//! Documents that the key-set root signs: JWS General JSON (RFC 7515 §7.2.1) over canonical JSON.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::digest::Digest;
use crate::jwk::Jwk;
use crate::jws::{ProtectedHeader, Typ};
use crate::kid::Kid;
use crate::{base64url, canonical_json};

/// What the root can sign: a [`Manifest`](crate::Manifest) or a [`Root`](crate::Root).
pub trait Payload: Clone + DeserializeOwned + Serialize + sealed::Sealed {
    /// What its signatures are for.
    const TYP: Typ;

    /// What contradicts itself in it, as a sentence; the types alone cannot say it all.
    ///
    /// # Errors
    /// The first contradiction found.
    fn check(&self) -> Result<(), Contradiction>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// How a signed document contradicts itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Contradiction(pub(crate) &'static str);

/// A document with its signatures. Nothing in it may be believed before it is verified.
///
/// Its payload is canonical JSON and all of its members are known: a member that this crate does not know may be
/// a restriction, so that ignoring it would be unsafe. The protected header of a signature is canonical JSON too,
/// exactly `{"alg":"EdDSA","kid":…,"typ":…}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed<T> {
    content: T,
    payload: Vec<u8>,
    /// Sorted by kid, each kid once.
    signatures: Vec<Signature>,
}

/// A document whose signatures were verified. Only verification makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified<T> {
    content: T,
    digest: Digest,
}

/// Why a signed document was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedError {
    /// Fewer of the root's keys have signed than its threshold demands.
    #[error("{signed} of the root's keys have signed, {threshold} must")]
    BelowThreshold {
        /// How many distinct keys of the root have signed.
        signed: usize,
        /// How many must.
        threshold: usize,
    },
    /// The payload's members contradict each other.
    #[error("the payload contradicts itself: {0}")]
    Contradictory(#[from] Contradiction),
    /// Two signatures name one key.
    #[error("the key {0} has signed twice")]
    DuplicateSignature(Kid),
    /// A protected header is not exactly the one that this kind of document has.
    #[error("a signature's protected header must be exactly {{\"alg\":\"EdDSA\",\"kid\":…,\"typ\":\"{0}\"}}")]
    Header(&'static str),
    /// Not a JWS in General JSON Serialization, or with members that it must not have.
    #[error(
        "not a JWS in General JSON Serialization with `payload` and `signatures[{{protected, signature}}]`"
    )]
    Malformed,
    /// The payload is not canonical JSON (RFC 8785).
    #[error("the payload is not canonical JSON (RFC 8785)")]
    NotCanonical,
    /// Signatures of one document do not belong to another.
    #[error("the two documents do not say the same")]
    OtherPayload,
    /// The payload is not a document of this kind: a member is missing, unknown, or of the wrong type.
    #[error("the payload is no such document: a member is missing, unknown, or of the wrong type")]
    Payload,
    /// A key of the root is named, but its signature is wrong.
    #[error("the signature of the root's key {0} is wrong")]
    SignatureInvalid(Kid),
    /// More bytes or signatures than any such document needs.
    #[error("the document is larger than {MAX_BYTES} bytes or {MAX_SIGNATURES} signatures")]
    TooLarge,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Signature {
    kid: Kid,
    bytes: [u8; 64],
}

const MAX_BYTES: usize = 262_144;
const MAX_SIGNATURES: usize = 32;

impl<T: Payload> Signed<T> {
    /// A document without signatures yet.
    ///
    /// # Errors
    /// The content contradicts itself, or holds a number that is no exact integer.
    pub fn new(content: T) -> Result<Self, SignedError> {
        content.check()?;
        let payload = canonical_json::to_bytes(&content).ok_or(SignedError::NotCanonical)?;
        Ok(Self { content, payload, signatures: Vec::new() })
    }

    /// The bytes that the key `kid` has to sign.
    #[must_use]
    pub fn signing_input(&self, kid: Kid) -> String {
        header::<T>(kid).signing_input(&self.payload)
    }

    /// Adds a signature, which is not verified here.
    ///
    /// # Errors
    /// The key has signed already, or there are too many signatures.
    pub fn with_signature(mut self, kid: Kid, signature: [u8; 64]) -> Result<Self, SignedError> {
        self.add(Signature { kid, bytes: signature })?;
        Ok(self)
    }

    /// Adds the signatures of another copy of this document, which are not verified here: holders of the root's
    /// keys may sign one after the other, or each a copy of their own.
    ///
    /// # Errors
    /// The other document says something else, a key has signed the two in different ways, or there are too many
    /// signatures.
    pub fn merged(mut self, other: &Self) -> Result<Self, SignedError> {
        if self.payload != other.payload {
            return Err(SignedError::OtherPayload);
        }
        for signature in &other.signatures {
            if !self.signatures.contains(signature) {
                self.add(*signature)?;
            }
        }
        Ok(self)
    }

    /// Reads a document, and verifies its form but none of its signatures.
    ///
    /// # Errors
    /// See [`SignedError`].
    pub fn parse(json: &[u8]) -> Result<Self, SignedError> {
        if json.len() > MAX_BYTES {
            return Err(SignedError::TooLarge);
        }
        let raw: RawSigned = serde_json::from_slice(json).map_err(|_| SignedError::Malformed)?;
        let payload = base64url::decode(&raw.payload).ok_or(SignedError::Malformed)?;
        let content: T = serde_json::from_slice(&payload).map_err(|_| SignedError::Payload)?;
        let mut document = Self::new(content)?;
        // No member was ignored, and none occurs twice: a reader in any language sees the same document.
        if document.payload != payload {
            return Err(SignedError::NotCanonical);
        }
        for signature in raw.signatures {
            document.add(signature.parse::<T>()?)?;
        }
        Ok(document)
    }

    /// The document's one spelling: what is published.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        let signature = |Signature { kid, bytes }: &Signature| {
            let (header, signature) = (header::<T>(*kid), base64url::encode(bytes));
            format!(r#"{{"protected":"{}","signature":"{signature}"}}"#, header.encoded())
        };
        let signatures: Vec<_> = self.signatures.iter().map(signature).collect();
        let payload = base64url::encode(&self.payload);
        format!(r#"{{"payload":"{payload}","signatures":[{}]}}"#, signatures.join(","))
    }

    /// The digest of the payload. Signatures may be added later; they do not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// What the signatures are over: canonical JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys that claim to have signed, sorted.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = Kid> {
        self.signatures.iter().map(|signature| signature.kid)
    }

    /// What the document says, whoever wrote it: for display, and to find out which root to ask for.
    #[must_use]
    pub fn unverified(&self) -> &T {
        &self.content
    }

    /// Those of `keys` that have signed, each once.
    ///
    /// Signatures by other keys are ignored: while the root changes, its old and its new keys sign one document.
    ///
    /// # Errors
    /// The signature under one of `keys` is wrong: the document is refused, whatever the others are worth.
    pub fn signed_by(&self, keys: &[Jwk]) -> Result<BTreeSet<Kid>, SignedError> {
        let mut signed = BTreeSet::new();
        for Signature { kid, bytes } in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.kid() == *kid) else { continue };
            if !key.has_signed(self.signing_input(*kid).as_bytes(), bytes) {
                return Err(SignedError::SignatureInvalid(*kid));
            }
            signed.insert(*kid);
        }
        Ok(signed)
    }

    /// The document's content, once at least `threshold` distinct ones of `keys` have signed it.
    pub(crate) fn verify_by(&self, keys: &[Jwk], threshold: usize) -> Result<Verified<T>, SignedError> {
        let signed = self.signed_by(keys)?;
        if threshold == 0 || signed.len() < threshold {
            return Err(SignedError::BelowThreshold { signed: signed.len(), threshold });
        }
        Ok(Verified { content: self.content.clone(), digest: self.digest() })
    }

    fn add(&mut self, signature: Signature) -> Result<(), SignedError> {
        if self.signatures.len() == MAX_SIGNATURES {
            return Err(SignedError::TooLarge);
        }
        match self.signatures.binary_search_by_key(&signature.kid, |signature| signature.kid) {
            Ok(_) => Err(SignedError::DuplicateSignature(signature.kid)),
            Err(place) => {
                self.signatures.insert(place, signature);
                Ok(())
            }
        }
    }
}

impl<T> Verified<T> {
    /// For other kinds of documents, once their signatures were verified.
    pub(crate) fn proven(content: T, payload: &[u8]) -> Self {
        Self { content, digest: Digest::of(payload) }
    }

    /// The digest of the payload, by which the next document in the chain names this one.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// Documents are signed by Ed25519 keys only.
fn header<T: Payload>(kid: Kid) -> ProtectedHeader {
    ProtectedHeader::new(T::TYP, Algorithm::EdDsa, kid)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigned {
    payload: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    protected: String,
    signature: String,
}

impl RawSignature {
    fn parse<T: Payload>(self) -> Result<Signature, SignedError> {
        /// Enough of a header to write it anew.
        #[derive(Deserialize)]
        struct Named {
            kid: Kid,
        }
        let wrong = SignedError::Header(T::TYP.name());
        let json = base64url::decode(&self.protected).ok_or(wrong)?;
        let Named { kid } = serde_json::from_slice(&json).map_err(|_| wrong)?;
        if self.protected != header::<T>(kid).encoded() {
            return Err(wrong);
        }
        let bytes = base64url::decode_array(&self.signature).ok_or(SignedError::Malformed)?;
        Ok(Signature { kid, bytes })
    }
}
