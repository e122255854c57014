//! `/admin/v1/licenses`: the rights to activate instances.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::{EmptyBody, ReasonBody};
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::LicenseId;
use crate::fulfillment::Patch;
use crate::fulfillment::licenses::{self, LicensePatch, LicenseState, NewLicense};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::licenses::{self as rows, LicenseFilter, LicenseRow};

/// A license to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLicenseBody {
    #[schema(value_type = uuid::Uuid)]
    subscription_id: Option<String>,
    /// `online`, `offline` or `legacy`. Only online ones may use hosted features.
    #[schema(value_type = String)]
    kind: Option<String>,
    /// How many instances of each kind may be active.
    #[schema(value_type = i32, minimum = 1)]
    max_instances: Option<i64>,
    /// Whether today's instances may use it as a bearer credential.
    #[serde(default)]
    legacy_bearer: bool,
    /// What another system calls it; unique among licenses.
    external_ref: Option<String>,
}

/// A merge patch (RFC 7396) of a license.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicensePatchBody {
    /// A lower number takes no place away: it holds for the next activation.
    #[serde(default)]
    #[schema(value_type = i32, minimum = 1, required = false)]
    max_instances: Patch<i64>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    external_ref: Patch<String>,
}

/// A license.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LicenseView {
    id: uuid::Uuid,
    subscription_id: uuid::Uuid,
    kind: &'static str,
    max_instances: i32,
    legacy_bearer: bool,
    external_ref: Option<String>,
    /// `active` or `revoked`.
    state: &'static str,
    revoked_at: Option<WireTime>,
    revoked_reason: Option<String>,
    created_at: WireTime,
    updated_at: WireTime,
}

impl Resource for LicenseRow {
    const KIND: &'static str = KIND;
    type View = LicenseView;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/licenses/{}", self.id)
    }

    fn view(&self, _: Seen) -> LicenseView {
        let revocation = self.revocation.as_ref();
        let state = LicenseState::of(self);
        LicenseView {
            id: self.id.as_uuid(),
            subscription_id: self.subscription_id.as_uuid(),
            kind: self.kind.as_str(),
            max_instances: self.max_instances,
            legacy_bearer: self.legacy_bearer,
            external_ref: self.external_ref.clone(),
            state: state.as_str(),
            revoked_at: revocation.map(|revocation| WireTime(revocation.at)),
            revoked_reason: revocation.map(|revocation| revocation.reason.clone()),
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

/// `POST /admin/v1/licenses`
#[utoipa::path(post, operation_id = "licenses_create", path = "/admin/v1/licenses", tag = "licenses", security(("admin_token" = ["fulfillment:write"])),
    request_body = NewLicenseBody, params(Retry, Trial),
    responses((status = 201, description = "The new license, with its activation code", body = ChangedView<LicenseView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let new = parse_new(body.json()?)?;
    desk.change(&caller, &body, "license.create", async |connection, circumstances| {
        Ok(Done::from(licenses::create(connection, circumstances, new).await?))
    })
    .await
}

/// `GET /admin/v1/licenses`
#[utoipa::path(get, operation_id = "licenses_list", path = "/admin/v1/licenses", tag = "licenses", security(("admin_token" = ["fulfillment:read"])),
    params(("subscription_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("state" = inline(Option<String>), Query, nullable = false, description = "`active` or `revoked`"),
           ("external_ref" = inline(Option<String>), Query, nullable = false), Pages),
    responses((status = 200, description = "A page of licenses, in the order in which they were made", body = PageView<LicenseView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let filter = LicenseFilter {
        subscription_id: query.parse("subscription_id"),
        external_ref: query.text("external_ref"),
        revoked: query.parse::<LicenseState>("state").map(|state| state == LicenseState::Revoked),
    };
    let page = desk.page(query)?;
    let rows = rows::list(&mut *desk.read().await?, &filter, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.id)
}

/// `GET /admin/v1/licenses/{id}`
#[utoipa::path(get, operation_id = "licenses_read", path = "/admin/v1/licenses/{id}", tag = "licenses", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The license", body = LicenseView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id = desk.id(KIND)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, id).await?, KIND)
}

/// `PATCH /admin/v1/licenses/{id}`
#[utoipa::path(patch, operation_id = "licenses_amend", path = "/admin/v1/licenses/{id}", tag = "licenses", security(("admin_token" = ["fulfillment:write"])),
    request_body = LicensePatchBody, params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The license as it is now", body = ChangedView<LicenseView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: LicenseId = desk.id(KIND)?;
    let patch = parse_patch(body.json()?)?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "license.amend", async |connection, circumstances| {
        Ok(Done::from(licenses::amend(connection, circumstances, id, &expected, patch).await?))
    })
    .await
}

/// `POST /admin/v1/licenses/{id}:revoke`
#[utoipa::path(post, operation_id = "licenses_revoke", path = "/admin/v1/licenses/{id}:revoke", tag = "licenses", security(("admin_token" = ["licenses:revoke"])),
    request_body = ReasonBody, params(("id" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The license, revoked for good", body = ChangedView<LicenseView>)))]
pub(crate) async fn revoke(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::LicensesRevoke).await?;
    let id: LicenseId = desk.id(KIND)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "license.revoke", async |connection, circumstances| {
        let told = reason.clone();
        let changed = licenses::revoke(connection, circumstances, id, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/licenses/{id}:reissue`
#[utoipa::path(post, operation_id = "licenses_reissue", path = "/admin/v1/licenses/{id}:reissue", tag = "licenses", security(("admin_token" = ["fulfillment:write"])),
    params(("id" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The license, with another activation code", body = ChangedView<LicenseView>)))]
pub(crate) async fn reissue(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::FulfillmentWrite).await?;
    let id: LicenseId = desk.id(KIND)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "license.reissue", async |connection, circumstances| {
        Ok(Done::from(licenses::reissue(connection, circumstances, id, &expected).await?))
    })
    .await
}

/// Reads what a new one is to be.
///
/// # Errors
/// 422 with every wrong value.
pub(super) fn parse_new(body: NewLicenseBody) -> Result<NewLicense, ApiError> {
    let mut invalid = Invalid::default();
    let subscription_id = invalid.parse_present("/subscription_id", body.subscription_id.as_deref());
    let kind = invalid.parse_present("/kind", body.kind.as_deref());
    let max_instances = invalid.present("/max_instances", body.max_instances);
    let max_instances = max_instances.and_then(|cap| invalid.count("/max_instances", cap));
    let external_ref = body.external_ref.and_then(|text| invalid.name("/external_ref", text));
    match (subscription_id, kind, max_instances) {
        (Some(subscription_id), Some(kind), Some(max_instances)) => {
            invalid.done()?;
            let legacy_bearer = body.legacy_bearer;
            Ok(NewLicense { subscription_id, kind, max_instances, legacy_bearer, external_ref })
        }
        _ => Err(invalid.refuse()),
    }
}

fn parse_patch(body: LicensePatchBody) -> Result<LicensePatch, ApiError> {
    let mut invalid = Invalid::default();
    let max_instances = invalid.not_null("/max_instances", body.max_instances);
    let patch = LicensePatch {
        max_instances: max_instances.and_then(|cap| invalid.count("/max_instances", cap)),
        external_ref: invalid.name_patch("/external_ref", body.external_ref),
    };
    invalid.done()?;
    Ok(patch)
}

const KIND: &str = "license";
