//! Which syncs of a batch are retries, and of what: of another of this batch, or of one in the ledger.

use std::collections::HashMap;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use sqlx::PgConnection;

use super::batch::{Batch, Mint, Step};
use super::planning::Planned;
use super::request::SyncError;
use crate::domain::token_plan::{TokenPlan, TokenRecord};
use crate::storage::StorageError;
use crate::storage::issuances::{self, RecordedToken};

/// Requests of one batch that are the same sync share the first one's tokens.
pub(super) fn find_twins(steps: &mut [Step<'_>]) {
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

impl<'a> Batch<'a> {
    /// Reads the tokens of those syncs that the ledger holds already.
    pub(super) async fn find_recorded(
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
            let catalog = &self.catalog.catalog;
            let plan = |token| {
                let plan = TokenPlan::of_record(catalog, &mint.granted, record(token))?;
                let alg = self.keys.alg_of(catalog, plan.backend());
                Some(Planned { plan, alg })
            };
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
        // Where syncs are due more often than that, the next one is no retry: its tokens have to last longer.
        let within = within.min(self.shared.sync_interval / 2);
        // The ledger dates in whole seconds: within the time means to the second.
        last.digest == mint.digest && self.now.trunc_subsecs(0) - last.issued_at <= within
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

/// How long after a sync an identical one gets the same tokens.
const RETRY: TimeDelta = TimeDelta::seconds(60);
/// The same, with an equal `Idempotency-Key`.
pub(super) const RETRY_WITH_KEY: TimeDelta = TimeDelta::minutes(10);
/// This process's clock only says about where in the ledger to look; it is seconds off at the most.
pub(super) const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(1);
