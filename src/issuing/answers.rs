//! What a batch answers: signs the tokens of each sync that was granted, and shapes the answers.

use std::sync::Arc;

use chrono::TimeDelta;

use super::batch::{Batch, Mint, Step};
use super::lines::NextValues;
use super::planning::Planned;
use super::request::{IssuedToken, SyncAnswer, SyncError, SyncRequest};
use crate::domain::ids::Jti;
use crate::domain::sync_schedule::{Expiry, SyncSchedule};
use crate::domain::token_plan::Bearer;
use crate::keystore::KeystoreError;
use crate::storage::facts::InstanceFacts;

/// What each request of a batch is answered, in their order.
pub(super) type Answers = Vec<Result<SyncAnswer, SyncError>>;

impl<'a> Batch<'a> {
    /// Signs what a step records, or what it rebuilds.
    pub(super) fn sign(&self, step: &mut Step<'a>) -> Result<Vec<IssuedToken>, KeystoreError> {
        match step {
            Step::Refused(_) | Step::Twin(..) => Ok(Vec::new()),
            Step::Mint(mint) | Step::Recorded(mint) => {
                let plans = std::mem::take(&mut mint.plans);
                let tokens = plans.into_iter().zip(&mint.jtis);
                tokens.map(|(planned, jti)| self.token(mint.instance, planned, *jti)).collect()
            }
        }
    }

    fn token(
        &self,
        instance: &InstanceFacts,
        Planned { plan, alg }: Planned,
        jti: Jti,
    ) -> Result<IssuedToken, KeystoreError> {
        let signer = self.keys.signer(alg).ok_or(KeystoreError::NoPrivateHalf)?;
        let bearer = Bearer {
            issuer: self.shared.issuer(),
            instance_id: instance.instance_id,
            instance_uid: instance.uid,
            realm: instance.situation.instance.realm.claim(),
        };
        let (backend, scopes) = (plan.backend(), plan.scopes().to_vec());
        let (expires_at, ends_with_grant) = (plan.expires_at(), plan.ends_with_grant());
        let token = signer.sign_compact(&plan.into_payload(&self.catalog.catalog, &bearer, jti))?;
        Ok(IssuedToken { backend, scopes, expires_at, ends_with_grant, token })
    }

    pub(super) fn answers(
        &self,
        requests: &[SyncRequest],
        steps: Vec<Step<'a>>,
        minted: Vec<Vec<IssuedToken>>,
        mut next_values: NextValues,
    ) -> Answers {
        let mut minted = minted;
        let mut answers: Answers = Vec::with_capacity(steps.len());
        for (index, (step, request)) in steps.into_iter().zip(requests).enumerate() {
            let (mint, tokens, is_retry) = match step {
                Step::Refused(error) => {
                    answers.push(Err(error));
                    continue;
                }
                Step::Twin(first, mint) => (mint, minted_again(&answers, first), true),
                Step::Mint(mint) => (mint, std::mem::take(&mut minted[index]), false),
                Step::Recorded(mint) => (mint, std::mem::take(&mut minted[index]), true),
            };
            let sync_value = next_values[index].take();
            answers.push(Ok(SyncAnswer { sync_value, ..self.granted(request, mint, tokens, is_retry) }));
        }
        answers
    }

    fn granted(
        &self,
        request: &SyncRequest,
        mint: Mint<'_>,
        tokens: Vec<IssuedToken>,
        is_retry: bool,
    ) -> SyncAnswer {
        let expiries: Vec<_> = tokens
            .iter()
            .map(|token| Expiry { expires_at: token.expires_at, ends_with_grant: token.ends_with_grant })
            .collect();
        let next_change_at = mint.decision.next_change_at;
        // What is withheld should be had soon after a key may sign again.
        let interval = match mint.withheld.is_empty() {
            true => self.shared.sync_interval,
            false => self.shared.sync_interval.min(UNTIL_WITHHELD_IS_ASKED_FOR_AGAIN),
        };
        SyncAnswer {
            instance_uid: mint.instance.uid,
            synced_at: self.now,
            schedule: SyncSchedule::after(self.now, mint.instance.uid, interval, &expiries, next_change_at),
            next_change_at,
            sync_value: None,
            is_contested: mint.is_contested,
            tokens,
            withheld: mint.withheld,
            explained: request.explain.then(|| Box::new((mint.situation, mint.decision))),
            catalog: Arc::clone(self.catalog),
            key_set_version: self.facts.key_set_version,
            is_retry,
        }
    }
}

const UNTIL_WITHHELD_IS_ASKED_FOR_AGAIN: TimeDelta = TimeDelta::minutes(5);

fn minted_again(answers: &Answers, first: usize) -> Vec<IssuedToken> {
    match answers.get(first) {
        Some(Ok(answer)) => answer.tokens.clone(),
        _ => Vec::new(),
    }
}
