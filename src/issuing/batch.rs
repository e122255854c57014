//! The story of a batch of syncs: read, decide, record, sign, commit, answer.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sqlx::PgConnection;

use super::authentication::{self, Authenticated};
use super::digest::sync_digest;
use super::request::{CallerProof, IssuedToken, SyncAnswer, SyncError, SyncRequest};
use super::scope_sets::ScopeSets;
use super::{LoadedCatalog, Shared};
use crate::domain::entitlement::{Decision, Situation, decide};
use crate::domain::ids::Jti;
use crate::domain::sync_schedule::{Expiry, SyncSchedule};
use crate::domain::token_plan::{BackendGrants, Bearer, Lifetime, TokenPlan, TokenRecord};
use crate::keystore::Signer;
use crate::storage::facts::{self, ActiveKey, BatchFacts, InstanceFacts};
use crate::storage::instances::{self, Reported};
use crate::storage::issuances::{self, NewIssuance, RecordedToken};
use crate::storage::{StorageError, assertion_uses, fences, instance_credentials};

/// What each request of a batch is answered, in their order.
pub(super) type Answers = Vec<Result<SyncAnswer, SyncError>>;

/// Why a whole batch came to nothing: nothing of it is durable, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Signing(#[from] crate::keystore::KeystoreError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl BatchError {
    /// Whether the database could not be reached: the same batch may succeed later.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_unavailable())
    }
}

/// Answers a batch in one transaction.
pub(super) async fn answer(
    connection: &mut PgConnection,
    shared: &Shared,
    scope_sets: &mut ScopeSets,
    requests: &[SyncRequest],
) -> Result<Answers, BatchError> {
    let catalog = shared.catalog();
    let uids: Vec<_> = requests.iter().map(|request| request.caller.uid()).collect();

    // 1. Share the fence with other mints, against rotations; take each instance's lock.
    fences::begin_batch(connection, &uids).await?;

    // 2. Read the clock, the active key and the facts, in a statement of its own:
    //    its snapshot follows the wait for the locks.
    let about_now = shared.clock.now();
    let earliest_retry = about_now - RETRY_WITH_KEY - CLOCK_DIFFERENCE;
    let syncs = earliest_retry..about_now + CLOCK_DIFFERENCE;
    let facts = facts::list_for_batch(connection, shared.environment(), &uids, syncs).await?;
    let now = shared.clock.settle(facts.now);
    let signer = match &facts.active_key {
        Some(key) => Some(shared.signer(connection, key).await?),
        None => None,
    };

    // 3. Authenticate and decide each. What is refused here needs nothing more.
    let batch = Batch { shared, catalog: &catalog, facts: &facts, now };
    let mut steps = Vec::with_capacity(requests.len());
    for (request, facts) in requests.iter().zip(&facts.instances) {
        steps.push(batch.judge(connection, request, facts.as_ref()).await?);
    }

    // 4. An identical sync gets the same tokens again: of this batch, or from the ledger.
    find_twins(&mut steps);
    batch.find_recorded(connection, &mut steps, earliest_retry).await?;

    // 5. Record what is new, and sign while the database writes.
    let mut rows = Vec::new();
    let mut minted = Vec::with_capacity(steps.len());
    for step in &mut steps {
        let Step::Mint(mint) = step else { continue };
        let Some(key) = &facts.active_key else { continue };
        for plan in &mint.plans {
            let scope_set = scope_sets.number(connection, &catalog, plan).await?;
            let jti = Jti::generate(now);
            mint.jtis.push(jti);
            rows.push(new_issuance(mint, plan, jti, key, scope_set, catalog.number));
        }
    }
    batch.record_reports(connection, &steps, requests).await?;
    let recording =
        async { if rows.is_empty() { Ok(()) } else { issuances::insert_all(connection, &rows).await } };
    let signing = async {
        // The statement is on its way before the first signature is made.
        tokio::task::yield_now().await;
        for step in &mut steps {
            minted.push(batch.sign(step, signer.as_deref()));
        }
    };
    let (recorded, ()) = tokio::join!(recording, signing);
    recorded?;

    // 6. Durable first; then the answers may leave.
    fences::commit_batch(connection).await?;
    scope_sets.keep();
    Ok(batch.answers(requests, steps, minted))
}

/// How long after a sync an identical one gets the same tokens.
const RETRY: TimeDelta = TimeDelta::seconds(60);
/// The same, with an equal `Idempotency-Key`.
const RETRY_WITH_KEY: TimeDelta = TimeDelta::minutes(10);
/// This process's clock only says about where in the ledger to look; it is seconds off at the most.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(1);

struct Batch<'a> {
    shared: &'a Shared,
    catalog: &'a Arc<LoadedCatalog>,
    facts: &'a BatchFacts,
    now: DateTime<Utc>,
}

/// How far one request of a batch has come.
enum Step<'a> {
    Refused(SyncError),
    /// The same as an earlier request of this batch.
    Twin(usize, Mint<'a>),
    Mint(Mint<'a>),
    /// The same as a sync in the ledger: its plans and jtis are those of its tokens there.
    Recorded(Mint<'a>),
}

/// A sync that was granted.
struct Mint<'a> {
    instance: &'a InstanceFacts,
    situation: Situation,
    decision: Decision,
    granted: Vec<BackendGrants>,
    plans: Vec<TokenPlan>,
    /// One for each plan, once it is recorded.
    jtis: Vec<Jti>,
    digest: [u8; 16],
    idempotency: Option<[u8; 16]>,
    effect: Option<instance_credentials::CredentialUse>,
}

impl<'a> Batch<'a> {
    async fn judge(
        &self,
        connection: &mut PgConnection,
        request: &SyncRequest,
        facts: Option<&'a InstanceFacts>,
    ) -> Result<Step<'a>, StorageError> {
        let authenticated = authentication::authenticate(facts, &request.caller, self.now);
        let (Some(instance), Some(authenticated)) = (facts, authenticated) else {
            return Ok(Step::Refused(SyncError::Unauthenticated));
        };
        if let CallerProof::Assertion(assertion) = &request.caller
            && !assertion_uses::insert_once(connection, &assertion.usage()).await?
        {
            return Ok(Step::Refused(SyncError::Unauthenticated));
        }
        Ok(self.decide(request, instance, &authenticated))
    }

    fn decide(&self, request: &SyncRequest, instance: &'a InstanceFacts, who: &Authenticated) -> Step<'a> {
        // The version that syncs is the version that is judged.
        let mut situation = instance.situation.clone();
        situation.instance.version = request.version.clone();
        let catalog = &self.catalog.catalog;
        let decision = decide(catalog, &situation, self.shared.grace, self.now);
        if let Some(obstacle) = decision.obstacle {
            return Step::Refused(SyncError::Refused(obstacle));
        }
        let Some(key) = &self.facts.active_key else {
            return Step::Refused(SyncError::Unavailable("No key may sign right now."));
        };
        let lifetime =
            Lifetime { of_tokens: self.shared.token_lifetime, of_key: key.not_after - self.shared.leeway };
        let granted = BackendGrants::of_decision(catalog, &situation, &decision, request.backends.as_deref());
        let plans = TokenPlan::of_grants(&granted, lifetime, self.now);
        let digest = sync_digest(request, instance, who.credential, &granted, catalog.digest(), &key.kid);
        Step::Mint(Mint {
            instance,
            situation,
            decision,
            granted,
            plans,
            jtis: Vec::new(),
            digest,
            idempotency: request.idempotency,
            effect: who.effect,
        })
    }

    /// Reads the tokens of those syncs that the ledger holds already.
    async fn find_recorded(
        &self,
        connection: &mut PgConnection,
        steps: &mut [Step<'a>],
        since: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let retries: Vec<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Mint(mint) if self.is_retry(mint) => mint
                    .instance
                    .last_sync
                    .as_ref()
                    .map(|last| (mint.instance.number, last.issued_at, last.digest.clone())),
                _ => None,
            })
            .collect();
        if retries.is_empty() {
            return Ok(());
        }
        let mut recorded: HashMap<i64, Vec<RecordedToken>> = HashMap::new();
        for token in issuances::list_of_syncs(connection, &retries, since).await? {
            recorded.entry(token.instance_number).or_default().push(token);
        }
        for step in steps {
            let Step::Mint(mint) = step else { continue };
            if !self.is_retry(mint) {
                continue;
            }
            let tokens = recorded.remove(&mint.instance.number).unwrap_or_default();
            // Only what is still granted is given again; else this is a sync like any other.
            let plan = |token| TokenPlan::of_record(&self.catalog.catalog, &mint.granted, record(token));
            let plans: Option<Vec<_>> = tokens.iter().map(plan).collect();
            if let Some(plans) = plans.filter(|plans| !plans.is_empty()) {
                let Step::Mint(mut mint) = std::mem::replace(step, Step::Refused(SyncError::Unauthenticated))
                else {
                    continue;
                };
                mint.plans = plans;
                mint.jtis = tokens.iter().map(|token| token.jti).collect();
                *step = Step::Recorded(mint);
            }
        }
        Ok(())
    }

    fn is_retry(&self, mint: &Mint<'_>) -> bool {
        let Some(last) = &mint.instance.last_sync else { return false };
        let same_key = mint.idempotency.is_some()
            && last.idempotency.as_deref() == mint.idempotency.as_ref().map(<[u8; 16]>::as_slice);
        let within = if same_key { RETRY_WITH_KEY } else { RETRY };
        // The ledger dates in whole seconds: within the time means to the second.
        last.digest == mint.digest && self.now.trunc_subsecs(0) - last.issued_at <= within
    }

    /// Records what instances told of themselves, where it is news.
    async fn record_reports(
        &self,
        connection: &mut PgConnection,
        steps: &[Step<'a>],
        requests: &[SyncRequest],
    ) -> Result<(), StorageError> {
        let mut reported = Vec::new();
        for (step, request) in steps.iter().zip(requests) {
            let (Step::Mint(mint) | Step::Recorded(mint)) = step else { continue };
            if let Some(effect) = &mint.effect {
                instance_credentials::update_use(connection, mint.instance.uid, effect).await?;
            }
            let recorded = &mint.instance.situation.instance.version;
            let hostname = request.hostname.as_ref().filter(|name| **name != mint.instance.hostname);
            let usage =
                request.usage.as_ref().filter(|usage| Some(*usage) != mint.instance.reported_usage.as_ref());
            if *recorded != request.version || hostname.is_some() || usage.is_some() {
                reported.push(Reported {
                    uid: mint.instance.uid,
                    version: request.version.to_string(),
                    hostname: hostname.cloned(),
                    usage: usage.cloned(),
                });
            }
        }
        if reported.is_empty() {
            Ok(())
        } else {
            instances::update_reported(connection, &reported, self.now).await
        }
    }

    /// Signs what a step records, or what it rebuilds.
    fn sign(&self, step: &mut Step<'a>, signer: Option<&Signer>) -> Vec<IssuedToken> {
        let Some(signer) = signer else { return Vec::new() };
        match step {
            Step::Refused(_) | Step::Twin(..) => Vec::new(),
            Step::Mint(mint) | Step::Recorded(mint) => {
                let plans = std::mem::take(&mut mint.plans);
                let tokens = plans.into_iter().zip(&mint.jtis);
                tokens.map(|(plan, jti)| self.token(mint.instance, plan, *jti, signer)).collect()
            }
        }
    }

    fn token(&self, instance: &InstanceFacts, plan: TokenPlan, jti: Jti, signer: &Signer) -> IssuedToken {
        let bearer = Bearer {
            issuer: self.shared.issuer(),
            instance_id: instance.instance_id,
            instance_uid: instance.uid,
            realm: instance.situation.instance.realm.claim(),
        };
        let (backend, scopes) = (plan.backend(), plan.scopes().to_vec());
        let (expires_at, ends_with_grant) = (plan.expires_at(), plan.ends_with_grant());
        let token = signer.sign_compact(&plan.into_payload(&self.catalog.catalog, &bearer, jti));
        IssuedToken { backend, scopes, expires_at, ends_with_grant, token }
    }

    fn answers(
        &self,
        requests: &[SyncRequest],
        steps: Vec<Step<'a>>,
        minted: Vec<Vec<IssuedToken>>,
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
            answers.push(Ok(self.granted(request, mint, tokens, is_retry)));
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
        SyncAnswer {
            instance_uid: mint.instance.uid,
            synced_at: self.now,
            schedule: SyncSchedule::after(
                self.now,
                mint.instance.uid,
                self.shared.sync_interval,
                &expiries,
                next_change_at,
            ),
            next_change_at,
            tokens,
            explained: request.explain.then(|| Box::new((mint.situation, mint.decision))),
            catalog: Arc::clone(self.catalog),
            key_set_version: self.facts.key_set_version,
            is_retry,
        }
    }
}

/// Requests of one batch that are the same sync share the first one's tokens.
fn find_twins(steps: &mut [Step<'_>]) {
    let mut first: HashMap<(i64, [u8; 16]), usize> = HashMap::new();
    for (index, step) in steps.iter_mut().enumerate() {
        let Step::Mint(mint) = step else { continue };
        if let Some(twin_of) = first.get(&(mint.instance.number, mint.digest)).copied() {
            if let Step::Mint(mint) = std::mem::replace(step, Step::Refused(SyncError::Unauthenticated)) {
                *step = Step::Twin(twin_of, mint);
            }
        } else {
            first.insert((mint.instance.number, mint.digest), index);
        }
    }
}

fn minted_again(answers: &Answers, first: usize) -> Vec<IssuedToken> {
    match answers.get(first) {
        Some(Ok(answer)) => answer.tokens.clone(),
        _ => Vec::new(),
    }
}

fn record(token: &RecordedToken) -> TokenRecord<'_> {
    TokenRecord {
        backend: &token.backend,
        scopes: &token.scopes,
        seats: token.seats.and_then(|seats| u64::try_from(seats).ok()),
        issued_at: token.issued_at,
        expires_at: token.expires_at,
        ends_with_grant: token.ends_with_grant,
    }
}

fn new_issuance(
    mint: &Mint<'_>,
    plan: &TokenPlan,
    jti: Jti,
    key: &ActiveKey,
    scope_set: i32,
    catalog_number: i16,
) -> NewIssuance {
    NewIssuance {
        jti,
        instance_number: mint.instance.number,
        issued_at: plan.issued_at(),
        expires_at: plan.expires_at(),
        sync_digest: mint.digest,
        idempotency: mint.idempotency,
        seats: plan.seats().map(|seats| i64::try_from(seats).unwrap_or(i64::MAX)),
        scope_set,
        key_number: key.number,
        catalog_number,
        ends_with_grant: plan.ends_with_grant(),
    }
}
