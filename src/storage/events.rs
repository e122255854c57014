//! The log of changes: every audit row, numbered and chained in the order in which it was committed.
//!
//! Rows come from a trigger on the audit alone, at the end of the transaction that wrote there.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use token_authority_verifier::Digest;
use uuid::Uuid;

use super::StorageError;
use crate::domain::audit_chain::{AuditEntry, AuditLink};
use crate::domain::ids::AuditEventId;

/// An event as it is stored, for those who doubt it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The digest as it was recorded.
    pub link: AuditLink,
    /// What its audit row tells now; `None` where that is gone.
    pub text: Option<Box<RawValue>>,
    /// Whether it can be found by what it tells.
    pub is_labeled_right: bool,
}

/// An event with everything that its audit row tells.
#[derive(Clone, Debug)]
pub struct EventRow {
    pub sequence: u64,
    pub digest: Digest,
    pub id: AuditEventId,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub action: String,
    pub subject_kind: String,
    pub subject_id: String,
    pub reason: Option<String>,
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub request_id: Option<String>,
}

/// Which events are wanted; all of these hold.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub subject_kind: Option<String>,
    pub subject_id: Option<String>,
    pub request_id: Option<String>,
    /// From this instant on.
    pub since: Option<DateTime<Utc>>,
    /// Before this instant.
    pub until: Option<DateTime<Utc>>,
}

/// The last event; [`AuditLink::START`] before there was one.
///
/// # Errors
/// The database cannot be read.
pub async fn find_end(connection: &mut PgConnection) -> Result<AuditLink, StorageError> {
    let row = sqlx::query("select sequence, digest from events order by sequence desc limit 1")
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or(Ok(AuditLink::START), link)
}

/// The event of this number, as it was chained; `None` where there is none.
///
/// # Errors
/// The database cannot be read.
pub async fn find_link(
    connection: &mut PgConnection,
    sequence: u64,
) -> Result<Option<AuditLink>, StorageError> {
    let row = sqlx::query("select sequence, digest from events where sequence = $1")
        .bind(number(sequence))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(link).transpose()
}

/// At most `limit` events after the one of this number, in their order.
///
/// # Errors
/// The database cannot be read.
pub async fn list_stored(
    connection: &mut PgConnection,
    after: u64,
    limit: i64,
) -> Result<Vec<StoredEvent>, StorageError> {
    let rows = sqlx::query(
        "select e.sequence, e.digest, case when a.id is not null then event_text(e.sequence, a) end as text, \
                (e.at, e.actor, e.action, e.subject_kind, e.subject_id, e.request_id) \
                is not distinct from (a.at, a.actor, a.action, a.subject_kind, a.subject_id, a.request_id) as is_labeled_right \
         from events e left join audit_events a on a.id = e.audit_event_id \
         where e.sequence > $1 order by e.sequence limit $2",
    )
    .bind(number(after))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let events = rows.iter().map(|row| {
        let text: Option<String> = row.try_get("text")?;
        Ok(StoredEvent {
            link: link(row)?,
            text: text.map(RawValue::from_string).transpose().map_err(StorageError::corrupt)?,
            is_labeled_right: row.try_get("is_labeled_right")?,
        })
    });
    events.collect()
}

/// The same, as they are exported.
///
/// # Errors
/// The database cannot be read, or the audit row of an event is gone.
pub async fn list_entries(
    connection: &mut PgConnection,
    after: u64,
    limit: i64,
) -> Result<Vec<AuditEntry>, StorageError> {
    let stored = list_stored(connection, after, limit).await?;
    let entries = stored.into_iter().map(|StoredEvent { link, text, .. }| {
        let gone = || StorageError::corrupt(format!("the audit row of event {} is gone", link.sequence));
        Ok(AuditEntry { sequence: link.sequence, digest: link.digest, event: text.ok_or_else(gone)? })
    });
    entries.collect()
}

/// Where an event stands among all, by time; those of one instant by their numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventPlace {
    pub at: DateTime<Utc>,
    pub sequence: u64,
}

impl EventRow {
    #[must_use]
    pub fn place(&self) -> EventPlace {
        EventPlace { at: self.at, sequence: self.sequence }
    }
}

/// At most `limit` events before this place, latest first.
///
/// By time and not by number, although the two hardly differ: with a number, whoever asks for what was done until
/// an instant would make the database read everything that was done since.
///
/// # Errors
/// The database cannot be read.
pub async fn list_latest(
    connection: &mut PgConnection,
    filter: &EventFilter,
    before: Option<EventPlace>,
    limit: i64,
) -> Result<Vec<EventRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where true"));
    if let Some(EventPlace { at, sequence }) = before {
        query
            .push(" and (e.at, e.sequence) < (")
            .push_bind(at)
            .push(", ")
            .push_bind(number(sequence))
            .push(")");
    }
    filter.push(&mut query);
    query.push(" order by e.at desc, e.sequence desc limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(event).collect()
}

/// At most `limit` events after the one of the number `after`, up to and with the one of the number `end`, in their
/// order. `types` are those of a webhook: none for every one.
///
/// # Errors
/// The database cannot be read.
pub async fn list_between(
    connection: &mut PgConnection,
    filter: &EventFilter,
    types: &[String],
    (after, end): (u64, u64),
    limit: i64,
) -> Result<Vec<EventRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where e.sequence > "));
    query.push_bind(number(after)).push(" and e.sequence <= ").push_bind(number(end));
    filter.push(&mut query);
    if !types.is_empty() {
        query.push(" and (e.action = any(").push_bind(types);
        query.push(") or split_part(e.action, '.', 1) || '.*' = any(").push_bind(types).push("))");
    }
    query.push(" order by e.sequence limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(event).collect()
}

/// At most `limit` audit rows that no event numbers: the triggers let none be.
///
/// # Errors
/// The database cannot be read.
pub async fn list_unnumbered(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<AuditEventId>, StorageError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select a.id from audit_events a \
         where not exists (select from events e where e.audit_event_id = a.id) order by a.id limit $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(AuditEventId::from).collect())
}

fn link(row: &PgRow) -> Result<AuditLink, StorageError> {
    let digest: &[u8] = row.try_get("digest")?;
    Ok(AuditLink {
        sequence: u64::try_from(row.try_get::<i64, _>("sequence")?).map_err(StorageError::corrupt)?,
        digest: digest.try_into().map(Digest::new).map_err(StorageError::corrupt)?,
    })
}

impl EventFilter {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        let texts = [
            (" and e.actor = ", &self.actor),
            (" and e.action = ", &self.action),
            (" and e.subject_kind = ", &self.subject_kind),
            (" and e.subject_id = ", &self.subject_id),
            (" and e.request_id = ", &self.request_id),
        ];
        for (condition, text) in texts {
            if let Some(text) = text {
                query.push(condition).push_bind(text.clone());
            }
        }
        if let Some(since) = self.since {
            query.push(" and e.at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            query.push(" and e.at < ").push_bind(until);
        }
    }
}

fn event(row: &PgRow) -> Result<EventRow, StorageError> {
    let AuditLink { sequence, digest } = link(row)?;
    Ok(EventRow {
        sequence,
        digest,
        id: row.try_get::<Uuid, _>("id")?.into(),
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        subject_kind: row.try_get("subject_kind")?,
        subject_id: row.try_get("subject_id")?,
        reason: row.try_get("reason")?,
        before: row.try_get("before")?,
        after: row.try_get("after")?,
        request_id: row.try_get("request_id")?,
    })
}

/// Microseconds, as the database counts, and the number: `1780000000000000-42`.
impl fmt::Display for EventPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.timestamp_micros(), self.sequence)
    }
}

/// The text is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the place of an event")]
pub struct NoEventPlace;

impl FromStr for EventPlace {
    type Err = NoEventPlace;

    fn from_str(text: &str) -> Result<Self, NoEventPlace> {
        let (at, sequence) = text.rsplit_once('-').ok_or(NoEventPlace)?;
        let at = at.parse().ok().and_then(DateTime::from_timestamp_micros).ok_or(NoEventPlace)?;
        Ok(Self { at, sequence: sequence.parse().map_err(|_| NoEventPlace)? })
    }
}

/// No event has a higher number than this.
pub(super) fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

macro_rules! select {
    () => {
        "select e.sequence, e.digest, a.id, a.at, a.actor, a.action, a.subject_kind, a.subject_id, a.reason, a.before, \
                a.after, a.request_id \
         from events e join audit_events a on a.id = e.audit_event_id "
    };
}
use select;
