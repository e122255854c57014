//! What a running service does beside answering: partitions ahead of time, forgetting what has expired, gauges.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::storage::{
    StorageError, assertion_uses, fences, idempotency_keys, imports, issuances, safe_mode, signing_keys,
};
use crate::telemetry::metric_names::{ACTIVE_KEY, POOL_CONNECTIONS};

impl App {
    /// Brings the gauges up to date that nothing else moves; call it when they are scraped.
    pub fn show_gauges(&self) {
        let pool = self.database.pool();
        let idle = pool.num_idle();
        gauge!(POOL_CONNECTIONS, "state" => "idle").set(idle as f64);
        gauge!(POOL_CONNECTIONS, "state" => "used").set(f64::from(pool.size()) - idle as f64);
        self.issuing.show_gauges();
    }
}

/// Goes on until it is dropped. Every replica does this: each step is harmless when done twice.
pub async fn keep_house(app: Arc<App>) {
    let mut often = tokio::time::interval(OFTEN);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seldom = tokio::time::interval(SELDOM);
    seldom.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = HashSet::new();
    let mut kept = None;
    loop {
        // The database may be away for a while; readiness and every request say so already.
        let outcome = tokio::select! {
            _ = often.tick() => {
                let marked = mark_clock(&app).await;
                if let Err(error) = app.keep_anchors(&mut kept).await {
                    tracing::warn!(%error, "the anchors of the database could not be kept");
                }
                show_active_keys(&app, &mut shown).await.and(marked)
            }
            _ = seldom.tick() => {
                app.failed_authentications.tidy();
                tidy(&app).await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "housekeeping failed; it is tried again");
        }
    }
}

/// Makes the ledger's partitions of the months ahead, and forgets what nobody can need any more.
async fn tidy(app: &App) -> Result<(), StorageError> {
    let now = app.now();
    let mut tx = app.database.begin().await?;
    issuances::make_partitions(&mut tx, now).await?;
    assertion_uses::delete_expired(&mut tx, now).await?;
    idempotency_keys::delete_expired(&mut tx, now).await?;
    tx.commit().await?;
    // Some at a time, so that no statement takes long.
    loop {
        let mut tx = app.database.begin().await?;
        let forgotten = imports::delete_expired_results(&mut tx, now, RESULTS_AT_ONCE).await?;
        tx.commit().await?;
        if forgotten == 0 {
            return Ok(());
        }
    }
}

const RESULTS_AT_ONCE: i64 = 5000;

/// Remembers how far the clock got, while the database's and this process's agree: neither of two that differ is
/// to be believed.
async fn mark_clock(app: &App) -> Result<(), StorageError> {
    let mut tx = app.database.begin().await?;
    let database_now = app.clock.settle(fences::find_now(&mut tx).await?);
    if (database_now - app.now()).abs() <= safe_mode::CLOCK_TOLERANCE {
        safe_mode::raise_clock_mark(&mut tx, app.settings.environment.as_str()).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Shows each active key as 1, and those that were active before as 0.
async fn show_active_keys(app: &App, shown: &mut HashSet<ActiveKey>) -> Result<(), StorageError> {
    let mut tx = app.database.begin().await?;
    let active = signing_keys::list_active(&mut tx, app.settings.environment.as_str()).await?;
    let active: HashSet<ActiveKey> =
        active.iter().map(|key| (key.kid.to_string(), key.alg.as_str(), key.purpose.name())).collect();
    for key in shown.union(&active) {
        let (kid, alg, purpose) = key.clone();
        gauge!(ACTIVE_KEY, "kid" => kid, "alg" => alg, "purpose" => purpose)
            .set(f64::from(u8::from(active.contains(key))));
    }
    shown.extend(active);
    Ok(())
}

/// The labels of the gauge: kid, algorithm, purpose.
type ActiveKey = (String, &'static str, &'static str);

/// How soon a change of keys shows in the metrics.
const OFTEN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(600);
