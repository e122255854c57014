//! `/admin/v1/instances`: the installations, what they may use, and which tokens they got.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::{EmptyBody, OptionalReasonBody, ReasonBody};
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::InstanceUid;
use crate::fulfillment::instances::{self, Finding};
use crate::http::body::Body;
use crate::http::entitlements::{self, AtQuery, ExplanationView};
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::instance_reports::{self, ReportRow};
use crate::storage::instance_states::{self as rows, InstanceFilter, InstanceRow};
use crate::storage::issued_tokens::{self, IssuedTokenRow};

/// An instance.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InstanceView {
    instance_uid: uuid::Uuid,
    license_id: uuid::Uuid,
    subscription_id: uuid::Uuid,
    /// The id that the installation gave itself.
    instance_id: uuid::Uuid,
    hostname: String,
    version: String,
    deployment: &'static str,
    kind: &'static str,
    /// `active`, `blocked` or `released`.
    state: &'static str,
    state_since: WireTime,
    state_reason: Option<String>,
    /// Until then a released instance keeps its place under the license.
    place_held_until: Option<WireTime>,
    /// `secret` or `key`.
    authenticates_by: &'static str,
    /// Whether it may activate once more without its registered key.
    reactivation_allowed: bool,
    /// Since when two installations are known to share this identity.
    identity_contested_at: Option<WireTime>,
    /// What its own administrator switched off.
    disabled_unit_primitives: Vec<String>,
    disabled_backends: Vec<String>,
    #[schema(value_type = Option<Object>)]
    reported_usage: Option<serde_json::Value>,
    created_at: WireTime,
    updated_at: WireTime,
}

/// One token that left. The token itself is kept nowhere.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct IssuanceView {
    jti: uuid::Uuid,
    instance_uid: uuid::Uuid,
    backend: String,
    audience: String,
    issued_at: WireTime,
    expires_at: WireTime,
    unit_primitives: Vec<String>,
    seats: Option<i64>,
    kid: String,
    /// The catalog that decided.
    catalog_digest: String,
}

/// What an instance told of itself.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReportView {
    reported_at: WireTime,
    version: String,
    hostname: String,
    /// Seats and other numbers, as the instance told them.
    #[schema(value_type = Option<Object>)]
    usage: Option<serde_json::Value>,
}

impl From<&ReportRow> for ReportView {
    fn from(row: &ReportRow) -> Self {
        Self {
            reported_at: WireTime(row.reported_at),
            version: row.version.clone(),
            hostname: row.hostname.clone(),
            usage: row.usage.clone(),
        }
    }
}

impl Resource for InstanceRow {
    const KIND: &'static str = KIND;
    type View = InstanceView;

    fn id(&self) -> String {
        self.uid.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/instances/{}", self.uid)
    }

    fn view(&self, _: Seen) -> InstanceView {
        InstanceView {
            instance_uid: self.uid.as_uuid(),
            license_id: self.license_id.as_uuid(),
            subscription_id: self.subscription_id.as_uuid(),
            instance_id: self.instance_id.as_uuid(),
            hostname: self.hostname.clone(),
            version: self.version.clone(),
            deployment: self.deployment.as_str(),
            kind: self.kind.as_str(),
            state: self.state.as_str(),
            state_since: WireTime(self.state_since),
            state_reason: self.state_reason.clone(),
            place_held_until: self.place_held_until.map(WireTime),
            authenticates_by: if self.has_public_key { "key" } else { "secret" },
            reactivation_allowed: self.reactivation_allowed,
            identity_contested_at: self.identity_contested_at.map(WireTime),
            disabled_unit_primitives: self.disabled_unit_primitives.clone(),
            disabled_backends: self.disabled_backends.clone(),
            reported_usage: self.reported_usage.clone(),
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

impl From<&IssuedTokenRow> for IssuanceView {
    fn from(row: &IssuedTokenRow) -> Self {
        Self {
            jti: row.jti.as_uuid(),
            instance_uid: row.instance_uid.as_uuid(),
            backend: row.backend.clone(),
            audience: row.audience.clone(),
            issued_at: WireTime(row.issued_at),
            expires_at: WireTime(row.expires_at),
            unit_primitives: row.scopes.clone(),
            seats: row.seats,
            kid: row.kid.clone(),
            catalog_digest: row.catalog_digest.clone(),
        }
    }
}

/// `GET /admin/v1/instances`
#[utoipa::path(get, operation_id = "instances_list", path = "/admin/v1/instances", tag = "instances (admin)", security(("admin_token" = ["fulfillment:read"])),
    params(("license_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("subscription_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("customer_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("kind" = inline(Option<String>), Query, nullable = false, description = "`production`, `staging` or `development`"),
           ("instance_id" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("state" = inline(Option<String>), Query, nullable = false, description = "`active`, `blocked` or `released`"),
           ("contested" = inline(Option<bool>), Query, nullable = false, description = "Whether two installations share the identity"),
           Pages),
    responses((status = 200, description = "A page of instances, in the order in which they were first activated", body = PageView<InstanceView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let filter = InstanceFilter {
        license_id: query.parse("license_id"),
        subscription_id: query.parse("subscription_id"),
        customer_id: query.parse("customer_id"),
        kind: query.parse("kind"),
        instance_id: query.parse("instance_id"),
        state: query.parse("state"),
        contested: query.parse("contested"),
    };
    let page = desk.page(query)?;
    let rows = rows::list(&mut *desk.read().await?, &filter, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.uid)
}

/// `GET /admin/v1/instances/{uid}`
#[utoipa::path(get, operation_id = "instances_read", path = "/admin/v1/instances/{uid}", tag = "instances (admin)", security(("admin_token" = ["fulfillment:read"])),
    params(("uid" = uuid::Uuid, Path)),
    responses((status = 200, description = "The instance", body = InstanceView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let uid = uid(&desk)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, uid).await?, KIND)
}

/// `GET /admin/v1/instances/{uid}/entitlements?at=`
#[utoipa::path(get, operation_id = "instances_explain", path = "/admin/v1/instances/{uid}/entitlements", tag = "instances (admin)", security(("admin_token" = ["fulfillment:read"])),
    params(("uid" = uuid::Uuid, Path), AtQuery),
    responses((status = 200, description = "Why each unit primitive is granted or not at that instant", body = ExplanationView)))]
pub(crate) async fn explain(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let uid = uid(&desk)?;
    let mut query = desk.query();
    query.instant("at");
    query.done()?;
    let at = web::Query::<AtQuery>::from_query(desk.request.query_string()).map_err(ApiError::fault)?;
    let view = entitlements::explain(&desk.app, &mut *desk.read().await?, uid, &at).await?;
    Ok(HttpResponse::Ok().json(view))
}

/// `GET /admin/v1/instances/{uid}/issuances`
#[utoipa::path(get, operation_id = "instances_issuances", path = "/admin/v1/instances/{uid}/issuances", tag = "instances (admin)", security(("admin_token" = ["audit:read"])),
    params(("uid" = uuid::Uuid, Path), Pages),
    responses((status = 200, description = "A page of the tokens that it got, latest first", body = PageView<IssuanceView>)))]
pub(crate) async fn issuances(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let uid = uid(&desk)?;
    let page = desk.page(desk.query())?;
    let mut connection = desk.read().await?;
    if rows::find(&mut connection, uid).await?.is_none() {
        return Err(ApiError::not_found(KIND));
    }
    let rows = issued_tokens::list_of_instance(&mut connection, uid, page.after, page.fetch()).await?;
    page.answer(&desk, rows, |row| row.jti, |row| IssuanceView::from(row))
}

/// `GET /admin/v1/instances/{uid}/reports`
#[utoipa::path(get, operation_id = "instances_reports", path = "/admin/v1/instances/{uid}/reports", tag = "instances (admin)", security(("admin_token" = ["fulfillment:read"])),
    params(("uid" = uuid::Uuid, Path), Pages),
    responses((status = 200, description = "A page of what it reported of itself, latest first; each when it was news", body = PageView<ReportView>)))]
pub(crate) async fn reports(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let uid = uid(&desk)?;
    let page = desk.page(desk.query())?;
    let mut connection = desk.read().await?;
    if rows::find(&mut connection, uid).await?.is_none() {
        return Err(ApiError::not_found(KIND));
    }
    let rows = instance_reports::list_of_instance(&mut connection, uid, page.after, page.fetch()).await?;
    page.answer(&desk, rows, |row| row.sequence, |row| ReportView::from(row))
}

/// `POST /admin/v1/instances/{uid}:block`
#[utoipa::path(post, operation_id = "instances_block", path = "/admin/v1/instances/{uid}:block", tag = "instances (admin)", security(("admin_token" = ["instances:write"])),
    request_body = ReasonBody, params(("uid" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The instance, which gets no token until it is unblocked", body = ChangedView<InstanceView>)))]
pub(crate) async fn block(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::InstancesWrite).await?;
    let uid = uid(&desk)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    let expected = desk.required_match(KIND, uid)?;
    desk.change(&caller, &body, "instance.block", async |connection, circumstances| {
        let told = reason.clone();
        let changed = instances::block(connection, circumstances, uid, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/instances/{uid}:unblock`
#[utoipa::path(post, operation_id = "instances_unblock", path = "/admin/v1/instances/{uid}:unblock", tag = "instances (admin)", security(("admin_token" = ["instances:write"])),
    request_body(content = Option<OptionalReasonBody>, content_type = "application/json"), params(("uid" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The instance, active again", body = ChangedView<InstanceView>)))]
pub(crate) async fn unblock(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::InstancesWrite).await?;
    let uid = uid(&desk)?;
    let reason = body.json_or_default::<OptionalReasonBody>()?.parse()?;
    let expected = desk.optional_match(KIND, uid);
    desk.change(&caller, &body, "instance.unblock", async |connection, circumstances| {
        let changed = instances::unblock(connection, circumstances, uid, &expected).await?;
        Ok(Done::from(changed).because(reason))
    })
    .await
}

/// `POST /admin/v1/instances/{uid}:release`
#[utoipa::path(post, operation_id = "instances_release", path = "/admin/v1/instances/{uid}:release", tag = "instances (admin)", security(("admin_token" = ["instances:write"])),
    request_body(content = Option<OptionalReasonBody>, content_type = "application/json"), params(("uid" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The instance, whose place is free when its last token has expired", body = ChangedView<InstanceView>)))]
pub(crate) async fn release(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::InstancesWrite).await?;
    let uid = uid(&desk)?;
    let reason = body.json_or_default::<OptionalReasonBody>()?.parse()?;
    let expected = desk.required_match(KIND, uid)?;
    desk.change(&caller, &body, "instance.release", async |connection, circumstances| {
        let told = reason.clone();
        let changed = instances::release(connection, circumstances, uid, &expected, reason).await?;
        Ok(Done::from(changed).because(told))
    })
    .await
}

/// `POST /admin/v1/instances/{uid}:allow-reactivation`
#[utoipa::path(post, operation_id = "instances_allow_reactivation", path = "/admin/v1/instances/{uid}:allow-reactivation", tag = "instances (admin)", security(("admin_token" = ["instances:write"])),
    params(("uid" = uuid::Uuid, Path), Retry, Trial),
    responses((status = 200, description = "The instance, which may register another key once", body = ChangedView<InstanceView>)))]
pub(crate) async fn allow_reactivation(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::InstancesWrite).await?;
    let uid = uid(&desk)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.optional_match(KIND, uid);
    desk.change(&caller, &body, "instance.allow_reactivation", async |connection, circumstances| {
        Ok(Done::from(instances::allow_reactivation(connection, circumstances, uid, &expected).await?))
    })
    .await
}

/// What became known of two installations with one identity.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindingBody {
    /// `restored`: one installation, set back to an earlier state. `moved`: one installation, which goes on in another
    /// place. `staging_copy`: a copy, which is to activate on its own.
    finding: String,
    reason: String,
}

/// `POST /admin/v1/instances/{uid}:settle-identity`
#[utoipa::path(post, operation_id = "instances_settle_identity", path = "/admin/v1/instances/{uid}:settle-identity", tag = "instances (admin)", security(("admin_token" = ["instances:write"])),
    request_body = FindingBody, params(("uid" = uuid::Uuid, Path), Match, Retry, Trial),
    responses((status = 200, description = "The instance, whose identity is contested no more", body = ChangedView<InstanceView>)))]
pub(crate) async fn settle_identity(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::InstancesWrite).await?;
    let uid = uid(&desk)?;
    let asked: FindingBody = body.json()?;
    let mut invalid = Invalid::default();
    let finding = match asked.finding.as_str() {
        "moved" => Some(Finding::Moved),
        "restored" => Some(Finding::Restored),
        "staging_copy" => Some(Finding::StagingCopy),
        _ => {
            invalid.add("/finding", "unknown", "must be moved, restored or staging_copy");
            None
        }
    };
    let reason = invalid.text("/reason", asked.reason, 1000);
    let (Some(finding), Some(reason)) = (finding, reason) else { return Err(invalid.refuse()) };
    let told = format!("{}: {reason}", asked.finding);
    let expected = desk.required_match(KIND, uid)?;
    desk.change(&caller, &body, "instance.settle_identity", async |connection, circumstances| {
        let changed = instances::settle_identity(connection, circumstances, uid, &expected, finding).await?;
        Ok(Done::from(changed).because(Some(told.clone())))
    })
    .await
}

fn uid(desk: &Desk) -> Result<InstanceUid, ApiError> {
    desk.segment("uid", KIND)
}

const KIND: &str = "instance";
