//! `/admin/v1/subscriptions`: terms, plans and seats, with the timeline of their conditions.

use actix_web::HttpResponse;
use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::ReasonBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::SubscriptionId;
use crate::domain::subscription::Condition;
use crate::fulfillment::Patch;
use crate::fulfillment::subscriptions::{self, NewSubscription, Subscription, SubscriptionPatch};
use crate::fulfillment::term::Moment;
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::subscriptions::{self as rows, StateFilter, SubscriptionFilter};

/// A subscription to be recorded.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSubscriptionBody {
    #[schema(value_type = uuid::Uuid)]
    customer_id: Option<String>,
    /// The plan, as the catalog names it.
    #[schema(value_type = String)]
    license_type: Option<String>,
    /// An instant (RFC 3339), or a date in the time zone.
    #[schema(value_type = String)]
    starts_at: Option<String>,
    /// Exclusive: an instant, or the first day after the term.
    #[schema(value_type = String)]
    ends_at: Option<String>,
    /// IANA name; `UTC` where it is missing. It stays what it is.
    time_zone: Option<String>,
    #[schema(value_type = i32, minimum = 1)]
    seats: Option<i64>,
    /// A trial ends without grace.
    #[serde(default)]
    trial: bool,
    /// What another system calls it; unique among subscriptions.
    external_ref: Option<String>,
}

/// A merge patch (RFC 7396) of a subscription.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionPatchBody {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    license_type: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    starts_at: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    ends_at: Patch<String>,
    #[serde(default)]
    #[schema(value_type = i32, minimum = 1, required = false)]
    seats: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = bool, required = false)]
    trial: Patch<bool>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    external_ref: Patch<String>,
}

/// A renewal.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewalBody {
    /// Later than the present end; exclusive.
    #[schema(value_type = String)]
    ends_at: Option<String>,
    #[schema(value_type = String)]
    reason: Option<String>,
}

/// A subscription.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionView {
    id: uuid::Uuid,
    customer_id: uuid::Uuid,
    license_type: String,
    starts_at: WireTime,
    ends_at: WireTime,
    /// As the contract words it, where it was made in dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    starts_on: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ends_on: Option<NaiveDate>,
    time_zone: &'static str,
    seats: i32,
    trial: bool,
    /// What its condition and its term come to now: `not_started`, `active`, `in_grace`, `expired`, `suspended`
    /// or `canceled`.
    state: &'static str,
    /// `active`, `suspended` or `canceled`, whatever the term says.
    condition: &'static str,
    /// Oldest first.
    conditions: Vec<ConditionView>,
    external_ref: Option<String>,
    created_at: WireTime,
    updated_at: WireTime,
}

/// One entry of a subscription's timeline.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ConditionView {
    condition: &'static str,
    since: WireTime,
    reason: Option<String>,
}

impl Resource for Subscription {
    const KIND: &'static str = KIND;
    type View = SubscriptionView;

    fn id(&self) -> String {
        self.row.id.to_string()
    }

    fn revision(&self) -> i64 {
        self.row.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/subscriptions/{}", self.row.id)
    }

    fn view(&self, seen: Seen) -> SubscriptionView {
        let Subscription { row, conditions } = self;
        let condition = |entry: &rows::ConditionRow| ConditionView {
            condition: entry.condition.as_str(),
            since: WireTime(entry.since),
            reason: entry.reason.clone(),
        };
        SubscriptionView {
            id: row.id.as_uuid(),
            customer_id: row.customer_id.as_uuid(),
            license_type: row.license_type.to_string(),
            starts_at: WireTime(row.term.starts_at()),
            ends_at: WireTime(row.term.ends_at()),
            starts_on: row.starts_on,
            ends_on: row.ends_on,
            time_zone: row.time_zone.name(),
            seats: row.seats,
            trial: row.trial,
            state: self.state_at(seen.now, seen.grace).as_str(),
            condition: row.condition.as_str(),
            conditions: conditions.iter().map(condition).collect(),
            external_ref: row.external_ref.clone(),
            created_at: WireTime(row.created_at),
            updated_at: WireTime(row.updated_at),
        }
    }
}

/// `POST /admin/v1/subscriptions`
#[utoipa::path(post, operation_id = "subscriptions_create", path = "/admin/v1/subscriptions", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = NewSubscriptionBody, params(Retry, Trial),
    responses((status = 201, description = "The new subscription", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let new = parse_new(body.json()?)?;
    desk.change(&caller, &body, "subscription.create", async |connection, circumstances| {
        Ok(Done::from(subscriptions::create(connection, circumstances, new).await?))
    })
    .await
}

/// `GET /admin/v1/subscriptions`
#[utoipa::path(get, operation_id = "subscriptions_list", path = "/admin/v1/subscriptions", tag = "subscriptions", security(("admin_token" = ["fulfillment:read"])),
    params(("customer_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("state" = inline(Option<String>), Query, nullable = false, description = "`not_started`, `active`, `in_grace`, `expired`, `suspended` or `canceled`"),
           ("condition" = inline(Option<String>), Query, nullable = false, description = "`active`, `suspended` or `canceled`, whatever the term says"),
           ("license_type" = inline(Option<String>), Query, nullable = false),
           ("expires_before" = inline(Option<chrono::DateTime<chrono::Utc>>), Query, nullable = false, description = "Terms that end before this instant"),
           ("external_ref" = inline(Option<String>), Query, nullable = false), Pages),
    responses((status = 200, description = "A page of subscriptions, in the order in which they were recorded", body = PageView<SubscriptionView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let filter = SubscriptionFilter {
        customer_id: query.parse("customer_id"),
        external_ref: query.text("external_ref"),
        condition: query.parse::<Condition>("condition"),
        state: query.parse("state").map(|state| {
            let Seen { now: at, grace } = desk.seen();
            StateFilter { state, at, grace }
        }),
        license_type: query.parse("license_type"),
        expires_before: query.instant("expires_before"),
    };
    let page = desk.page(query)?;
    let mut connection = desk.read().await?;
    let found = subscriptions::list(&mut connection, &filter, page.after, page.fetch()).await?;
    page.of(&desk, found, |subscription| subscription.row.id)
}

/// `GET /admin/v1/subscriptions/{id}`
#[utoipa::path(get, operation_id = "subscriptions_read", path = "/admin/v1/subscriptions/{id}", tag = "subscriptions", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The subscription", body = SubscriptionView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id = desk.id(KIND)?;
    desk.query().done()?;
    one(&desk, subscriptions::find(&mut *desk.read().await?, id).await?, KIND)
}

/// `PATCH /admin/v1/subscriptions/{id}`
#[utoipa::path(patch, operation_id = "subscriptions_amend", path = "/admin/v1/subscriptions/{id}", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = SubscriptionPatchBody, params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The subscription as it is now", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: SubscriptionId = desk.id(KIND)?;
    let patch = parse_patch(body.json()?)?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "subscription.amend", async |connection, circumstances| {
        Ok(Done::from(subscriptions::amend(connection, circumstances, id, &expected, patch).await?))
    })
    .await
}

/// `POST /admin/v1/subscriptions/{id}:suspend`
#[utoipa::path(post, operation_id = "subscriptions_suspend", path = "/admin/v1/subscriptions/{id}:suspend", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = ReasonBody, params(("id" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The subscription, under which nothing gets a token", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn suspend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: SubscriptionId = desk.id(KIND)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "subscription.suspend", async |connection, circumstances| {
        let told = reason.clone();
        let changed = subscriptions::suspend(connection, circumstances, id, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/subscriptions/{id}:resume`
#[utoipa::path(post, operation_id = "subscriptions_resume", path = "/admin/v1/subscriptions/{id}:resume", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = ReasonBody, params(("id" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The subscription, active again", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn resume(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: SubscriptionId = desk.id(KIND)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    let expected = desk.optional_match(KIND, id);
    desk.change(&caller, &body, "subscription.resume", async |connection, circumstances| {
        let told = reason.clone();
        let changed = subscriptions::resume(connection, circumstances, id, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/subscriptions/{id}:cancel`
#[utoipa::path(post, operation_id = "subscriptions_cancel", path = "/admin/v1/subscriptions/{id}:cancel", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = ReasonBody, params(("id" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The subscription, canceled for good", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn cancel(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: SubscriptionId = desk.id(KIND)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "subscription.cancel", async |connection, circumstances| {
        let told = reason.clone();
        let changed = subscriptions::cancel(connection, circumstances, id, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/subscriptions/{id}:renew`
#[utoipa::path(post, operation_id = "subscriptions_renew", path = "/admin/v1/subscriptions/{id}:renew", tag = "subscriptions", security(("admin_token" = ["fulfillment:write"])),
    request_body = RenewalBody, params(("id" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The subscription with its longer term", body = ChangedView<SubscriptionView>)))]
pub(crate) async fn renew(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: SubscriptionId = desk.id(KIND)?;
    let (ends_at, reason) = parse_renewal(body.json()?)?;
    let expected = desk.optional_match(KIND, id);
    desk.change(&caller, &body, "subscription.renew", async |connection, circumstances| {
        let changed = subscriptions::renew(connection, circumstances, id, &expected, ends_at).await?;
        Ok(Done::from(changed).because(reason))
    })
    .await
}

/// Reads what a new one is to be.
///
/// # Errors
/// 422 with every wrong value.
pub(super) fn parse_new(body: NewSubscriptionBody) -> Result<NewSubscription, ApiError> {
    let mut invalid = Invalid::default();
    let customer_id = invalid.parse_present("/customer_id", body.customer_id.as_deref());
    let license_type = invalid.parse_present("/license_type", body.license_type.as_deref());
    let starts_at = invalid.parse_present("/starts_at", body.starts_at.as_deref());
    let ends_at = invalid.parse_present("/ends_at", body.ends_at.as_deref());
    let seats = invalid.present("/seats", body.seats).and_then(|seats| invalid.count("/seats", seats));
    let time_zone = match body.time_zone.as_deref() {
        Some(name) => invalid.time_zone("/time_zone", name),
        None => Some(Tz::UTC),
    };
    let external_ref = body.external_ref.and_then(|text| invalid.name("/external_ref", text));
    match (customer_id, license_type, starts_at, ends_at, seats, time_zone) {
        (
            Some(customer_id),
            Some(license_type),
            Some(starts_at),
            Some(ends_at),
            Some(seats),
            Some(time_zone),
        ) => {
            invalid.done()?;
            let trial = body.trial;
            Ok(NewSubscription {
                customer_id,
                license_type,
                starts_at,
                ends_at,
                time_zone,
                seats,
                trial,
                external_ref,
            })
        }
        _ => Err(invalid.refuse()),
    }
}

fn parse_patch(body: SubscriptionPatchBody) -> Result<SubscriptionPatch, ApiError> {
    let mut invalid = Invalid::default();
    let patch = SubscriptionPatch {
        license_type: invalid.parse_patch("/license_type", body.license_type),
        starts_at: invalid.parse_patch("/starts_at", body.starts_at),
        ends_at: invalid.parse_patch("/ends_at", body.ends_at),
        seats: invalid.not_null("/seats", body.seats).and_then(|seats| invalid.count("/seats", seats)),
        trial: invalid.not_null("/trial", body.trial),
        external_ref: invalid.name_patch("/external_ref", body.external_ref),
    };
    invalid.done()?;
    Ok(patch)
}

fn parse_renewal(body: RenewalBody) -> Result<(Moment, String), ApiError> {
    let mut invalid = Invalid::default();
    let ends_at = invalid.parse_present("/ends_at", body.ends_at.as_deref());
    let reason = invalid.reason(body.reason);
    match (ends_at, reason) {
        (Some(ends_at), Some(reason)) => Ok((ends_at, reason)),
        _ => Err(invalid.refuse()),
    }
}

const KIND: &str = "subscription";
