//! What a running service does beside answering: partitions ahead of time, forgetting what has expired, gauges.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::maintenance;
use crate::storage::{StorageError, fences, safe_mode, signing_keys};
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

/// Goes on until it is dropped. What changes the database is left to the replica whose work that is.
pub async fn keep_house(app: Arc<App>) {
    let mut often = tokio::time::interval(OFTEN);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seldom = tokio::time::interval(SELDOM);
    seldom.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut remembered = Remembered::default();
    loop {
        tokio::select! {
            _ = often.tick() => {
                // The database may be away for a while; readiness and every request say so already.
                match tokio::time::timeout(LONGEST_STEP, step(&app, &mut remembered)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "housekeeping failed; it is tried again"),
                    Err(_) => tracing::warn!("housekeeping took too long; it is tried again"),
                }
            }
            _ = seldom.tick() => app.failed_authentications.tidy(),
        }
    }
}

/// What one step leaves to the next.
#[derive(Default)]
struct Remembered {
    shown: HashSet<ActiveKey>,
    kept: Option<(u64, u64)>,
    last_tidied: Option<Instant>,
}

async fn step(app: &App, remembered: &mut Remembered) -> Result<(), StorageError> {
    let mut done = Ok(());
    if let Some(_turn) = app.background.turn() {
        done = mark_clock(app).await;
        if let Err(error) = app.keep_anchors(&mut remembered.kept).await {
            tracing::warn!(%error, "the anchors of the database could not be kept");
        }
        if remembered.last_tidied.is_none_or(|last| last.elapsed() >= SELDOM) {
            done = done.and(tidy(app).await);
            remembered.last_tidied = Some(Instant::now());
        }
    } else {
        // Another replica does it meanwhile; it begins anew when it is ours again.
        (remembered.kept, remembered.last_tidied) = (None, None);
    }
    show_active_keys(app, &mut remembered.shown).await.and(done)
}

/// Makes the ledger's partitions of the months ahead, and forgets what nobody can need any more.
async fn tidy(app: &App) -> Result<(), StorageError> {
    let done =
        maintenance::run(&app.database, &app.clock, app.settings.ledger_retention_days, "service").await?;
    if done.is_postponed {
        tracing::warn!(
            "not every month of the ledger could be made or forgotten yet: somebody holds it for long"
        );
    }
    for month in &done.forgotten {
        tracing::info!(
            ledger.partition = month.name,
            "the ledger forgot about {} tokens that were issued before {}",
            month.about_tokens,
            month.until
        );
    }
    Ok(())
}

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
/// Longer than the database works on any statement of it.
const LONGEST_STEP: Duration = Duration::from_secs(60);
