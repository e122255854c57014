//! What keeps the tables small: the ledger's months ahead of time, those that it forgets, and rows that nobody needs
//! any more.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;

use crate::clock::Clock;
use crate::domain::ids::AuditEventId;
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::issuances::ForgottenMonth;
use crate::storage::{Database, StorageError, assertion_uses, fences, idempotency_keys, imports, issuances};

/// What was done.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Maintained {
    pub partitions_made: i32,
    pub forgotten: Vec<ForgottenMonth>,
    /// Whether months are not made yet, or not forgotten, since somebody reads or writes the ledger for long.
    pub is_postponed: bool,
    pub assertion_uses: u64,
    pub idempotency_keys: u64,
    pub import_results: u64,
}

/// Does all of it. Safe at any time, on several replicas at once, and when there is nothing to do.
///
/// # Errors
/// The database cannot be reached or written.
pub async fn run(
    database: &Database,
    clock: &Clock,
    ledger_retention_days: u16,
    actor: &str,
) -> Result<Maintained, StorageError> {
    let now = clock.now();
    let mut tx = database.begin().await?;
    let mut done = Maintained {
        assertion_uses: assertion_uses::delete_expired(&mut tx, now).await?,
        idempotency_keys: idempotency_keys::delete_expired(&mut tx, now).await?,
        ..Maintained::default()
    };
    tx.commit().await?;
    match make_partitions(database, now).await? {
        Some(made) => done.partitions_made = made,
        None => done.is_postponed = true,
    }
    // Some at a time, so that no statement takes long.
    loop {
        let mut tx = database.begin().await?;
        let forgotten = imports::delete_expired_results(&mut tx, now, RESULTS_AT_ONCE).await?;
        tx.commit().await?;
        if forgotten == 0 {
            break;
        }
        done.import_results += forgotten;
    }
    match forget_months(database, clock, ledger_retention_days, actor).await {
        Ok(forgotten) => done.forgotten = forgotten,
        // Syncs wait behind whoever waits for the whole ledger: better to come again.
        Err(error) if error.is_lock_timeout() => done.is_postponed = true,
        Err(error) => return Err(error),
    }
    Ok(done)
}

/// Makes the ledger's partitions of this month and the next three; `None` where somebody holds the ledger for so long that
/// it is better to come again. What no month covers lands in a partition of its own meanwhile.
///
/// # Errors
/// The database cannot be reached or written.
pub async fn make_partitions(database: &Database, now: DateTime<Utc>) -> Result<Option<i32>, StorageError> {
    let mut tx = database.begin().await?;
    fences::limit_waits(&mut tx, LONGEST_WAIT).await?;
    match issuances::make_partitions(&mut tx, now).await {
        Ok(made) => {
            tx.commit().await?;
            Ok(Some(made))
        }
        Err(error) if error.is_lock_timeout() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Drops the months of the ledger that ended before its retention began, each with its row in the audit.
async fn forget_months(
    database: &Database,
    clock: &Clock,
    retention_days: u16,
    actor: &str,
) -> Result<Vec<ForgottenMonth>, StorageError> {
    let mut tx = database.begin().await?;
    fences::limit_waits(&mut tx, LONGEST_WAIT).await?;
    let now = clock.settle(fences::find_now(&mut tx).await?);
    let forgotten =
        issuances::drop_partitions(&mut tx, now - TimeDelta::days(i64::from(retention_days))).await?;
    for month in &forgotten {
        let row = NewAuditEvent {
            id: AuditEventId::generate(now),
            at: now,
            actor,
            action: "ledger.forget_month",
            subject_kind: "ledger",
            subject_id: &month.name,
            reason: Some("older than the setting ledger_retention_days"),
            before: Some(json!({
                "since": month.since,
                "until": month.until,
                "about_tokens": month.about_tokens,
                "bytes": month.bytes,
            })),
            after: None,
            request_id: None,
        };
        audit_events::insert(&mut tx, &row).await?;
    }
    tx.commit().await?;
    Ok(forgotten)
}

const RESULTS_AT_ONCE: i64 = 5000;

/// Below the deadline of a sync, which is 5 s by default: syncs wait behind it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
