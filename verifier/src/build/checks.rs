//! The checks of a key set that depend on the build: what for, and when.

use std::time::SystemTime;

use super::EmbeddingError;
use crate::algorithm::Algorithm;
use crate::embedded::OpenKeySet;
use crate::manifest::{ManifestKey, Purpose};
use crate::verify::unix_seconds;

/// What is built.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The environment that the build is for, if it says so.
    pub environment: Option<String>,
    /// The audience of the backend, if the build says so.
    pub audience: Option<String>,
    /// Whether a root that was made for development may be trusted.
    pub allow_development: bool,
    /// When the build takes place.
    pub now: SystemTime,
}

/// Checks that a key set may be built with: that it is not stale, not of another environment, not for development,
/// and holds at least two usable keys of each algorithm.
///
/// # Errors
/// See [`EmbeddingError`].
pub fn check(set: &OpenKeySet, policy: &Policy) -> Result<(), EmbeddingError> {
    let manifest = set.manifest();
    if let Some(expected) = policy.environment.as_ref().filter(|name| **name != manifest.environment) {
        let (found, expected) = (manifest.environment.clone(), expected.clone());
        return Err(EmbeddingError::Foreign { what: "the environment", found, expected });
    }
    if set.root().development && !policy.allow_development {
        return Err(EmbeddingError::Development { environment: manifest.environment.clone() });
    }
    let now = unix_seconds(policy.now);
    let version = manifest.version;
    if now >= manifest.build_before.unix() {
        return Err(EmbeddingError::Stale { version, build_before: manifest.build_before });
    }

    let usable: Vec<&ManifestKey> =
        manifest.keys.iter().filter(|key| is_usable(set, key, policy, now)).collect();
    if let Some(audience) = &policy.audience {
        let serves = |key: &&ManifestKey| key.audiences.as_ref().is_none_or(|all| all.contains(audience));
        if !manifest.keys.iter().any(|key| key.purpose == Purpose::AccessTokens && serves(&key)) {
            return Err(EmbeddingError::Audience(audience.clone()));
        }
    }
    let count = |alg: Algorithm| usable.iter().filter(|key| key.alg == alg).count();
    // The algorithms in use; with no usable key at all, those that the set once had.
    let mut algs: Vec<Algorithm> = usable.iter().map(|key| key.alg).collect();
    if algs.is_empty() {
        algs = set.keys().iter().map(|key| key.algorithm()).collect();
    }
    match algs.into_iter().find(|alg| count(*alg) < 2) {
        Some(alg) => Err(EmbeddingError::TooFewKeys { version, alg, usable: count(alg) }),
        None => Ok(()),
    }
}

/// Whether the key can sign tokens that this backend would take. A key that was only demoted (`iat_after`) is still
/// one of the set's keys; one that is denied is not.
fn is_usable(set: &OpenKeySet, key: &ManifestKey, policy: &Policy, now: i64) -> bool {
    let denials = set.manifest().denied.iter().copied();
    let listed = set.deny_list().into_iter().flat_map(|list| list.denials(policy.now));
    let denied = denials.chain(listed).any(|denial| denial.kid == key.kid && denial.iat_after.is_none());
    let for_us = policy
        .audience
        .as_ref()
        .is_none_or(|audience| key.audiences.as_ref().is_none_or(|audiences| audiences.contains(audience)));
    key.purpose == Purpose::AccessTokens && !denied && for_us && now < key.not_after.unix()
}
