//! The audit of keys: one row per change, whole enough to rebuild a ring from.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::RotationError;
use super::transition::Transition;
use crate::domain::audit_chain::AuditEvent;
use crate::domain::ids::AuditEventId;
use crate::domain::key_ring::recovery::Remembered;
use crate::domain::key_ring::{Blocker, Denial, Event, Grounds, Key, KeyRing, NewKey, Recalled};
use crate::storage::audit_events::{self, NewAuditEvent};

/// Remembers one event of a step from the transition's ring to `after`.
pub(super) async fn remember(
    transition: &mut Transition<'_>,
    event: &Event,
    after: &KeyRing,
) -> Result<(), RotationError> {
    let (subject_kind, subject_id) = subject(transition.environment, event);
    let (mut is, was) = match event.kid() {
        Some(kid) => (after.key(kid).map(key_record), transition.ring.key(kid).map(key_record)),
        None => (Some(ring_record(after)), Some(ring_record(&transition.ring))),
    };
    let mut reason = None;
    if let (Event::Activated { grounds, .. }, Some(Value::Object(is))) = (event, &mut is) {
        reason = add_grounds(is, grounds);
    }
    let row = NewAuditEvent {
        id: AuditEventId::generate(transition.now),
        at: transition.now,
        actor: transition.actor,
        action: event.name(),
        subject_kind,
        subject_id: &subject_id,
        reason: reason.or(transition.reason),
        before: was,
        after: is,
        request_id: None,
    };
    audit_events::insert(transition.connection, &row).await?;
    Ok(())
}

fn subject(environment: &str, event: &Event) -> (&'static str, String) {
    match event {
        Event::KeySetRecorded { version } => ("key_set", format!("{environment}/{version}")),
        Event::FloorRaised { .. } | Event::MintingStopped { .. } => ("key_ring", environment.to_owned()),
        _ => ("signing_key", event.kid().map_or_else(String::new, |kid| kid.to_string())),
    }
}

fn key_record(key: &Key) -> Value {
    json!({
        "purpose": key.purpose.name(),
        "alg": key.alg.as_str(),
        "state": key.state.as_str(),
        "not_after": instant(key.not_after),
        "published_in": key.published.map(|published| published.version),
        "armed_at": key.armed_at.map(instant),
        "activated_at": key.activated_at.map(instant),
        "demoted_at": key.demoted_at.map(instant),
        "denial": key.denial.map(|denial| match denial {
            Denial::Always => json!({}),
            Denial::IssuedAfter(at) => json!({ "issued_after": instant(at) }),
        }),
    })
}

fn ring_record(ring: &KeyRing) -> Value {
    json!({
        "head": ring.head().map(|head| json!({ "version": head.version, "digest": head.digest.to_string() })),
        "floor": ring.floor(),
        "deny_list_serial": ring.deny_list_serial(),
    })
}

/// Says why a key may sign; returns the reason that a person gave.
fn add_grounds<'a>(record: &mut Map<String, Value>, grounds: &'a Grounds) -> Option<&'a str> {
    let (name, overridden) = match grounds {
        Grounds::Birth => ("birth", None),
        Grounds::Forced { blockers, reason } => ("forced", Some((blockers, reason))),
        Grounds::Overridden { blockers, reason } => ("overridden", Some((blockers, reason))),
        Grounds::Proved { silent } => {
            if !silent.is_empty() {
                record.insert("silent".to_owned(), json!(silent));
            }
            ("proved", None)
        }
        Grounds::Recovered => ("recovered", None),
        Grounds::Succession => ("succession", None),
    };
    record.insert("grounds".to_owned(), json!(name));
    let (blockers, reason) = overridden?;
    let blockers: Vec<_> = blockers.iter().map(Blocker::name).collect();
    record.insert("passed_over".to_owned(), json!(blockers));
    Some(reason)
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// What a row of the audit says about the ring, as [`remember`] wrote it; `None` where it says nothing.
pub(super) fn remembered(environment: &str, event: &AuditEvent) -> Option<Remembered> {
    let after = event.after.as_ref()?;
    match event.subject_kind.as_str() {
        "signing_key" => {
            let record: KeyRecord = serde_json::from_value(after.clone()).ok()?;
            let kid = event.subject_id.parse().ok()?;
            Some(Remembered::Key(Recalled {
                key: NewKey {
                    kid,
                    purpose: record.purpose.parse().ok()?,
                    alg: record.alg.parse().ok()?,
                    not_after: record.not_after,
                },
                to: record.state.parse().ok()?,
                at: event.at,
                published_in: record.published_in,
                armed_at: record.armed_at,
                denial: record
                    .denial
                    .map(|denial| denial.issued_after.map_or(Denial::Always, Denial::IssuedAfter)),
            }))
        }
        "key_set" => {
            let version = event.subject_id.strip_prefix(environment)?.strip_prefix('/')?.parse().ok()?;
            let head = after.get("head")?;
            let is_head = head.get("version").and_then(Value::as_u64) == Some(u64::from(version));
            let digest = head.get("digest").and_then(Value::as_str).filter(|_| is_head);
            Some(Remembered::KeySet { version, digest: digest.and_then(|digest| digest.parse().ok()) })
        }
        "key_ring" if event.subject_id == environment => {
            let floor = after.get("floor")?.as_u64()?;
            Some(Remembered::Floor(u32::try_from(floor).ok()?))
        }
        _ => None,
    }
}

/// As `key_record` writes it.
#[derive(Deserialize)]
struct KeyRecord {
    purpose: String,
    alg: String,
    state: String,
    not_after: DateTime<Utc>,
    published_in: Option<u32>,
    armed_at: Option<DateTime<Utc>>,
    denial: Option<DenialRecord>,
}

#[derive(Deserialize)]
struct DenialRecord {
    issued_after: Option<DateTime<Utc>>,
}
