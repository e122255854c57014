//! How far each webhook was told of events, and who tells it on now.
//!
//! Whoever delivers holds a lease. Every step names it and where it went on from: a step that comes too late, since
//! the lease ran out or an administrator moved the position, changes nothing.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::events::number;
use super::{StorageError, decode};
use crate::domain::ids::WebhookId;
use crate::domain::sealed::Sealed;
use crate::domain::webhook::WebhookUrl;

/// Where a webhook is in the feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PositionRow {
    /// The last event that was delivered, or is of no type that is wanted.
    pub cursor: u64,
    /// Failures in a row, all of the event that comes next.
    pub attempts: u32,
    pub failing_since: Option<DateTime<Utc>>,
    pub next_attempt_at: DateTime<Utc>,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub last_status: Option<u16>,
    pub last_error: Option<String>,
    pub last_delivered_at: Option<DateTime<Utc>>,
}

/// A webhook that is this caller's to deliver to, until its lease runs out.
#[derive(Clone, Debug)]
pub struct Leased {
    pub webhook: WebhookId,
    pub lease: Uuid,
    pub url: WebhookUrl,
    pub event_types: Vec<String>,
    pub secret: Sealed,
    /// The secret before it, while that signs as well.
    pub previous_secret: Option<Sealed>,
    pub cursor: u64,
    pub attempts: u32,
    pub failing_since: Option<DateTime<Utc>>,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct FailedAttempt<'a> {
    pub at: DateTime<Utc>,
    pub status: Option<u16>,
    pub reason: &'a str,
    pub next_attempt_at: DateTime<Utc>,
}

/// Takes the webhook that has waited longest for its next event, of those that nobody delivers to now.
///
/// # Errors
/// The database cannot be written.
pub async fn lease(
    connection: &mut PgConnection,
    lease: Uuid,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<Leased>, StorageError> {
    let row = sqlx::query(
        "update webhook_positions p set lease = $1, leased_until = $3 from webhooks w \
         where w.id = p.webhook_id and p.webhook_id = ( \
             select d.webhook_id from webhook_positions d join webhooks e on e.id = d.webhook_id \
             where e.state = 'enabled' and d.next_attempt_at <= $2 \
               and (d.leased_until is null or d.leased_until <= $2) \
               and d.cursor < (select coalesce(max(sequence), 0) from events) \
             order by d.next_attempt_at, d.webhook_id limit 1 for update of d skip locked) \
         returning w.id, w.url, w.event_types, w.sealed_secret, w.sealed_by, w.sealed_version, w.previous_secret, \
                   w.previous_sealed_by, w.previous_version, w.previous_ends_at > $2 as has_previous, p.cursor, \
                   p.attempts, p.failing_since",
    )
    .bind(lease)
    .bind(now)
    .bind(until)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Leased {
            webhook: row.try_get::<Uuid, _>("id")?.into(),
            lease,
            url: decode(row.try_get("url")?)?,
            event_types: row.try_get("event_types")?,
            secret: Sealed {
                sealed_by: row.try_get("sealed_by")?,
                bytes: row.try_get("sealed_secret")?,
                row_version: row.try_get("sealed_version")?,
            },
            previous_secret: match row.try_get("has_previous")? {
                Some(true) => Some(Sealed {
                    sealed_by: row.try_get("previous_sealed_by")?,
                    bytes: row.try_get("previous_secret")?,
                    row_version: row.try_get("previous_version")?,
                }),
                Some(false) | None => None,
            },
            cursor: sequence(&row)?,
            attempts: attempts(&row)?,
            failing_since: row.try_get("failing_since")?,
        })
    })
    .transpose()
}

/// Goes on to `to`, which arrived or of which nothing was wanted, and keeps the lease until then. Returns whether it
/// still was this caller's, at `leased.cursor`, and is enabled.
///
/// # Errors
/// The database cannot be written.
pub async fn update_delivered(
    connection: &mut PgConnection,
    leased: &Leased,
    to: u64,
    delivered: Option<(DateTime<Utc>, u16)>,
    until: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let (at, status) = delivered.map_or((None, None), |(at, status)| (Some(at), Some(small(status))));
    let done = sqlx::query(
        "update webhook_positions p set cursor = $4, leased_until = $7, attempts = 0, failing_since = null, \
                last_error = null, last_status = coalesce($6, p.last_status), \
                last_attempt_at = coalesce($5, p.last_attempt_at), \
                last_delivered_at = coalesce($5, p.last_delivered_at), \
                next_attempt_at = coalesce($5, p.next_attempt_at) \
         from webhooks w \
         where p.webhook_id = $1 and p.lease = $2 and p.cursor = $3 and w.id = p.webhook_id and w.state = 'enabled'",
    )
    .bind(leased.webhook.as_uuid())
    .bind(leased.lease)
    .bind(number(leased.cursor))
    .bind(number(to))
    .bind(at)
    .bind(status)
    .bind(until)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Records that the next event did not arrive, and gives the lease back. Returns whether it still was this caller's,
/// at `leased.cursor`.
///
/// # Errors
/// The database cannot be written.
pub async fn update_failed(
    connection: &mut PgConnection,
    leased: &Leased,
    failed: &FailedAttempt<'_>,
) -> Result<bool, StorageError> {
    let done = sqlx::query(
        "update webhook_positions set attempts = attempts + 1, failing_since = coalesce(failing_since, $4), \
                last_attempt_at = $4, last_status = $5, last_error = $6, next_attempt_at = $7, \
                lease = null, leased_until = null \
         where webhook_id = $1 and lease = $2 and cursor = $3",
    )
    .bind(leased.webhook.as_uuid())
    .bind(leased.lease)
    .bind(number(leased.cursor))
    .bind(failed.at)
    .bind(failed.status.map(small))
    .bind(failed.reason)
    .bind(failed.next_attempt_at)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a lease back.
///
/// # Errors
/// The database cannot be written.
pub async fn update_released(connection: &mut PgConnection, leased: &Leased) -> Result<(), StorageError> {
    sqlx::query(
        "update webhook_positions set lease = null, leased_until = null where webhook_id = $1 and lease = $2",
    )
    .bind(leased.webhook.as_uuid())
    .bind(leased.lease)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends every lease: who held one is gone, or finds with its next step that it lost it.
///
/// # Errors
/// The database cannot be written.
pub async fn end_leases(connection: &mut PgConnection) -> Result<(), StorageError> {
    sqlx::query("update webhook_positions set lease = null, leased_until = null where lease is not null")
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves a webhook in the feed, or only lets it begin anew where it is: the next event is due at `now`. Whoever
/// delivers to it now finds its lease gone.
///
/// # Errors
/// The database cannot be written.
pub async fn update_moved(
    connection: &mut PgConnection,
    webhook: WebhookId,
    cursor: Option<u64>,
    now: DateTime<Utc>,
) -> Result<PositionRow, StorageError> {
    let row = sqlx::query(
        "update webhook_positions set cursor = coalesce($2, cursor), attempts = 0, failing_since = null, \
                last_error = null, next_attempt_at = $3, lease = null, leased_until = null \
         where webhook_id = $1 \
         returning cursor, attempts, failing_since, next_attempt_at, last_attempt_at, last_status, last_error, \
                   last_delivered_at",
    )
    .bind(webhook.as_uuid())
    .bind(cursor.map(number))
    .bind(now)
    .fetch_one(connection)
    .await?;
    position(&row)
}

/// How many events enabled webhooks have still before them, in all. Those of types that are not wanted count until
/// they are passed.
///
/// # Errors
/// The database cannot be read.
pub async fn count_backlog(connection: &mut PgConnection) -> Result<i64, StorageError> {
    let backlog = sqlx::query_scalar(
        "select coalesce(sum(e.last - p.cursor), 0)::bigint from webhook_positions p \
         join webhooks w on w.id = p.webhook_id, \
         (select coalesce(max(sequence), 0) as last from events) e where w.state = 'enabled'",
    )
    .fetch_one(connection)
    .await?;
    Ok(backlog)
}

pub(super) async fn insert(
    connection: &mut PgConnection,
    webhook: WebhookId,
    row: &PositionRow,
) -> Result<(), StorageError> {
    sqlx::query("insert into webhook_positions (webhook_id, cursor, next_attempt_at) values ($1, $2, $3)")
        .bind(webhook.as_uuid())
        .bind(number(row.cursor))
        .bind(row.next_attempt_at)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) fn position(row: &PgRow) -> Result<PositionRow, StorageError> {
    let status: Option<i16> = row.try_get("last_status")?;
    Ok(PositionRow {
        cursor: sequence(row)?,
        attempts: attempts(row)?,
        failing_since: row.try_get("failing_since")?,
        next_attempt_at: row.try_get("next_attempt_at")?,
        last_attempt_at: row.try_get("last_attempt_at")?,
        last_status: status.map(u16::try_from).transpose().map_err(StorageError::corrupt)?,
        last_error: row.try_get("last_error")?,
        last_delivered_at: row.try_get("last_delivered_at")?,
    })
}

fn sequence(row: &PgRow) -> Result<u64, StorageError> {
    u64::try_from(row.try_get::<i64, _>("cursor")?).map_err(StorageError::corrupt)
}

fn attempts(row: &PgRow) -> Result<u32, StorageError> {
    u32::try_from(row.try_get::<i32, _>("attempts")?).map_err(StorageError::corrupt)
}

/// A status has three digits.
fn small(status: u16) -> i16 {
    i16::try_from(status).unwrap_or(i16::MAX)
}
