//! The story of a batch of syncs: read, decide, record, sign, commit, answer.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::answers::Answers;
use super::authentication::{self, Authenticated};
use super::digest::sync_digest;
use super::keys::Keys;
use super::planning::Planned;
use super::request::{CallerProof, SyncError, SyncRequest, Withheld};
use super::retries::{CLOCK_DIFFERENCE, RETRY_WITH_KEY, find_twins};
use super::scope_sets::ScopeSets;
use super::{LoadedCatalog, Shared};
use crate::domain::entitlement::{Decision, Situation, decide};
use crate::domain::ids::Jti;
use crate::domain::token_plan::{BackendGrants, TokenPlan};
use crate::storage::facts::{self, ActiveKey, BatchFacts, InstanceFacts};
use crate::storage::instances::{self, Reported};
use crate::storage::issuances::{self, NewIssuance};
use crate::storage::{StorageError, activations, assertion_uses, fences, instance_credentials};
use crate::telemetry::traces;

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
    let locking = traces::step("lock the instances");
    fences::begin_batch(connection, shared.database.batch_opening(), &uids).await?;
    drop(locking);

    // 2. Read the clock, the active key and the facts, in a statement of its own:
    //    its snapshot follows the wait for the locks.
    let about_now = shared.clock.now();
    let earliest_retry = about_now - RETRY_WITH_KEY - CLOCK_DIFFERENCE;
    let syncs = earliest_retry..about_now + CLOCK_DIFFERENCE;
    let reading = traces::step("read the facts");
    let facts = facts::list_for_batch(connection, shared.environment(), &uids, syncs).await?;
    drop(reading);
    let now = shared.clock.settle(facts.now);
    let keys = Keys::of(connection, shared, &facts).await?;

    // 3. Authenticate and decide each. What is refused here needs nothing more.
    let batch = Batch { shared, catalog: &catalog, facts: &facts, keys: &keys, now };
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
        for Planned { plan, alg } in &mint.plans {
            let Some(key) = keys.key(*alg) else { continue };
            let scope_set = scope_sets.number(connection, &catalog, plan).await?;
            let jti = Jti::generate(now);
            mint.jtis.push(jti);
            rows.push(new_issuance(mint, plan, jti, key, scope_set, catalog.number));
        }
    }
    batch.record_reports(connection, &steps, requests).await?;
    let next_values = batch.follow_lines(connection, requests, &mut steps).await?;
    let recording = async {
        let _traced = traces::step("record the tokens");
        if rows.is_empty() { Ok(()) } else { issuances::insert_all(connection, &rows).await }
    };
    let signing = async {
        // The statement is on its way before the first signature is made.
        tokio::task::yield_now().await;
        let _traced = traces::step("sign");
        for step in &mut steps {
            minted.push(batch.sign(step));
        }
    };
    let (recorded, ()) = tokio::join!(recording, signing);
    recorded?;
    let minted = minted.into_iter().collect::<Result<Vec<_>, _>>()?;

    // 6. Durable first; then the answers may leave.
    let committing = traces::step("commit");
    fences::commit_batch(connection).await?;
    drop(committing);
    scope_sets.keep();
    Ok(batch.answers(requests, steps, minted, next_values))
}

pub(super) struct Batch<'a> {
    pub(super) shared: &'a Shared,
    pub(super) catalog: &'a Arc<LoadedCatalog>,
    pub(super) facts: &'a BatchFacts,
    pub(super) keys: &'a Keys<'a>,
    pub(super) now: DateTime<Utc>,
}

/// How far one request of a batch has come.
pub(super) enum Step<'a> {
    Refused(SyncError),
    /// The same as an earlier request of this batch.
    Twin(usize, Mint<'a>),
    Mint(Mint<'a>),
    /// The same as a sync in the ledger: its plans and jtis are those of its tokens there.
    Recorded(Mint<'a>),
}

/// A sync that was granted.
pub(super) struct Mint<'a> {
    pub(super) instance: &'a InstanceFacts,
    pub(super) situation: Situation,
    pub(super) decision: Decision,
    pub(super) granted: Vec<BackendGrants>,
    pub(super) withheld: Vec<Withheld>,
    pub(super) plans: Vec<Planned>,
    /// One for each plan, once it is recorded.
    pub(super) jtis: Vec<Jti>,
    pub(super) digest: [u8; 16],
    pub(super) idempotency: Option<[u8; 16]>,
    pub(super) effect: Option<instance_credentials::CredentialUse>,
    /// The end of the key whose place another one took, where that was used just now for the first time.
    pub(super) previous_key_dies_at: Option<DateTime<Utc>>,
    /// Whether two installations are known to use the identity.
    pub(super) is_contested: bool,
}

impl<'a> Step<'a> {
    /// What was granted.
    pub(super) fn mint(&self) -> Option<&Mint<'a>> {
        match self {
            Self::Refused(_) => None,
            Self::Twin(_, mint) | Self::Mint(mint) | Self::Recorded(mint) => Some(mint),
        }
    }

    pub(super) fn mint_mut(&mut self) -> Option<&mut Mint<'a>> {
        match self {
            Self::Refused(_) => None,
            Self::Twin(_, mint) | Self::Mint(mint) | Self::Recorded(mint) => Some(mint),
        }
    }
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
        if let Some(version) = &request.version {
            situation.instance.version = version.clone();
        }
        let catalog = &self.catalog.catalog;
        let decision = decide(catalog, &situation, self.shared.grace, self.now);
        if let Some(obstacle) = decision.obstacle {
            return Step::Refused(SyncError::Refused(obstacle));
        }
        let (granted, withheld) = match self.granted_for(request, &situation, &decision) {
            Ok(granted) => granted,
            Err(refused) => return Step::Refused(refused),
        };
        let plans = self.plan(request, &granted);
        let digest = sync_digest(request, instance, who.credential, &granted, catalog, self.keys);
        Step::Mint(Mint {
            instance,
            situation,
            decision,
            granted,
            withheld,
            plans,
            jtis: Vec::new(),
            digest,
            idempotency: request.idempotency,
            effect: who.effect,
            previous_key_dies_at: who.previous_key_dies_at,
            is_contested: instance.is_contested || who.effect.is_some_and(|effect| effect.contested),
        })
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
            if let Some(dies_at) = mint.previous_key_dies_at {
                activations::update_previous_key_to_die(connection, mint.instance.uid, dies_at, self.now)
                    .await?;
            }
            let recorded = &mint.instance.situation.instance.version;
            let version = request.version.as_ref().unwrap_or(recorded);
            let hostname = request.hostname.as_ref().filter(|name| **name != mint.instance.hostname);
            let usage =
                request.usage.as_ref().filter(|usage| Some(*usage) != mint.instance.reported_usage.as_ref());
            if recorded != version || hostname.is_some() || usage.is_some() {
                reported.push(Reported {
                    uid: mint.instance.uid,
                    version: version.to_string(),
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
