//! Webhooks as an administrator makes and sees them; how far each was told is in `webhook_positions`.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::webhook_positions::{self, PositionRow};
use super::{StorageError, changed_one, decode};
use crate::domain::ids::WebhookId;
use crate::domain::sealed::Sealed;
use crate::domain::webhook::{EventTypes, WebhookState, WebhookUrl};

/// One webhook, less its secret.
#[derive(Clone, Debug)]
pub struct WebhookRow {
    pub id: WebhookId,
    pub url: WebhookUrl,
    pub description: Option<String>,
    /// None for every event.
    pub event_types: Vec<EventTypes>,
    pub state: WebhookState,
    pub state_since: DateTime<Utc>,
    pub state_reason: Option<String>,
    /// Until then the secret before the present one signs as well.
    pub previous_secret_ends_at: Option<DateTime<Utc>>,
    pub position: PositionRow,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The webhook of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(connection: &mut PgConnection, id: WebhookId) -> Result<Option<WebhookRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where w.id = $1"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(webhook).transpose()
}

/// The same, and holds it until the transaction ends. Its position may go on meanwhile.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    id: WebhookId,
) -> Result<Option<WebhookRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where w.id = $1 for no key update of w"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(webhook).transpose()
}

/// At most `limit` webhooks after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    state: Option<WebhookState>,
    after: Option<WebhookId>,
    limit: i64,
) -> Result<Vec<WebhookRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where w.id > "));
    query.push_bind(after.map_or(Uuid::nil(), WebhookId::as_uuid));
    if let Some(state) = state {
        query.push(" and w.state = ").push_bind(state.as_str());
    }
    query.push(" order by w.id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(webhook).collect()
}

/// Records a new webhook with its secret and its place in the feed.
///
/// # Errors
/// The database cannot be written.
pub async fn insert(
    connection: &mut PgConnection,
    row: &WebhookRow,
    secret: &Sealed,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into webhooks (id, url, description, event_types, state, state_since, state_reason, sealed_secret, \
                               sealed_by, sealed_version, revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(row.id.as_uuid())
    .bind(row.url.as_str())
    .bind(&row.description)
    .bind(words(&row.event_types))
    .bind(row.state.as_str())
    .bind(row.state_since)
    .bind(&row.state_reason)
    .bind(&secret.bytes)
    .bind(&secret.sealed_by)
    .bind(secret.row_version)
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(&mut *connection)
    .await?;
    webhook_positions::insert(connection, row.id, &row.position).await
}

/// Writes the next revision of a webhook. One that is deleted loses its secret.
///
/// # Errors
/// Another revision came between, it was deleted, or the database cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &WebhookRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update webhooks set url = $3, description = $4, event_types = $5, state = $6, state_since = $7, \
                state_reason = $8, revision = $2, updated_at = $9, \
                sealed_secret = case when $6 <> 'deleted' then sealed_secret end, \
                sealed_by = case when $6 <> 'deleted' then sealed_by end, \
                sealed_version = case when $6 <> 'deleted' then sealed_version end, \
                previous_secret = case when $6 <> 'deleted' then previous_secret end, \
                previous_sealed_by = case when $6 <> 'deleted' then previous_sealed_by end, \
                previous_version = case when $6 <> 'deleted' then previous_version end, \
                previous_ends_at = case when $6 <> 'deleted' then previous_ends_at end \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(row.url.as_str())
    .bind(&row.description)
    .bind(words(&row.event_types))
    .bind(row.state.as_str())
    .bind(row.state_since)
    .bind(&row.state_reason)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// The version for which the next secret of a webhook is sealed.
///
/// # Errors
/// The database cannot be read.
pub async fn find_next_version(connection: &mut PgConnection, id: WebhookId) -> Result<i32, StorageError> {
    let next = sqlx::query_scalar(
        "select sealed_version + 1 from webhooks where id = $1 and sealed_version is not null",
    );
    Ok(next.bind(id.as_uuid()).fetch_one(connection).await?)
}

/// Writes the next revision of a webhook, whose secret is this one now. The one before it signs on until
/// `row.previous_secret_ends_at`; without that instant it is wiped.
///
/// # Errors
/// Another revision came between, it was deleted, or the database cannot be reached.
pub async fn update_secret(
    connection: &mut PgConnection,
    row: &WebhookRow,
    secret: &Sealed,
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update webhooks set revision = $2, updated_at = $3, sealed_secret = $4, sealed_by = $5, sealed_version = $6, \
                previous_secret = case when $7::timestamptz is not null then sealed_secret end, \
                previous_sealed_by = case when $7::timestamptz is not null then sealed_by end, \
                previous_version = case when $7::timestamptz is not null then sealed_version end, \
                previous_ends_at = $7 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(row.updated_at)
    .bind(&secret.bytes)
    .bind(&secret.sealed_by)
    .bind(secret.row_version)
    .bind(row.previous_secret_ends_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

fn words(types: &[EventTypes]) -> Vec<&str> {
    types.iter().map(EventTypes::as_str).collect()
}

fn webhook(row: &PgRow) -> Result<WebhookRow, StorageError> {
    let types: Vec<String> = row.try_get("event_types")?;
    let url: &str = row.try_get("url")?;
    Ok(WebhookRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        url: decode(url)?,
        description: row.try_get("description")?,
        event_types: types.iter().map(|word| decode(word)).collect::<Result<_, _>>()?,
        state: decode(row.try_get("state")?)?,
        state_since: row.try_get("state_since")?,
        state_reason: row.try_get("state_reason")?,
        previous_secret_ends_at: row.try_get("previous_ends_at")?,
        position: webhook_positions::position(row)?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select w.id, w.url, w.description, w.event_types, w.state, w.state_since, w.state_reason, w.previous_ends_at, w.revision, \
                w.created_at, w.updated_at, p.cursor, p.attempts, p.failing_since, p.next_attempt_at, \
                p.last_attempt_at, p.last_status, p.last_error, p.last_delivered_at \
         from webhooks w join webhook_positions p on p.webhook_id = w.id "
    };
}
use select;
