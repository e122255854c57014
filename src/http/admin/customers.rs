//! `/admin/v1/customers`: the organizations that buy.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::EmptyBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::CustomerId;
use crate::fulfillment::Patch;
use crate::fulfillment::customers::{self, CustomerPatch, NewCustomer};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::customers::{self as rows, CustomerFilter, CustomerRow};

/// A customer to be recorded.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCustomerBody {
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    email: Option<String>,
    /// What another system calls it; unique among customers.
    external_ref: Option<String>,
}

/// A merge patch (RFC 7396) of a customer.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CustomerPatchBody {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    email: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    external_ref: Patch<String>,
}

/// A customer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CustomerView {
    id: uuid::Uuid,
    name: String,
    email: Option<String>,
    external_ref: Option<String>,
    /// Since when it takes no new subscriptions.
    archived_at: Option<WireTime>,
    created_at: WireTime,
    updated_at: WireTime,
}

impl Resource for CustomerRow {
    const KIND: &'static str = KIND;
    type View = CustomerView;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/customers/{}", self.id)
    }

    fn view(&self, _: Seen) -> CustomerView {
        CustomerView {
            id: self.id.as_uuid(),
            name: self.name.clone(),
            email: self.email.clone(),
            external_ref: self.external_ref.clone(),
            archived_at: self.archived_at.map(WireTime),
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

/// `POST /admin/v1/customers`
#[utoipa::path(post, operation_id = "customers_create", path = "/admin/v1/customers", tag = "customers", security(("admin_token" = ["fulfillment:write"])),
    request_body = NewCustomerBody, params(Retry, Trial),
    responses((status = 201, description = "The new customer", body = ChangedView<CustomerView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let new = parse_new(body.json()?)?;
    desk.change(&caller, &body, "customer.create", async |connection, circumstances| {
        Ok(Done::from(customers::create(connection, circumstances, new).await?))
    })
    .await
}

/// `GET /admin/v1/customers`
#[utoipa::path(get, operation_id = "customers_list", path = "/admin/v1/customers", tag = "customers", security(("admin_token" = ["fulfillment:read"])),
    params(("external_ref" = inline(Option<String>), Query, nullable = false), ("archived" = inline(Option<bool>), Query, nullable = false), Pages),
    responses((status = 200, description = "A page of customers, in the order in which they were recorded", body = PageView<CustomerView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let filter =
        CustomerFilter { external_ref: query.text("external_ref"), archived: query.parse("archived") };
    let page = desk.page(query)?;
    let rows = rows::list(&mut *desk.read().await?, &filter, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.id)
}

/// `GET /admin/v1/customers/{id}`
#[utoipa::path(get, operation_id = "customers_read", path = "/admin/v1/customers/{id}", tag = "customers", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The customer", body = CustomerView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id = desk.id(KIND)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, id).await?, KIND)
}

/// `PATCH /admin/v1/customers/{id}`
#[utoipa::path(patch, operation_id = "customers_amend", path = "/admin/v1/customers/{id}", tag = "customers", security(("admin_token" = ["fulfillment:write"])),
    request_body = CustomerPatchBody, params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The customer as it is now", body = ChangedView<CustomerView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: CustomerId = desk.id(KIND)?;
    let patch = parse_patch(body.json()?)?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "customer.amend", async |connection, circumstances| {
        Ok(Done::from(customers::amend(connection, circumstances, id, &expected, patch).await?))
    })
    .await
}

/// `POST /admin/v1/customers/{id}:archive`
#[utoipa::path(post, operation_id = "customers_archive", path = "/admin/v1/customers/{id}:archive", tag = "customers", security(("admin_token" = ["fulfillment:write"])),
    params(("id" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The customer, which takes no new subscriptions", body = ChangedView<CustomerView>)))]
pub(crate) async fn archive(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: CustomerId = desk.id(KIND)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "customer.archive", async |connection, circumstances| {
        Ok(Done::from(customers::archive(connection, circumstances, id, &expected).await?))
    })
    .await
}

/// Reads what a new one is to be.
///
/// # Errors
/// 422 with every wrong value.
pub(super) fn parse_new(body: NewCustomerBody) -> Result<NewCustomer, ApiError> {
    let mut invalid = Invalid::default();
    let name = invalid.present("/name", body.name).and_then(|name| invalid.name("/name", name));
    let email = body.email.and_then(|email| invalid.email("/email", email));
    let external_ref = body.external_ref.and_then(|text| invalid.name("/external_ref", text));
    let Some(name) = name else { return Err(invalid.refuse()) };
    invalid.done()?;
    Ok(NewCustomer { name, email, external_ref })
}

fn parse_patch(body: CustomerPatchBody) -> Result<CustomerPatch, ApiError> {
    let mut invalid = Invalid::default();
    let name = invalid.not_null("/name", body.name).and_then(|name| invalid.name("/name", name));
    let email = invalid.email_patch("/email", body.email);
    let external_ref = invalid.name_patch("/external_ref", body.external_ref);
    invalid.done()?;
    Ok(CustomerPatch { name, email, external_ref })
}

const KIND: &str = "customer";
