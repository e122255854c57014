//! The revocation horizon: how long it takes, at the worst, until something that was revoked stops
//! working at a backend.

use chrono::{DateTime, TimeDelta, Utc};

use super::JWKS_MAX_AGE;
use super::beat::BEAT;
use super::fleet_view::{BackendView, FleetView, ProcessView};
use crate::domain::backend::KeyTrust;
use crate::domain::key_ring::{DISCOVERY_MARGIN, Key, LEEWAY};

/// The worst case of one backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Horizon {
    pub backend: String,
    /// Until it refuses a key that was revoked.
    pub of_key: TimeDelta,
    /// Why it takes so long, where it is more than a beat.
    pub because: Vec<String>,
}

/// A process that missed so many beats may be cut off from the deny list, and serve on.
const BEATS_UNTIL_CUT_OFF: i32 = 3;

/// How long each backend may go on believing these keys after they were revoked now.
#[must_use]
pub fn of_keys(view: &FleetView, keys: &[Key], now: DateTime<Utc>) -> Vec<Horizon> {
    let concerned = |backend: &&BackendView| keys.iter().any(|key| backend.verifies(key));
    view.backends.iter().filter(concerned).map(|backend| of_backend(backend, keys, now)).collect()
}

/// How long a token of an instance that was revoked may go on being valid anywhere: it was issued just
/// before, with the longest life.
#[must_use]
pub fn of_instance(token_lifetime: TimeDelta) -> TimeDelta {
    token_lifetime + LEEWAY
}

fn of_backend(backend: &BackendView, keys: &[Key], now: DateTime<Utc>) -> Horizon {
    let mut horizon =
        Horizon { backend: backend.row.name.to_string(), of_key: TimeDelta::zero(), because: Vec::new() };
    let keys: Vec<&Key> = keys.iter().filter(|key| backend.verifies(key) && now <= key.not_after).collect();
    let ends = |key: &&Key| key.not_after - now;
    let last_end = keys.iter().map(&ends).max().unwrap_or_default();
    if backend.row.trust == KeyTrust::Discovery {
        horizon.of_key = last_end.min(JWKS_MAX_AGE + DISCOVERY_MARGIN);
        horizon.because.push("it may hold an older JWKS".to_owned());
        return horizon;
    }
    if backend.processes.is_empty() {
        horizon.of_key = last_end;
        horizon.because.push("no process reports; whatever runs believes the key until its end".to_owned());
        return horizon;
    }
    for process in &backend.processes {
        let held = keys.iter().filter(|key| process.carries.contains(&key.kid));
        let Some(end) = held.map(&ends).max() else { continue };
        let reason = if process.row.report.deny_list_serial.is_none() {
            Some("reads no deny list")
        } else if is_cut_off(process, now) {
            Some("is not heard of")
        } else {
            None
        };
        match reason {
            None => horizon.of_key = horizon.of_key.max(BEAT.min(end)),
            Some(reason) => {
                horizon.of_key = horizon.of_key.max(end);
                horizon.because.push(format!("{} {reason}", process.row.process_id));
            }
        }
    }
    horizon
}

fn is_cut_off(process: &ProcessView, now: DateTime<Utc>) -> bool {
    now - process.row.last_seen_at > BEAT * BEATS_UNTIL_CUT_OFF
}
