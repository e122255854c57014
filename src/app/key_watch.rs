//! Keeps up with changes of keys: wipes signers that may not sign any more, keeps the deny list fresh, raises alarms.
//!
//! Nothing here decides which key signs: each mint reads that in its own transaction. A change that is not heard of
//! costs seconds until a private half leaves the memory, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use sqlx::postgres::PgListener;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::domain::key_ring::{Algorithm, Fleet, Key, KeyState, Slot};
use crate::rotation::deny_list::{self, Author};
use crate::rotation::{JWKS_MAX_AGE, RotationError};
use crate::storage::key_rings::CHANGES;
use crate::storage::{StorageError, backends, deny_lists, deployments, fleet, key_rings, signing_keys};
use crate::telemetry::metric_names::{DENY_LIST_AGE, KEY_END, READY_STANDBYS, UNSERVED_BACKENDS};

/// How often the keys are looked at although nothing was told.
#[derive(Clone, Copy, Debug)]
pub struct WatchRhythm {
    /// For signers that may not sign any more.
    pub often: Duration,
    /// For the deny list and the alarms.
    pub seldom: Duration,
}

impl Default for WatchRhythm {
    fn default() -> Self {
        Self { often: Duration::from_secs(5), seldom: Duration::from_secs(30) }
    }
}

/// Goes on until it is dropped: at each change that is told, and every few seconds.
pub async fn watch_keys(app: Arc<App>, rhythm: WatchRhythm) {
    let mut often = tokio::time::interval(rhythm.often);
    often.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seldom = tokio::time::interval(rhythm.seldom);
    seldom.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listener = None;
    let mut told = BTreeMap::new();
    loop {
        if listener.is_none() {
            // It needs a session of its own. Without one, the poll does it alone.
            listener = listen(&app).await;
            if listener.is_some() {
                // Whatever was told while nobody listened was missed.
                report(follow(&app, &mut told).await);
            }
        }
        let is_seldom = tokio::select! {
            _ = often.tick() => false,
            _ = seldom.tick() => true,
            () = heard(&mut listener) => false,
        };
        match tokio::time::timeout(LONGEST_STEP, step(&app, &mut told, is_seldom)).await {
            Ok(outcome) => report(outcome),
            Err(_) => tracing::warn!("looking after the keys took too long; it is tried again"),
        }
    }
}

/// Takes note of which keys sign now.
async fn follow(app: &App, told: &mut BTreeMap<Algorithm, BTreeSet<String>>) -> Result<(), RotationError> {
    forget_signers(app).await?;
    tell_unserved(app, told).await?;
    Ok(())
}

async fn step(
    app: &App,
    told: &mut BTreeMap<Algorithm, BTreeSet<String>>,
    is_seldom: bool,
) -> Result<(), RotationError> {
    if !is_seldom {
        return follow(app, told).await;
    }
    let done = match app.background.turn() {
        Some(_turn) => look_after(app).await,
        None => Ok(()),
    };
    done.and(show_alarms(app).await)
}

/// Wipes the private halves of keys that may not sign any more.
///
/// # Errors
/// The database cannot be read.
pub async fn forget_signers(app: &App) -> Result<(), StorageError> {
    let mut connection = app.database.begin().await?;
    let keys = signing_keys::list(&mut connection, app.settings.environment.as_str()).await?;
    let may_sign = keys.iter().map(|listed| &listed.key);
    let may_sign = may_sign.filter(|key| matches!(key.state, KeyState::Active | KeyState::Published));
    let kids: HashSet<String> = may_sign.map(|key| key.kid.to_string()).collect();
    app.keystore.keep_only(&kids);
    Ok(())
}

/// Signs the deny list anew where it is an hour old, and forgets processes that were silent for a month.
///
/// # Errors
/// The database cannot be reached, or the key of deny lists does not open.
pub async fn look_after(app: &App) -> Result<(), RotationError> {
    let environment = app.settings.environment.as_str();
    let kek = &**app.keystore.key_encryption();
    let author = Author { environment, issuer: app.issuer(), kek };
    deny_list::keep_fresh(&app.database, &author, &app.clock).await?;
    let mut tx = app.database.begin().await?;
    deployments::delete_silent(&mut tx, app.now() - SILENT).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok(())
}

/// Shows what alarms look at: standbys, the ends of keys, the age of the deny list.
///
/// # Errors
/// The database cannot be read.
pub async fn show_alarms(app: &App) -> Result<(), RotationError> {
    let environment = app.settings.environment.as_str();
    let now = app.now();
    let mut connection = app.database.begin().await?;
    let Some(stored) = key_rings::find(&mut connection, environment).await? else { return Ok(()) };
    let fleet: Fleet = fleet::find(&mut connection, environment, JWKS_MAX_AGE).await?;
    let mut slots: Vec<Slot> = stored.ring.keys().map(Key::slot).collect();
    slots.sort_unstable();
    slots.dedup();
    for slot in slots {
        let ready = stored.ring.ready_standbys(slot, &fleet, now).count();
        gauge!(READY_STANDBYS, "alg" => slot.alg.as_str(), "purpose" => slot.purpose.name())
            .set(ready as f64);
    }
    for key in stored.ring.keys() {
        let left = if key.state.is_carried() { (key.not_after - now).num_seconds() as f64 } else { 0.0 };
        gauge!(KEY_END, "kid" => key.kid.to_string(), "alg" => key.alg.as_str(), "purpose" => key.purpose.name())
            .set(left);
    }
    if let Some(list) = deny_lists::find_latest(&mut connection, environment).await? {
        gauge!(DENY_LIST_AGE).set((now - list.created_at).num_seconds() as f64);
    }
    Ok(())
}

/// Shows for how many backends no key may sign, and says so once when that changes.
async fn tell_unserved(
    app: &App,
    told: &mut BTreeMap<Algorithm, BTreeSet<String>>,
) -> Result<(), StorageError> {
    let mut connection = app.database.begin().await?;
    let unserved =
        backends::list_unserved(&mut connection, app.settings.environment.as_str(), app.now()).await?;
    let mut by_alg: BTreeMap<Algorithm, BTreeSet<String>> =
        Algorithm::ALL.iter().map(|alg| (*alg, BTreeSet::new())).collect();
    for (backend, alg) in unserved {
        by_alg.entry(alg).or_default().insert(backend.to_string());
    }
    for (alg, names) in &by_alg {
        gauge!(UNSERVED_BACKENDS, "alg" => alg.as_str()).set(names.len() as f64);
        if told.get(alg).map_or(names.is_empty(), |told| told == names) {
            continue;
        }
        if names.is_empty() {
            tracing::info!(alg = alg.as_str(), "a key signs for {alg} again: every backend gets tokens");
        } else {
            let names = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            tracing::error!(
                alg = alg.as_str(),
                backends = names,
                "no {alg} key may sign: {names} get no tokens; `token-authority keys plan` says what to do"
            );
        }
    }
    *told = by_alg;
    Ok(())
}

async fn listen(app: &App) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(&app.database.listening_pool()).await.ok()?;
    listener.listen(CHANGES).await.ok()?;
    Some(listener)
}

/// Returns when a change was told, or when one may have been missed: a lost connection is given up, and made anew.
async fn heard(listener: &mut Option<PgListener>) {
    let Some(listening) = listener else { return std::future::pending().await };
    if !matches!(listening.try_recv().await, Ok(Some(_))) {
        *listener = None;
    }
}

/// The database may be away for a while; readiness and every request say so already.
fn report(outcome: Result<(), RotationError>) {
    match outcome {
        Ok(()) => {}
        Err(RotationError::Storage(error)) => {
            tracing::debug!(%error, "keys could not be looked after; it is tried again");
        }
        Err(error) => tracing::error!(%error, "keys could not be looked after"),
    }
}

/// Longer than the database works on any statement of it.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// A process that nobody has heard of for so long is not coming back under that name.
const SILENT: chrono::TimeDelta = chrono::TimeDelta::days(30);
