//! Webhooks: made, amended, deleted, sent back in the feed.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::{Changed, Circumstances, Expected, FulfillmentError, Patch, WrongValue};
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{EventTypes, WebhookSecret, WebhookState, WebhookUrl};
use crate::keystore;
use crate::storage::events;
use crate::storage::webhook_positions::{self, PositionRow};
use crate::storage::webhooks::{self, WebhookRow};

/// A webhook to be made.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    pub url: WebhookUrl,
    pub description: Option<String>,
    /// None for every event.
    pub event_types: Vec<EventTypes>,
    /// The event behind which it begins; `None` to begin with the next one.
    pub cursor: Option<u64>,
}

/// What is to become of a webhook; `None`: as it is.
#[derive(Clone, Debug, Default)]
pub struct WebhookPatch {
    pub url: Option<WebhookUrl>,
    pub description: Patch<String>,
    pub event_types: Option<Vec<EventTypes>>,
    pub is_enabled: Option<bool>,
}

/// Makes a webhook. Its secret is shown this once.
///
/// # Errors
/// The cursor is ahead of the feed.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    new: NewWebhook,
) -> Result<(Changed<WebhookRow>, WebhookSecret), FulfillmentError> {
    let cursor = check_cursor(connection, new.cursor).await?;
    let now = circumstances.date(connection).await?;
    let row = WebhookRow {
        id: WebhookId::generate(now),
        url: new.url,
        description: new.description,
        event_types: new.event_types,
        state: WebhookState::Enabled,
        state_since: now,
        state_reason: None,
        previous_secret_ends_at: None,
        position: PositionRow {
            cursor,
            attempts: 0,
            failing_since: None,
            next_attempt_at: now,
            last_attempt_at: None,
            last_status: None,
            last_error: None,
            last_delivered_at: None,
        },
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    let secret = WebhookSecret::from_bytes(&*keystore::random_bits()?);
    let sealed = circumstances.keystore.seal_webhook_secret(row.id, &secret, FIRST_VERSION)?;
    webhooks::insert(connection, &row, &sealed).await?;
    Ok((Changed::without_effects(now, None, row), secret))
}

/// Amends a webhook. One that is enabled again goes on where it stopped.
///
/// # Errors
/// It is unknown, at another revision, or deleted.
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: WebhookId,
    expected: &Expected,
    patch: WebhookPatch,
) -> Result<Changed<WebhookRow>, FulfillmentError> {
    let before = find(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let mut after = next_revision(&before, now);
    if let Some(url) = patch.url {
        after.url = url;
    }
    patch.description.apply(&mut after.description);
    if let Some(event_types) = patch.event_types {
        after.event_types = event_types;
    }
    let state = match patch.is_enabled {
        Some(true) => WebhookState::Enabled,
        Some(false) => WebhookState::Disabled,
        None => before.state,
    };
    let begins_anew = state != before.state || after.url != before.url;
    if state != before.state {
        (after.state, after.state_since, after.state_reason) = (state, now, None);
    }
    webhooks::update(connection, &after).await?;
    if begins_anew {
        after.position = webhook_positions::update_moved(connection, id, None, now).await?;
    }
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Deletes a webhook: nothing is delivered any more, its secret is wiped, the rest is remembered.
///
/// # Errors
/// It is unknown, at another revision, or deleted.
pub async fn delete(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: WebhookId,
    expected: &Expected,
) -> Result<Changed<WebhookRow>, FulfillmentError> {
    let before = find(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let after = WebhookRow {
        state: WebhookState::Deleted,
        state_since: now,
        state_reason: None,
        previous_secret_ends_at: None,
        ..next_revision(&before, now)
    };
    webhooks::update(connection, &after).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Sends a webhook to another place in the feed: the event behind `cursor` is delivered next.
///
/// # Errors
/// It is unknown, at another revision, or deleted; the cursor is ahead of the feed.
pub async fn replay(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: WebhookId,
    expected: &Expected,
    cursor: u64,
) -> Result<Changed<WebhookRow>, FulfillmentError> {
    let before = find(connection, id, expected).await?;
    let cursor = check_cursor(connection, Some(cursor)).await?;
    let now = circumstances.date(connection).await?;
    let mut after = next_revision(&before, now);
    webhooks::update(connection, &after).await?;
    after.position = webhook_positions::update_moved(connection, id, Some(cursor), now).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Gives a webhook another secret, which is shown this once. The one before it signs along for `overlap`, so that
/// receivers can learn the new one meanwhile; with none it is worth nothing from now on.
///
/// # Errors
/// It is unknown, at another revision, or deleted.
pub async fn rotate_secret(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: WebhookId,
    expected: &Expected,
    overlap: TimeDelta,
) -> Result<(Changed<WebhookRow>, WebhookSecret), FulfillmentError> {
    let before = find(connection, id, expected).await?;
    let now = circumstances.date(connection).await?;
    let previous_secret_ends_at = (overlap > TimeDelta::zero()).then(|| now + overlap);
    let after = WebhookRow { previous_secret_ends_at, ..next_revision(&before, now) };
    let secret = WebhookSecret::from_bytes(&*keystore::random_bits()?);
    let version = webhooks::find_next_version(connection, id).await?;
    let sealed = circumstances.keystore.seal_webhook_secret(id, &secret, version)?;
    webhooks::update_secret(connection, &after, &sealed).await?;
    Ok((Changed::without_effects(now, Some(before), after), secret))
}

/// A place in the feed: the end, where none is named.
async fn check_cursor(connection: &mut PgConnection, cursor: Option<u64>) -> Result<u64, FulfillmentError> {
    let end = events::find_end(connection).await?.sequence;
    match cursor {
        Some(cursor) if cursor > end => {
            let detail = format!("is ahead of the feed, whose last event is {end}");
            Err(FulfillmentError::Invalid(vec![WrongValue {
                member: "cursor",
                code: "out_of_range",
                detail,
            }]))
        }
        cursor => Ok(cursor.unwrap_or(end)),
    }
}

async fn find(
    connection: &mut PgConnection,
    id: WebhookId,
    expected: &Expected,
) -> Result<WebhookRow, FulfillmentError> {
    let found = webhooks::find_for_update(connection, id).await?;
    let row = found.ok_or(FulfillmentError::NotFound("webhook"))?;
    expected.check(row.revision)?;
    if row.state == WebhookState::Deleted {
        return Err(FulfillmentError::conflict("The webhook was deleted, which is final."));
    }
    Ok(row)
}

/// For which the first secret of a webhook is sealed.
const FIRST_VERSION: i32 = 1;

fn next_revision(before: &WebhookRow, now: DateTime<Utc>) -> WebhookRow {
    WebhookRow { revision: before.revision + 1, updated_at: now, ..before.clone() }
}
