//! The offline root: the keys, k of n, that sign key sets and their own successors.

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::digest::Digest;
use crate::jwk::Jwk;
use crate::jws::Typ;
use crate::signed::{Contradiction, Payload, Signed, SignedError, Verified, sealed};
use crate::timestamp::Timestamp;

/// Who may sign key sets of one issuer and environment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The issuer (`iss`) of the tokens.
    pub issuer: String,
    /// The environment: each has a chain of its own.
    pub environment: String,
    /// 1 for the first, then always the last + 1.
    pub version: u32,
    /// How many distinct keys must sign.
    pub threshold: u32,
    /// The keys, sorted by kid.
    pub keys: Vec<Jwk>,
    /// When this version was made.
    pub created: Timestamp,
    /// Made for development, with keys that are not kept offline: no production build takes it.
    pub development: bool,
}

/// A root with its signatures: the content of `keys/<environment>/root/3.root.json`.
pub type SignedRoot = Signed<Root>;

/// Why a root was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The digest is not the one that was named as trusted.
    #[error("the root's digest is {found}, but {trusted} is trusted")]
    Digest {
        /// The digest of the root at hand.
        found: Digest,
        /// The digest that was named.
        trusted: Digest,
    },
    /// The root does not succeed the one before it; the sentence says why.
    #[error("the root does not succeed the one before it: {0}")]
    NotSuccessor(Contradiction),
    /// Form or signatures are wrong.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The signatures of the root before it are too few or wrong.
    #[error("the root before it does not vouch for this one: {0}")]
    Unvouched(#[source] SignedError),
}

/// More root keys than any ceremony has.
const MAX_KEYS: usize = 32;

impl SignedRoot {
    /// The root, if it is the one that `digest` names and its own keys have signed it.
    ///
    /// This is where trust begins: the digest must come from a place that whoever wrote the file cannot reach.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn verify_pinned(&self, digest: Digest) -> Result<Verified<Root>, RootError> {
        if self.digest() != digest {
            return Err(RootError::Digest { found: self.digest(), trusted: digest });
        }
        Ok(self.verify_itself()?)
    }

    /// The root, if it succeeds `previous` and the thresholds of both have signed it.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn verify_successor(&self, previous: &Verified<Root>) -> Result<Verified<Root>, RootError> {
        self.unverified().succeeds(previous)?;
        self.verify_by(&previous.keys, previous.required()).map_err(RootError::Unvouched)?;
        Ok(self.verify_itself()?)
    }

    fn verify_itself(&self) -> Result<Verified<Root>, SignedError> {
        let root = self.unverified();
        self.verify_by(&root.keys, root.required())
    }
}

impl Root {
    /// Checks that this version may come right after `previous`, whoever has signed it.
    ///
    /// # Errors
    /// It may not; the sentence says why.
    pub fn succeeds(&self, previous: &Self) -> Result<(), RootError> {
        let refuse = |reason| Err(RootError::NotSuccessor(Contradiction(reason)));
        if self.issuer != previous.issuer {
            return refuse("it is another issuer's");
        }
        if self.environment != previous.environment {
            return refuse("it is another environment's");
        }
        if Some(self.version) != previous.version.checked_add(1) {
            return refuse("its version is not the next one");
        }
        if self.created < previous.created {
            return refuse("it was made earlier");
        }
        if self.development != previous.development {
            return refuse("a root for development cannot become another, nor the other way round");
        }
        Ok(())
    }

    /// How many distinct keys must sign.
    pub(crate) fn required(&self) -> usize {
        usize::try_from(self.threshold).unwrap_or(usize::MAX)
    }
}

impl sealed::Sealed for Root {}

impl Payload for Root {
    const TYP: Typ = Typ::KeySetRoot;

    fn check(&self) -> Result<(), Contradiction> {
        let refuse = |reason| Err(Contradiction(reason));
        if self.issuer.is_empty() || self.environment.is_empty() {
            return refuse("issuer and environment must not be empty");
        }
        if self.version == 0 {
            return refuse("versions begin with 1");
        }
        if self.keys.len() > MAX_KEYS {
            return refuse("there are more than 32 keys");
        }
        if !self.keys.is_sorted_by(|left, right| left.kid() < right.kid()) {
            return refuse("the keys must be sorted by kid, each once");
        }
        if !self.keys.iter().all(|key| key.algorithm() == Algorithm::EdDsa) {
            return refuse("the keys must be Ed25519 keys");
        }
        if self.threshold == 0 || self.required() > self.keys.len() {
            return refuse("the threshold must be from 1 to the number of keys");
        }
        Ok(())
    }
}
