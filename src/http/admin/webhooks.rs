//! `/admin/v1/webhooks`: endpoints that are told of events as they happen (Standard Webhooks).

use actix_web::HttpResponse;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::EmptyBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::WebhookId;
use crate::domain::webhook::{EventTypes, WebhookState, WebhookUrl};
use crate::fulfillment::Patch;
use crate::fulfillment::webhooks::{self, NewWebhook, WebhookPatch};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::webhooks::{self as rows, WebhookRow};
use crate::webhooks::AddressPolicy;

/// A webhook to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWebhookBody {
    /// An `https` URL whose host is on the public internet; others as far as the deployment allows them.
    #[schema(value_type = String, min_length = 1, max_length = 2048)]
    url: Option<String>,
    #[schema(value_type = Option<String>, max_length = 255)]
    description: Option<String>,
    /// Such as `license.revoke`, or `license.*` for all of a kind. Every event where it is missing or empty.
    #[schema(value_type = Vec<String>, required = false, max_items = 100)]
    event_types: Option<Vec<String>>,
    /// A cursor of the feed behind which it begins, `0` for the very first event; with the next event where it is
    /// missing.
    #[schema(value_type = Option<String>)]
    cursor: Option<String>,
}

/// A merge patch (RFC 7396) of a webhook.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookPatchBody {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    url: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, required = false)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, required = false)]
    event_types: Patch<Vec<String>>,
    /// `enabled`, to go on where it stopped, or `disabled`.
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    state: Patch<String>,
}

/// Where to send a webhook back to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// A cursor of the feed: the event behind it is delivered next. `0` for the very first.
    #[schema(value_type = String)]
    cursor: Option<String>,
}

/// How a secret is replaced.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateSecretBody {
    /// For how long deliveries carry the signatures of both secrets; a day where it is missing. `0` for a secret
    /// that leaked: it is worth nothing from then on.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<i64>,
}

/// A webhook, less its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct WebhookView {
    id: uuid::Uuid,
    url: String,
    description: Option<String>,
    /// None for every event.
    event_types: Vec<String>,
    /// `enabled`, `disabled` or `deleted`.
    state: &'static str,
    state_since: WireTime,
    state_reason: Option<String>,
    /// Until then deliveries carry the signature of the secret before the present one as well.
    previous_secret_ends_at: Option<WireTime>,
    /// The last event that was delivered, or that it does not want.
    cursor: String,
    delivery: DeliveryView,
    created_at: WireTime,
    updated_at: WireTime,
}

/// How deliveries go.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeliveryView {
    /// Failures in a row, all of the event that comes next.
    attempts: u32,
    failing_since: Option<WireTime>,
    /// Not before then is the next event sent.
    next_attempt_at: WireTime,
    last_attempt_at: Option<WireTime>,
    /// HTTP status of the last answer.
    last_status: Option<u16>,
    last_error: Option<String>,
    last_delivered_at: Option<WireTime>,
}

impl Resource for WebhookRow {
    const KIND: &'static str = KIND;
    type View = WebhookView;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/webhooks/{}", self.id)
    }

    fn view(&self, seen: Seen) -> WebhookView {
        WebhookView {
            id: self.id.as_uuid(),
            url: self.url.as_str().to_owned(),
            description: self.description.clone(),
            event_types: self.event_types.iter().map(ToString::to_string).collect(),
            state: self.state.as_str(),
            state_since: WireTime(self.state_since),
            state_reason: self.state_reason.clone(),
            previous_secret_ends_at: self
                .previous_secret_ends_at
                .filter(|ends_at| *ends_at > seen.now)
                .map(WireTime),
            cursor: self.position.cursor.to_string(),
            delivery: DeliveryView {
                attempts: self.position.attempts,
                failing_since: self.position.failing_since.map(WireTime),
                next_attempt_at: WireTime(self.position.next_attempt_at),
                last_attempt_at: self.position.last_attempt_at.map(WireTime),
                last_status: self.position.last_status,
                last_error: self.position.last_error.clone(),
                last_delivered_at: self.position.last_delivered_at.map(WireTime),
            },
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

/// `POST /admin/v1/webhooks`
#[utoipa::path(post, operation_id = "webhooks_create", path = "/admin/v1/webhooks", tag = "webhooks", security(("admin_token" = ["fulfillment:write"])),
    request_body = NewWebhookBody, params(Retry, Trial),
    responses((status = 201, description = "The webhook, with the secret that signs its deliveries", body = ChangedView<WebhookView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let new = parse_new(body.json()?, desk.app.courier.policy())?;
    desk.change(&caller, &body, "webhook.create", async |connection, circumstances| {
        Ok(Done::from(webhooks::create(connection, circumstances, new).await?))
    })
    .await
}

/// `GET /admin/v1/webhooks`
#[utoipa::path(get, operation_id = "webhooks_list", path = "/admin/v1/webhooks", tag = "webhooks", security(("admin_token" = ["fulfillment:read"])),
    params(("state" = inline(Option<String>), Query, nullable = false, description = "`enabled`, `disabled` or `deleted`"), Pages),
    responses((status = 200, description = "A page of webhooks, in the order in which they were made", body = PageView<WebhookView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let state: Option<WebhookState> = query.parse("state");
    let page = desk.page(query)?;
    let rows = rows::list(&mut *desk.read().await?, state, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.id)
}

/// `GET /admin/v1/webhooks/{id}`
#[utoipa::path(get, operation_id = "webhooks_read", path = "/admin/v1/webhooks/{id}", tag = "webhooks", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The webhook, and how its deliveries go", body = WebhookView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id = desk.id(KIND)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, id).await?, KIND)
}

/// `PATCH /admin/v1/webhooks/{id}`
#[utoipa::path(patch, operation_id = "webhooks_amend", path = "/admin/v1/webhooks/{id}", tag = "webhooks", security(("admin_token" = ["fulfillment:write"])),
    request_body = WebhookPatchBody, params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The webhook as it is now", body = ChangedView<WebhookView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: WebhookId = desk.id(KIND)?;
    let patch = parse_patch(body.json()?, desk.app.courier.policy())?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "webhook.amend", async |connection, circumstances| {
        Ok(Done::from(webhooks::amend(connection, circumstances, id, &expected, patch).await?))
    })
    .await
}

/// `DELETE /admin/v1/webhooks/{id}`
#[utoipa::path(delete, operation_id = "webhooks_delete", path = "/admin/v1/webhooks/{id}", tag = "webhooks", security(("admin_token" = ["fulfillment:write"])),
    params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The webhook, deleted for good and remembered without its secret", body = ChangedView<WebhookView>)))]
pub(crate) async fn delete(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: WebhookId = desk.id(KIND)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "webhook.delete", async |connection, circumstances| {
        Ok(Done::from(webhooks::delete(connection, circumstances, id, &expected).await?))
    })
    .await
}

/// `POST /admin/v1/webhooks/{id}:replay`
#[utoipa::path(post, operation_id = "webhooks_replay", path = "/admin/v1/webhooks/{id}:replay", tag = "webhooks", security(("admin_token" = ["fulfillment:write"])),
    request_body = ReplayBody, params(("id" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The webhook, to which the events behind the cursor are delivered again", body = ChangedView<WebhookView>)))]
pub(crate) async fn replay(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: WebhookId = desk.id(KIND)?;
    let ReplayBody { cursor } = body.json()?;
    let mut invalid = Invalid::default();
    let cursor = invalid.present("/cursor", cursor);
    let cursor = cursor.and_then(|cursor| invalid.cursor("/cursor", &cursor));
    let Some(cursor) = cursor else { return Err(invalid.refuse()) };
    let expected = desk.optional_match(KIND, id);
    desk.change(&caller, &body, "webhook.replay", async |connection, circumstances| {
        Ok(Done::from(webhooks::replay(connection, circumstances, id, &expected, cursor).await?))
    })
    .await
}

/// `POST /admin/v1/webhooks/{id}:rotate-secret`
#[utoipa::path(post, operation_id = "webhooks_rotate_secret", path = "/admin/v1/webhooks/{id}:rotate-secret", tag = "webhooks", security(("admin_token" = ["fulfillment:write"])),
    request_body(content = Option<RotateSecretBody>, content_type = "application/json"), params(("id" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The webhook, with another secret; until the one before it ends, deliveries carry the signatures of both", body = ChangedView<WebhookView>)))]
pub(crate) async fn rotate_secret(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: WebhookId = desk.id(KIND)?;
    let RotateSecretBody { overlap_seconds } = body.json_or_default()?;
    let overlap = overlap_seconds.unwrap_or(OVERLAP);
    if !(0..=LONGEST_OVERLAP).contains(&overlap) {
        let mut invalid = Invalid::default();
        invalid.add("/overlap_seconds", "out_of_range", format!("must be 0 to {LONGEST_OVERLAP}"));
        return Err(invalid.refuse());
    }
    let expected = desk.optional_match(KIND, id);
    desk.change(&caller, &body, "webhook.rotate_secret", async |connection, circumstances| {
        let overlap = TimeDelta::seconds(overlap);
        Ok(Done::from(webhooks::rotate_secret(connection, circumstances, id, &expected, overlap).await?))
    })
    .await
}

fn parse_new(body: NewWebhookBody, policy: &AddressPolicy) -> Result<NewWebhook, ApiError> {
    let mut invalid = Invalid::default();
    let url = invalid.present("/url", body.url).and_then(|url| parse_url(&mut invalid, policy, &url));
    let description =
        body.description.and_then(|text| invalid.text("/description", text, LONGEST_DESCRIPTION));
    let event_types = parse_types(&mut invalid, body.event_types.unwrap_or_default());
    let cursor = body.cursor.and_then(|cursor| invalid.cursor("/cursor", &cursor));
    let Some(url) = url else { return Err(invalid.refuse()) };
    invalid.done()?;
    Ok(NewWebhook { url, description, event_types, cursor })
}

fn parse_patch(body: WebhookPatchBody, policy: &AddressPolicy) -> Result<WebhookPatch, ApiError> {
    let mut invalid = Invalid::default();
    let url = invalid.not_null("/url", body.url).and_then(|url| parse_url(&mut invalid, policy, &url));
    let description = match body.description {
        Patch::Keep => Patch::Keep,
        Patch::Remove => Patch::Remove,
        Patch::Replace(text) => {
            invalid.text("/description", text, LONGEST_DESCRIPTION).map_or(Patch::Keep, Patch::Replace)
        }
    };
    let event_types = invalid.not_null("/event_types", body.event_types);
    let event_types = event_types.map(|types| parse_types(&mut invalid, types));
    let state = invalid.not_null("/state", body.state);
    let is_enabled = state.and_then(|state| parse_state(&mut invalid, &state));
    invalid.done()?;
    Ok(WebhookPatch { url, description, event_types, is_enabled })
}

fn parse_url(invalid: &mut Invalid, policy: &AddressPolicy, text: &str) -> Option<WebhookUrl> {
    let url: WebhookUrl = invalid.parse("/url", text)?;
    if let Err(refusal) = policy.check_url(&url) {
        invalid.add("/url", "address_refused", refusal.to_string());
        return None;
    }
    Some(url)
}

/// Sorted, each once.
fn parse_types(invalid: &mut Invalid, words: Vec<String>) -> Vec<EventTypes> {
    if words.len() > MOST_TYPES {
        invalid.add("/event_types", "out_of_range", format!("must be {MOST_TYPES} at the most"));
        return Vec::new();
    }
    let mut types: Vec<EventTypes> = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        types.extend(invalid.parse::<EventTypes>(&format!("/event_types/{index}"), word));
    }
    types.sort_unstable();
    types.dedup();
    types
}

/// A webhook is deleted by DELETE alone.
fn parse_state(invalid: &mut Invalid, word: &str) -> Option<bool> {
    match word.parse() {
        Ok(WebhookState::Enabled) => Some(true),
        Ok(WebhookState::Disabled) => Some(false),
        Ok(WebhookState::Deleted) | Err(_) => {
            invalid.add("/state", "invalid", "must be enabled or disabled");
            None
        }
    }
}

const KIND: &str = "webhook";
/// A day, in seconds.
const OVERLAP: i64 = 24 * 60 * 60;
/// A week: a secret that may still be used is one that may still leak.
const LONGEST_OVERLAP: i64 = 7 * OVERLAP;
const LONGEST_DESCRIPTION: usize = 255;
const MOST_TYPES: usize = 100;
