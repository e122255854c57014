//! The manifest of a key set: what the root says about the keys in it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::algorithm::Algorithm;
use crate::digest::Digest;
use crate::jwk::Jwk;
use crate::jws::Typ;
use crate::key_set::{KeySet, KeySetError};
use crate::kid::Kid;
use crate::root::Root;
use crate::signed::{Contradiction, Payload, Signed, SignedError, Verified, sealed};
use crate::timestamp::Timestamp;

/// One version of an environment's key set: immutable, numbered, chained to the one before.
///
/// It says nothing about which key signs now: that would go stale.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The issuer (`iss`) of the tokens.
    pub issuer: String,
    /// The environment: each has a chain of its own.
    pub environment: String,
    /// 1 for the first, then always the last + 1.
    pub version: u32,
    /// The digest of the previous version's payload; none for version 1.
    pub prev: Option<Digest>,
    /// When this version was made.
    pub created: Timestamp,
    /// After this instant no build may embed it any more. Builds that have it go on.
    pub build_before: Timestamp,
    /// The digest of the plain set, `jwks.json`.
    pub jwks_sha256: Digest,
    /// The longest life of a token, `exp − iat`, in seconds.
    pub max_token_ttl: u32,
    /// The tolerated difference between clocks, in seconds.
    pub leeway: u32,
    /// Every key of this version, sorted by kid.
    pub keys: Vec<ManifestKey>,
    /// What is denied although it may be among the keys, sorted by kid.
    pub denied: Vec<Denial>,
    /// No process may start with a version below this one.
    pub min_deployable_version: u32,
    /// The version of the root that signed.
    pub root_version: u32,
}

/// What the root says about one key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestKey {
    /// Its name.
    pub kid: Kid,
    /// The one algorithm with which it signs.
    pub alg: Algorithm,
    /// The one thing that it signs.
    pub purpose: Purpose,
    /// After this instant nothing that it signed is valid.
    pub not_after: Timestamp,
    /// The audiences whose tokens it may sign, sorted; none (`null`) for every audience.
    pub audiences: Option<Vec<String>>,
    /// The key itself, unless it is in the plain set: that holds the keys of access tokens and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Jwk>,
}

/// What a key may sign: one thing only, so that no text can be taken for another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Purpose {
    /// Access tokens, `access_tokens`; also the probes that prove a verifier holds the key.
    AccessTokens,
    /// Checkpoints of the audit log, `audit_checkpoints`.
    AuditCheckpoints,
    /// Deny lists, `deny_list`.
    DenyList,
}

/// A key that is not to be believed any more.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The key's name.
    pub kid: Kid,
    /// Denies only tokens issued after this instant, the key's last; none denies all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat_after: Option<Timestamp>,
}

impl Denial {
    /// Whether this denies at least what `other` denies.
    fn covers(&self, other: &Self) -> bool {
        self.kid == other.kid
            && match (self.iat_after, other.iat_after) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(mine), Some(theirs)) => mine <= theirs,
            }
    }
}

/// A manifest with its signatures: the content of `keys/<environment>/0007.manifest.json`.
pub type SignedManifest = Signed<Manifest>;

/// Why a manifest was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// None of its access-token keys may sign for the audience.
    #[error("no access-token key of the manifest is for this audience")]
    Audience,
    /// It does not follow the version before it; the sentence says why.
    #[error("the manifest does not follow the one before it: {0}")]
    Chain(Contradiction),
    /// The plain set is not the one that the manifest describes.
    #[error("the key set's digest is {found}, but the manifest describes {described}")]
    Digest {
        /// The digest of the set at hand.
        found: Digest,
        /// `jwks_sha256`.
        described: Digest,
    },
    /// The plain set itself is refused.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// The plain set and the manifest do not name the same keys.
    #[error("the key set and the manifest do not name the same access-token keys")]
    Keys,
    /// It is another root's: the sentence says in which way.
    #[error("the manifest is not one of this root: {0}")]
    Root(Contradiction),
    /// Form or signatures are wrong.
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl SignedManifest {
    /// The manifest, once the root's threshold of distinct keys has signed it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn verify(&self, root: &Verified<Root>) -> Result<Verified<Manifest>, ManifestError> {
        let manifest = self.unverified();
        let refuse = |reason| Err(ManifestError::Root(Contradiction(reason)));
        if manifest.issuer != root.issuer {
            return refuse("it is another issuer's");
        }
        if manifest.environment != root.environment {
            return refuse("it is another environment's");
        }
        if manifest.root_version != root.version {
            return refuse("it names another version of the root");
        }
        Ok(self.verify_by(&root.keys, root.required())?)
    }
}

impl Manifest {
    /// Checks that this version comes right after `previous`.
    ///
    /// # Errors
    /// It does not; the sentence says why.
    pub fn follows(&self, previous: &Verified<Self>) -> Result<(), ManifestError> {
        let refuse = |reason| Err(ManifestError::Chain(Contradiction(reason)));
        if self.issuer != previous.issuer {
            return refuse("it is another issuer's");
        }
        if self.environment != previous.environment {
            return refuse("it is another environment's");
        }
        if Some(self.version) != previous.version.checked_add(1) {
            return refuse("its version is not the next one");
        }
        if self.prev != Some(previous.digest()) {
            return refuse("it names another version as the one before it");
        }
        if self.created < previous.created {
            return refuse("it was made earlier");
        }
        if self.root_version < previous.root_version {
            return refuse("its root is an older one");
        }
        if self.min_deployable_version < previous.min_deployable_version {
            return refuse("the lowest version that may be deployed never falls");
        }
        let born_as = |key: &ManifestKey| (key.alg, key.purpose, key.not_after);
        let changed =
            |key: &ManifestKey| previous.find(key.kid).is_some_and(|old| born_as(old) != born_as(key));
        if self.keys.iter().any(changed) {
            return refuse("the alg, purpose and end of a key never change");
        }
        if !previous.denied.iter().all(|old| self.denied.iter().any(|new| new.covers(old))) {
            return refuse("what was denied stays denied");
        }
        Ok(())
    }

    /// Checks that `jwks` is the plain set of this version, byte for byte, and reads it.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn matches(&self, jwks: &[u8]) -> Result<KeySet, ManifestError> {
        let found = Digest::of(jwks);
        if found != self.jwks_sha256 {
            return Err(ManifestError::Digest { found, described: self.jwks_sha256 });
        }
        let set = KeySet::parse(jwks)?;
        let described = self.keys.iter().filter(|key| key.purpose == Purpose::AccessTokens);
        if !described.map(|key| (key.kid, key.alg)).eq(set.iter().map(|key| (key.kid(), key.algorithm()))) {
            return Err(ManifestError::Keys);
        }
        Ok(set)
    }

    /// What this version says about a key.
    #[must_use]
    pub fn find(&self, kid: Kid) -> Option<&ManifestKey> {
        self.keys.binary_search_by_key(&kid, |key| key.kid).ok().map(|index| &self.keys[index])
    }
}

impl sealed::Sealed for Manifest {}

impl Payload for Manifest {
    const TYP: Typ = Typ::KeySetManifest;

    fn check(&self) -> Result<(), Contradiction> {
        let refuse = |reason| Err(Contradiction(reason));
        if self.issuer.is_empty() || self.environment.is_empty() {
            return refuse("issuer and environment must not be empty");
        }
        if self.version == 0 || self.root_version == 0 {
            return refuse("versions begin with 1");
        }
        if (self.version == 1) != self.prev.is_none() {
            return refuse("`prev` is null in version 1 and only there");
        }
        if self.min_deployable_version > self.version {
            return refuse("`min_deployable_version` must not be above this version");
        }
        if self.build_before <= self.created {
            return refuse("`build_before` must be later than `created`");
        }
        if self.max_token_ttl == 0 {
            return refuse("`max_token_ttl` must not be 0");
        }
        if self.leeway > MAX_LEEWAY {
            return refuse("`leeway` must not be above 300 seconds");
        }
        if !self.keys.is_sorted_by(|left, right| left.kid < right.kid) {
            return refuse("`keys` must be sorted by kid, each once");
        }
        if !self.keys.iter().any(|key| key.purpose == Purpose::AccessTokens) {
            return refuse("no key is for access tokens");
        }
        let denied: BTreeSet<_> = self.denied.iter().map(|denial| denial.kid).collect();
        if denied.len() < self.denied.len() || !self.denied.is_sorted() {
            return refuse("`denied` must be sorted by kid, each once");
        }
        self.keys.iter().try_for_each(ManifestKey::check)
    }
}

/// Clocks that differ by more need repair, not tolerance.
const MAX_LEEWAY: u32 = 300;

impl ManifestKey {
    fn check(&self) -> Result<(), Contradiction> {
        let refuse = |reason| Err(Contradiction(reason));
        match (&self.jwk, self.purpose) {
            (Some(_), Purpose::AccessTokens) => {
                return refuse("a key for access tokens stands in the plain set, not in `jwk`");
            }
            (None, Purpose::AccessTokens) => {}
            (None, _) => return refuse("a key that is not for access tokens needs its `jwk`"),
            (Some(jwk), _) if jwk.kid() != self.kid || jwk.algorithm() != self.alg => {
                return refuse("a `jwk` has another kid or alg than its entry");
            }
            (Some(_), _) if self.alg != Algorithm::EdDsa => {
                return refuse("a key that is not for access tokens must be an Ed25519 key");
            }
            (Some(_), _) => {}
        }
        match &self.audiences {
            Some(audiences) if audiences.is_empty() => {
                refuse("`audiences` must not be empty; null stands for every audience")
            }
            Some(audiences) if !audiences.is_sorted_by(|left, right| left < right) => {
                refuse("`audiences` must be sorted, each once")
            }
            _ => Ok(()),
        }
    }
}

impl Purpose {
    /// The word in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessTokens => "access_tokens",
            Self::AuditCheckpoints => "audit_checkpoints",
            Self::DenyList => "deny_list",
        }
    }
}

/// The word is the name of no purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a purpose is one of access_tokens, audit_checkpoints, deny_list")]
pub struct UnknownPurpose;

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(name: &str) -> Result<Self, UnknownPurpose> {
        [Self::AccessTokens, Self::AuditCheckpoints, Self::DenyList]
            .into_iter()
            .find(|purpose| purpose.name() == name)
            .ok_or(UnknownPurpose)
    }
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
