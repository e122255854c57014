//! The keys of a batch: which one signs for which backend.

use std::sync::Arc;

use sqlx::PgConnection;

use super::Shared;
use super::batch::BatchError;
use crate::domain::catalog::Catalog;
use crate::domain::key_ring::Algorithm;
use crate::domain::token_plan::BackendGrants;
use crate::keystore::Signer;
use crate::storage::facts::{ActiveKey, BatchFacts};

/// The active key of each algorithm with its signer, as this batch's transaction read them.
pub(super) struct Keys<'a> {
    facts: &'a BatchFacts,
    ed_dsa: Option<Arc<Signer>>,
    rs256: Option<Arc<Signer>>,
    /// What a joint token is signed with where its backends do not agree.
    joint: Algorithm,
}

impl<'a> Keys<'a> {
    /// Prepares the signers, which are remembered from batch to batch.
    pub(super) async fn of(
        connection: &mut PgConnection,
        shared: &Shared,
        facts: &'a BatchFacts,
    ) -> Result<Self, BatchError> {
        let mut signers = [None, None];
        for (signer, key) in signers.iter_mut().zip([&facts.active_keys.ed_dsa, &facts.active_keys.rs256]) {
            if let Some(key) = key {
                *signer = Some(shared.signer(connection, key).await?);
            }
        }
        let [ed_dsa, rs256] = signers;
        Ok(Self { facts, ed_dsa, rs256, joint: shared.joint_token_alg })
    }

    /// The one algorithm that a backend was registered with.
    pub(super) fn alg_of(&self, catalog: &Catalog, backend: usize) -> Algorithm {
        let name = catalog.backends()[backend].name.as_str();
        if self.facts.rs256_backends.iter().any(|registered| registered == name) {
            Algorithm::Rs256
        } else {
            Algorithm::EdDsa
        }
    }

    /// The key that signs with an algorithm; none while that is stopped.
    pub(super) fn key(&self, alg: Algorithm) -> Option<&'a ActiveKey> {
        self.facts.active_keys.of(alg)
    }

    pub(super) fn signer(&self, alg: Algorithm) -> Option<&Signer> {
        match alg {
            Algorithm::EdDsa => self.ed_dsa.as_deref(),
            Algorithm::Rs256 => self.rs256.as_deref(),
        }
    }

    /// Whether nothing at all can be signed.
    pub(super) fn are_stopped(&self) -> bool {
        self.ed_dsa.is_none() && self.rs256.is_none()
    }

    /// The algorithm that every backend of a joint token can verify: the one they agree on, else the
    /// configured one, which some of them then lack.
    pub(super) fn joint_alg(&self, catalog: &Catalog, granted: &[BackendGrants]) -> Algorithm {
        let mut algs = granted.iter().map(|one| self.alg_of(catalog, one.backend));
        match algs.next() {
            Some(first) if algs.all(|alg| alg == first) => first,
            _ => self.joint,
        }
    }
}
