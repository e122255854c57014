//! What a running service does beside answering: partitions ahead of time, forgetting what has expired, gauges.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::gauge;

use super::App;
use crate::storage::{StorageError, assertion_uses, facts, issuances};
use crate::telemetry::metric_names::{ACTIVE_KEY, POOL_CONNECTIONS};

/// Goes on until it is dropped. Every replica does this: each step is harmless when done twice.
pub async fn keep_house(app: Arc<App>) {
    let mut beat = tokio::time::interval(BEAT);
    let mut beats: u32 = 0;
    loop {
        beat.tick().await;
        show_gauges(&app).await;
        if beats.is_multiple_of(BEATS_BETWEEN_TIDYING) {
            app.failed_authentications.tidy();
            if let Err(error) = tidy(&app, app.now()).await {
                tracing::warn!(%error, "housekeeping failed; it is tried again in ten minutes");
            }
        }
        beats = beats.wrapping_add(1);
    }
}

/// Makes the ledger's partitions of the months ahead, and forgets what nobody can need any more.
///
/// # Errors
/// The database cannot be reached.
async fn tidy(app: &App, now: DateTime<Utc>) -> Result<(), StorageError> {
    let mut tx = app.database.begin().await?;
    issuances::make_partitions(&mut tx, now).await?;
    assertion_uses::delete_expired(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}

async fn show_gauges(app: &App) {
    let pool = app.database.pool();
    let idle = pool.num_idle();
    let used = usize::try_from(pool.size()).unwrap_or_default().saturating_sub(idle);
    gauge!(POOL_CONNECTIONS, "state" => "idle").set(idle as f64);
    gauge!(POOL_CONNECTIONS, "state" => "used").set(used as f64);
    app.issuing.show_gauges();
    // A database that is away shows elsewhere; the gauge keeps what was last known.
    if let Ok(keys) = active_keys(app).await {
        let mut shown = app.shown_keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (kid, alg) in shown.drain(..) {
            gauge!(ACTIVE_KEY, "kid" => kid, "alg" => alg).set(0.0);
        }
        for (kid, alg) in keys {
            gauge!(ACTIVE_KEY, "kid" => kid.clone(), "alg" => alg.clone()).set(1.0);
            shown.push((kid, alg));
        }
    }
}

async fn active_keys(app: &App) -> Result<Vec<(String, String)>, StorageError> {
    let mut tx = app.database.begin().await?;
    facts::list_active_keys(&mut tx, app.settings.environment.as_str()).await
}

const BEAT: Duration = Duration::from_secs(5);
const BEATS_BETWEEN_TIDYING: u32 = 120;
