//! The next key set: what the root is asked to sign, and the proof that it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use token_authority_verifier::{
    Denial as ManifestDenial, Jwk, KeySet, LEEWAY, MAX_TOKEN_TTL, Manifest, ManifestKey, Root,
    SignedManifest, Timestamp, Verified,
};

use super::RotationError;
use crate::domain::key_ring::{
    Denial, Digest, KeyRing, KeySetRecord, Kid, LEFT_AT_ACTIVATION, LastToken, Purpose,
};
use crate::storage::key_sets::StoredKeySet;

/// A key set that nobody has signed yet.
#[derive(Clone, Debug)]
pub(super) struct KeySetDraft {
    pub(super) manifest: SignedManifest,
    jwks: KeySet,
}

/// For whom a key set is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publisher<'a> {
    pub(super) issuer: &'a str,
    pub(super) environment: &'a str,
    pub(super) root_version: u32,
}

impl KeySetDraft {
    /// The set that follows the ring's head and carries exactly these keys.
    pub(super) fn new(
        publisher: Publisher<'_>,
        ring: &KeyRing,
        carried: &BTreeSet<Kid>,
        public_keys: &BTreeMap<Kid, Jwk>,
        now: DateTime<Utc>,
    ) -> Result<Self, RotationError> {
        let mut keys = Vec::with_capacity(carried.len());
        let mut plain = Vec::with_capacity(carried.len());
        for kid in carried {
            let missing = || RotationError::MissingKey(*kid);
            let (key, jwk) = ring.key(*kid).zip(public_keys.get(kid)).ok_or_else(missing)?;
            let is_plain = key.purpose == Purpose::AccessTokens;
            plain.extend(is_plain.then(|| jwk.clone()));
            keys.push(ManifestKey {
                kid: *kid,
                alg: jwk.algorithm(),
                purpose: key.purpose,
                not_after: timestamp(key.not_after),
                audiences: None,
                jwk: (!is_plain).then(|| jwk.clone()),
            });
        }
        let jwks = KeySet::new(plain)?;
        let manifest = Manifest {
            issuer: publisher.issuer.to_owned(),
            environment: publisher.environment.to_owned(),
            version: ring.head_version() + 1,
            prev: ring.head().map(|head| head.digest),
            created: timestamp(now),
            build_before: timestamp(last_useful_build(ring, carried, now)),
            jwks_sha256: jwks.digest(),
            max_token_ttl: seconds(MAX_TOKEN_TTL),
            leeway: seconds(LEEWAY),
            keys,
            denied: ring.keys().filter_map(|key| Some(denied(key.kid, key.denial?))).collect(),
            min_deployable_version: ring.floor().max(1),
            root_version: publisher.root_version,
        };
        Ok(Self { manifest: SignedManifest::new(manifest)?, jwks })
    }

    /// What the ring is told of it, should it be signed as it is.
    pub(super) fn record(&self, drained: BTreeMap<Kid, LastToken>) -> KeySetRecord {
        record(self.manifest.unverified(), self.manifest.digest(), drained)
    }

    /// The draft with the root's signatures, once they verify.
    pub(super) fn signed(
        self,
        manifest: SignedManifest,
        root: &Verified<Root>,
    ) -> Result<SignedKeySet, RotationError> {
        let jwks = self.jwks.to_canonical_json().into_bytes();
        // Nothing but what was published is read back: the bytes, as any backend would.
        let manifest = SignedManifest::parse(manifest.to_canonical_json().as_bytes())?;
        let verified = manifest.verify(root)?;
        verified.matches(&jwks)?;
        Ok(SignedKeySet { jwks, manifest, verified })
    }
}

/// A key set whose signatures were verified.
#[derive(Clone, Debug)]
pub(super) struct SignedKeySet {
    jwks: Vec<u8>,
    manifest: SignedManifest,
    verified: Verified<Manifest>,
}

impl SignedKeySet {
    /// A manifest that was signed elsewhere, over these plain keys.
    pub(super) fn of(
        manifest: SignedManifest,
        verified: Verified<Manifest>,
        plain: Vec<Jwk>,
    ) -> Result<Self, RotationError> {
        let jwks = KeySet::new(plain)?.to_canonical_json().into_bytes();
        verified.matches(&jwks)?;
        Ok(Self { jwks, manifest, verified })
    }

    /// What the ring is told of it.
    pub(super) fn record(&self, drained: BTreeMap<Kid, LastToken>) -> KeySetRecord {
        record(&self.verified, self.verified.digest(), drained)
    }

    /// What the root has signed.
    pub(super) fn manifest(&self) -> &Verified<Manifest> {
        &self.verified
    }

    /// The public half of each of its keys.
    pub(super) fn public_keys(&self) -> Vec<(Kid, Jwk)> {
        let plain =
            KeySet::parse(&self.jwks).map(|set| set.iter().cloned().collect()).unwrap_or_else(|_| vec![]);
        let others = self.verified.keys.iter().filter_map(|key| key.jwk.clone());
        plain.into_iter().chain(others).map(|jwk| (jwk.kid(), jwk)).collect()
    }

    /// The row of it.
    pub(super) fn stored(&self) -> StoredKeySet {
        let created_at = DateTime::from_timestamp_secs(self.verified.created.unix()).unwrap_or_default();
        StoredKeySet {
            version: self.verified.version,
            jwks: self.jwks.clone(),
            manifest: self.manifest.to_canonical_json().into_bytes(),
            payload: self.manifest.payload().to_vec(),
            jwks_digest: Digest::of(&self.jwks),
            payload_digest: self.verified.digest(),
            prev: self.verified.prev,
            root_version: self.verified.root_version,
            created_at,
        }
    }
}

fn record(manifest: &Manifest, digest: Digest, drained: BTreeMap<Kid, LastToken>) -> KeySetRecord {
    KeySetRecord {
        version: manifest.version,
        digest,
        prev: manifest.prev,
        carried: manifest.keys.iter().map(|key| key.kid).collect(),
        max_token_ttl: TimeDelta::seconds(i64::from(manifest.max_token_ttl)),
        drained,
    }
}

/// A build later than this would hold no key that may still begin to sign.
fn last_useful_build(ring: &KeyRing, carried: &BTreeSet<Kid>, now: DateTime<Utc>) -> DateTime<Utc> {
    let keys = carried.iter().filter_map(|kid| ring.key(*kid));
    let ends = keys.filter(|key| key.purpose == Purpose::AccessTokens).map(|key| key.not_after);
    ends.max().unwrap_or(now) - LEFT_AT_ACTIVATION
}

fn denied(kid: Kid, denial: Denial) -> ManifestDenial {
    let iat_after = match denial {
        Denial::Always => None,
        // Rounded down: an `iat` has whole seconds, rounded down too.
        Denial::IssuedAfter(at) => Some(timestamp(at)),
    };
    ManifestDenial { kid, iat_after }
}

/// Whole seconds, rounded down.
pub(super) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_unix(at.timestamp()).unwrap_or(Timestamp::MAX)
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}
