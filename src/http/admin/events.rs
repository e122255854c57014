//! `/admin/v1/events`: the feed of everything that changed, in the order of the commits.

use actix_web::HttpResponse;
use serde::Serialize;

use super::desk::Desk;
use super::query::Query;
use crate::domain::admin_scope::AdminScope;
use crate::http::error::ApiError;
use crate::storage::events::{self, EventFilter};
use crate::webhooks::message::EventMessage;

/// A stretch of the feed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FeedView {
    #[schema(value_type = Vec<EventView>)]
    items: Vec<EventMessage>,
    /// Give it as `cursor` to read on: there is one always, since there will be more.
    next_cursor: String,
    /// Whether there is more already.
    has_more: bool,
}

/// One event, as webhooks are told of it as well.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `EventMessage` writes")]
pub(crate) struct EventView {
    /// Its place in the feed. As a `cursor` it stands for everything up to this event.
    sequence: u64,
    /// The same each time that the event is told.
    id: uuid::Uuid,
    /// What happened, such as `license.revoke`.
    r#type: String,
    #[schema(format = DateTime)]
    timestamp: String,
    /// What it happened to, such as `license`.
    subject_kind: String,
    subject_id: String,
    /// The record as it was then; `null` for kinds that need more than `fulfillment:read` to be read.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
}

/// `GET /admin/v1/events`
#[utoipa::path(get, operation_id = "events_list", path = "/admin/v1/events", tag = "events", security(("admin_token" = ["fulfillment:read"])),
    params(("cursor" = inline(Option<String>), Query, nullable = false, description = "`next_cursor` of the answer before, or the `sequence` of an event; from the first event on where it is missing"),
           ("limit" = inline(Option<i64>), Query, nullable = false, minimum = 1, maximum = 1000, description = "How many items at the most; 100 where it is missing"),
           ("type" = inline(Option<String>), Query, nullable = false, description = "Such as `license.revoke`"),
           ("subject_kind" = inline(Option<String>), Query, nullable = false, description = "Such as `license`"),
           ("subject_id" = inline(Option<String>), Query, nullable = false)),
    responses((status = 200, description = "What comes next, oldest first", body = FeedView)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let (filter, after, limit) = parse(desk.query())?;
    let mut tx = desk.read().await?;
    // The end first: what is committed after it has a higher number, and no cursor passes it unseen.
    let end = events::find_end(&mut tx).await?.sequence;
    let mut rows = events::list_between(&mut tx, &filter, &[], (after, end), limit + 1).await?;
    let most = usize::try_from(limit).map_err(ApiError::fault)?;
    let has_more = rows.len() > most;
    rows.truncate(most);
    let last = rows.last().filter(|_| has_more).map(|row| row.sequence);
    Ok(HttpResponse::Ok().json(FeedView {
        next_cursor: last.unwrap_or(end.max(after)).to_string(),
        items: rows.into_iter().map(EventMessage::from).collect(),
        has_more,
    }))
}

fn parse(mut query: Query) -> Result<(EventFilter, u64, i64), ApiError> {
    let filter = EventFilter {
        action: query.text("type"),
        subject_kind: query.text("subject_kind"),
        subject_id: query.text("subject_id"),
        ..EventFilter::default()
    };
    let after = query.cursor("cursor").unwrap_or(0);
    let limit = query.limit();
    query.done()?;
    Ok((filter, after, limit))
}
