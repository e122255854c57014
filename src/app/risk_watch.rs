//! Shows what endangers instances before they notice: tokens that die before the next sync, and clocks that differ.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use metrics::gauge;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::clock::Clock;
use crate::domain::ids::InstanceUid;
use crate::domain::sync_rhythm::SyncRhythm;
use crate::storage::sync_histories::{self, SyncHistory};
use crate::storage::{StorageError, fences};
use crate::telemetry::metric_names::{CLOCK_SKEW, INSTANCES_AT_RISK};

/// A walk over every instance, a bounded number at a time, so that it costs the same whatever their number.
#[derive(Debug, Default)]
pub struct RiskWalk {
    /// Where it goes on; `None`: at the beginning.
    after: Option<InstanceUid>,
    /// Of this round so far.
    at_risk: u64,
}

impl RiskWalk {
    /// Looks at the next instances. Returns how many of all are at risk when a round is complete.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn go_on(&mut self, app: &App) -> Result<Option<u64>, StorageError> {
        let (now, usual) = (app.now(), app.sync_interval());
        let mut connection = app.database.begin().await?;
        let histories = sync_histories::list(&mut connection, self.after, AT_ONCE, now).await?;
        let is_last = i64::try_from(histories.len()).is_ok_and(|found| found < AT_ONCE);
        self.at_risk += histories.iter().filter(|history| is_at_risk(history, now, usual)).count() as u64;
        self.after = histories.last().map(|history| history.uid).filter(|_| !is_last);
        Ok(is_last.then(|| std::mem::take(&mut self.at_risk)))
    }
}

/// Whether its tokens die within a day, and before it can be expected to sync again.
fn is_at_risk(history: &SyncHistory, now: DateTime<Utc>, usual: TimeDelta) -> bool {
    let rhythm = SyncRhythm::of(&history.syncs, usual);
    let dies = rhythm.zip(history.first_expiry);
    dies.is_some_and(|(rhythm, at)| rhythm.is_too_slow_for(at, now, WITHIN))
}

/// Goes on until it is dropped. Every replica shows the same.
pub async fn watch_risks(app: Arc<App>) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut walk = RiskWalk::default();
    loop {
        beat.tick().await;
        // The database may be away for a while; readiness and every request say so already.
        if let Err(error) = look(&app, &mut walk).await {
            tracing::debug!(%error, "what is at risk could not be read; it is tried again");
        }
    }
}

async fn look(app: &App, walk: &mut RiskWalk) -> Result<(), StorageError> {
    let mut connection = app.database.begin().await?;
    let began = Clock::system().now();
    let there = fences::find_now(&mut connection).await?;
    let here = began + (Clock::system().now() - began) / 2;
    gauge!(CLOCK_SKEW).set((there - here).num_milliseconds() as f64 / 1000.0);
    drop(connection);
    if let Some(at_risk) = walk.go_on(app).await? {
        gauge!(INSTANCES_AT_RISK).set(at_risk as f64);
    }
    Ok(())
}

const BEAT: Duration = Duration::from_secs(30);
/// How many instances are looked at with each beat: a round over 100,000 takes 50 minutes.
const AT_ONCE: i64 = 1000;
/// As the report on them looks ahead.
const WITHIN: TimeDelta = TimeDelta::hours(24);
