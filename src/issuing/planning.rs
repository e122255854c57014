//! Plans the tokens of a sync: what it asks for, of what is granted, with the key that each backend verifies.

use chrono::TimeDelta;

use super::batch::Batch;
use super::request::{SyncError, SyncRequest, TokenForm, Withheld};
use crate::domain::entitlement::{Decision, Situation};
use crate::domain::key_ring::Algorithm;
use crate::domain::token_plan::{BackendGrants, Lifetime, TokenPlan};

/// A token, and the algorithm with which it is signed.
pub(super) struct Planned {
    pub(super) plan: TokenPlan,
    pub(super) alg: Algorithm,
}

impl Batch<'_> {
    /// What of the decision goes into tokens of this request: what it asks for, at backends for which a key may
    /// sign; and those for which none may. An answer with nothing but the latter is none.
    pub(super) fn granted_for(
        &self,
        request: &SyncRequest,
        situation: &Situation,
        decision: &Decision,
    ) -> Result<(Vec<BackendGrants>, Vec<Withheld>), SyncError> {
        const STOPPED: SyncError = SyncError::Unavailable("No key may sign right now.");
        let catalog = &self.catalog.catalog;
        if self.keys.are_stopped() {
            return Err(STOPPED);
        }
        let mut granted =
            BackendGrants::of_decision(catalog, situation, decision, request.backends.as_deref());
        if let Some(scopes) = &request.scopes {
            BackendGrants::narrow(&mut granted, catalog, scopes)
                .map_err(|missing| SyncError::NotGranted(missing.clone()))?;
        }
        let joint_alg = match request.form {
            TokenForm::Joint { .. } => Some(self.keys.joint_alg(catalog, &granted)),
            TokenForm::PerBackend => None,
        };
        let mut withheld = Vec::new();
        granted.retain(|one| {
            let alg = self.keys.alg_of(catalog, one.backend);
            // A key that has come to its end signs nothing that a verifier would take.
            let may_sign =
                self.keys.key(alg).is_some_and(|key| self.now < key.not_after - self.shared.leeway);
            if !may_sign {
                withheld.push(Withheld { backend: one.backend, alg });
            }
            may_sign && joint_alg.is_none_or(|joint| joint == alg)
        });
        if granted.is_empty() && !withheld.is_empty() { Err(STOPPED) } else { Ok((granted, withheld)) }
    }

    /// The tokens for what is granted, sorted by backend.
    pub(super) fn plan(&self, request: &SyncRequest, granted: &[BackendGrants]) -> Vec<Planned> {
        match request.form {
            TokenForm::Joint { lifetime } => {
                self.plan_joint(request, granted, lifetime).into_iter().collect()
            }
            TokenForm::PerBackend => self.plan_per_backend(granted),
        }
    }

    fn plan_joint(
        &self,
        request: &SyncRequest,
        granted: &[BackendGrants],
        of_tokens: TimeDelta,
    ) -> Option<Planned> {
        let alg = self.keys.joint_alg(&self.catalog.catalog, granted);
        // Who names the scopes wants them all.
        let margin = if request.scopes.is_some() { TimeDelta::zero() } else { self.shared.sync_interval * 2 };
        let plan = TokenPlan::joint(granted, self.lifetime(alg, of_tokens)?, margin, self.now)?;
        Some(Planned { plan, alg })
    }

    fn plan_per_backend(&self, granted: &[BackendGrants]) -> Vec<Planned> {
        let catalog = &self.catalog.catalog;
        let mut plans = Vec::with_capacity(granted.len());
        // Backends of one algorithm in a row are planned together: nearly always that is all of them.
        for together in granted.chunk_by(|one, next| {
            self.keys.alg_of(catalog, one.backend) == self.keys.alg_of(catalog, next.backend)
        }) {
            let alg = self.keys.alg_of(catalog, together[0].backend);
            let Some(lifetime) = self.lifetime(alg, self.shared.token_lifetime) else { continue };
            let planned = TokenPlan::of_grants(together, lifetime, self.now);
            plans.extend(planned.into_iter().map(|plan| Planned { plan, alg }));
        }
        plans
    }

    /// The bounds on a token that the active key of this algorithm signs.
    fn lifetime(&self, alg: Algorithm, of_tokens: TimeDelta) -> Option<Lifetime> {
        let key = self.keys.key(alg)?;
        Some(Lifetime { of_tokens, of_key: key.not_after - self.shared.leeway })
    }
}
