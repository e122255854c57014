//! `/admin/v1/subscriptions/{id}/add-on-purchases`: what was bought in addition to a plan.

use actix_web::HttpResponse;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::EmptyBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::{PurchaseId, SubscriptionId};
use crate::fulfillment::Patch;
use crate::fulfillment::add_on_purchases::{self, NewPurchase, PurchasePatch};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::add_on_purchases::{self as rows, PurchaseFilter, PurchaseRow};
use crate::storage::subscriptions;

/// A purchase to be recorded.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPurchaseBody {
    /// As the catalog names it.
    #[schema(value_type = String)]
    add_on: Option<String>,
    /// Seats.
    #[schema(value_type = i32, minimum = 1)]
    quantity: Option<i64>,
    /// An instant (RFC 3339), or a date in the subscription's time zone.
    #[schema(value_type = String)]
    starts_at: Option<String>,
    /// Exclusive: an instant, or the first day after the term.
    #[schema(value_type = String)]
    ends_at: Option<String>,
    /// What another system calls it; unique among purchases.
    external_ref: Option<String>,
}

/// A merge patch (RFC 7396) of a purchase.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurchasePatchBody {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    add_on: Patch<String>,
    #[serde(default)]
    #[schema(value_type = i32, minimum = 1, required = false)]
    quantity: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    starts_at: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    ends_at: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    external_ref: Patch<String>,
}

/// A purchase of an add-on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PurchaseView {
    id: uuid::Uuid,
    subscription_id: uuid::Uuid,
    add_on: String,
    quantity: i32,
    starts_at: WireTime,
    ends_at: WireTime,
    /// As the contract words it, where it was made in dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    starts_on: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ends_on: Option<NaiveDate>,
    /// When it was ended before its term; final.
    ended_at: Option<WireTime>,
    external_ref: Option<String>,
    created_at: WireTime,
    updated_at: WireTime,
}

impl Resource for PurchaseRow {
    const KIND: &'static str = KIND;
    type View = PurchaseView;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/subscriptions/{}/add-on-purchases/{}", self.subscription_id, self.id)
    }

    fn view(&self, _: Seen) -> PurchaseView {
        PurchaseView {
            id: self.id.as_uuid(),
            subscription_id: self.subscription_id.as_uuid(),
            add_on: self.add_on.to_string(),
            quantity: self.quantity,
            starts_at: WireTime(self.term.starts_at()),
            ends_at: WireTime(self.term.ends_at()),
            starts_on: self.starts_on,
            ends_on: self.ends_on,
            ended_at: self.ended_at.map(WireTime),
            external_ref: self.external_ref.clone(),
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

/// `POST /admin/v1/subscriptions/{id}/add-on-purchases`
#[utoipa::path(post, operation_id = "add_on_purchases_create", path = "/admin/v1/subscriptions/{id}/add-on-purchases", tag = "add-on purchases", security(("admin_token" = ["fulfillment:write"])),
    request_body = NewPurchaseBody, params(("id" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 201, description = "The new purchase", body = ChangedView<PurchaseView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let subscription: SubscriptionId = desk.id("subscription")?;
    let new = parse_new(body.json()?)?;
    desk.change(&caller, &body, "add_on_purchase.create", async |connection, circumstances| {
        Ok(Done::from(add_on_purchases::create(connection, circumstances, subscription, new).await?))
    })
    .await
}

/// `GET /admin/v1/subscriptions/{id}/add-on-purchases`
#[utoipa::path(get, operation_id = "add_on_purchases_list", path = "/admin/v1/subscriptions/{id}/add-on-purchases", tag = "add-on purchases", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path), ("add_on" = inline(Option<String>), Query, nullable = false),
           ("external_ref" = inline(Option<String>), Query, nullable = false), Pages),
    responses((status = 200, description = "A page of its purchases, in the order in which they were recorded", body = PageView<PurchaseView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let subscription: SubscriptionId = desk.id("subscription")?;
    let mut query = desk.query();
    let filter = PurchaseFilter { add_on: query.parse("add_on"), external_ref: query.text("external_ref") };
    let page = desk.page(query)?;
    let mut connection = desk.read().await?;
    if subscriptions::find(&mut connection, subscription).await?.is_none() {
        return Err(ApiError::not_found("subscription"));
    }
    let rows = rows::list(&mut connection, subscription, &filter, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.id)
}

/// `GET /admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}`
#[utoipa::path(get, operation_id = "add_on_purchases_read", path = "/admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}", tag = "add-on purchases", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path), ("purchase_id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The purchase", body = PurchaseView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let (subscription, id) = ids(&desk)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, subscription, id).await?, "purchase")
}

/// `PATCH /admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}`
#[utoipa::path(patch, operation_id = "add_on_purchases_amend", path = "/admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}", tag = "add-on purchases", security(("admin_token" = ["fulfillment:write"])),
    request_body = PurchasePatchBody, params(("id" = uuid::Uuid, Path), ("purchase_id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The purchase as it is now", body = ChangedView<PurchaseView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let ids = ids(&desk)?;
    let patch = parse_patch(body.json()?)?;
    let expected = desk.required_match(KIND, ids.1)?;
    desk.change(&caller, &body, "add_on_purchase.amend", async |connection, circumstances| {
        Ok(Done::from(add_on_purchases::amend(connection, circumstances, ids, &expected, patch).await?))
    })
    .await
}

/// `DELETE /admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}`
#[utoipa::path(delete, operation_id = "add_on_purchases_end", path = "/admin/v1/subscriptions/{id}/add-on-purchases/{purchase_id}", tag = "add-on purchases", security(("admin_token" = ["fulfillment:write"])),
    params(("id" = uuid::Uuid, Path), ("purchase_id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The purchase, which ended now and is remembered", body = ChangedView<PurchaseView>)))]
pub(crate) async fn end(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let ids = ids(&desk)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.required_match(KIND, ids.1)?;
    desk.change(&caller, &body, "add_on_purchase.end", async |connection, circumstances| {
        Ok(Done::from(add_on_purchases::end(connection, circumstances, ids, &expected).await?))
    })
    .await
}

fn ids(desk: &Desk) -> Result<(SubscriptionId, PurchaseId), ApiError> {
    Ok((desk.id("subscription")?, desk.segment("purchase_id", "purchase")?))
}

/// Reads what a new one is to be.
///
/// # Errors
/// 422 with every wrong value.
pub(super) fn parse_new(body: NewPurchaseBody) -> Result<NewPurchase, ApiError> {
    let mut invalid = Invalid::default();
    let add_on = invalid.parse_present("/add_on", body.add_on.as_deref());
    let quantity =
        invalid.present("/quantity", body.quantity).and_then(|quantity| invalid.count("/quantity", quantity));
    let starts_at = invalid.parse_present("/starts_at", body.starts_at.as_deref());
    let ends_at = invalid.parse_present("/ends_at", body.ends_at.as_deref());
    let external_ref = body.external_ref.and_then(|text| invalid.name("/external_ref", text));
    match (add_on, quantity, starts_at, ends_at) {
        (Some(add_on), Some(quantity), Some(starts_at), Some(ends_at)) => {
            invalid.done()?;
            Ok(NewPurchase { add_on, quantity, starts_at, ends_at, external_ref })
        }
        _ => Err(invalid.refuse()),
    }
}

fn parse_patch(body: PurchasePatchBody) -> Result<PurchasePatch, ApiError> {
    let mut invalid = Invalid::default();
    let quantity = invalid.not_null("/quantity", body.quantity);
    let patch = PurchasePatch {
        add_on: invalid.parse_patch("/add_on", body.add_on),
        quantity: quantity.and_then(|quantity| invalid.count("/quantity", quantity)),
        starts_at: invalid.parse_patch("/starts_at", body.starts_at),
        ends_at: invalid.parse_patch("/ends_at", body.ends_at),
        external_ref: invalid.name_patch("/external_ref", body.external_ref),
    };
    invalid.done()?;
    Ok(patch)
}

const KIND: &str = "add_on_purchase";
