//! `/admin/v1/backends`: the registered verifiers of tokens.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::EmptyBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::catalog::BackendName;
use crate::fulfillment::Patch;
use crate::fulfillment::backends::{self, BackendPatch, NewBackend};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::backends::{self as rows, BackendRow};

/// A backend to be registered.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBackendBody {
    /// As the catalog names it.
    #[schema(value_type = String)]
    name: Option<String>,
    /// What its verifier understands: `EdDSA` or `RS256`.
    #[schema(value_type = String)]
    alg: Option<String>,
    /// Where it has its keys from: `embedded` or `discovery`.
    #[schema(value_type = String)]
    trust: Option<String>,
    /// How many of its processes must report before a key may be armed.
    #[schema(value_type = i32, minimum = 0)]
    min_live: Option<i64>,
}

/// A merge patch (RFC 7396) of a backend.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendPatchBody {
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    alg: Patch<String>,
    #[serde(default)]
    #[schema(value_type = String, required = false)]
    trust: Patch<String>,
    #[serde(default)]
    #[schema(value_type = i32, minimum = 0, required = false)]
    min_live: Patch<i64>,
}

/// A backend.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BackendView {
    name: String,
    alg: &'static str,
    trust: &'static str,
    min_live: i32,
    /// Whether a token to report with was made.
    has_token: bool,
    created_at: WireTime,
    updated_at: WireTime,
}

impl Resource for BackendRow {
    const KIND: &'static str = KIND;
    type View = BackendView;

    fn id(&self) -> String {
        self.name.to_string()
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn path(&self) -> String {
        format!("/admin/v1/backends/{}", self.name)
    }

    fn view(&self, _: Seen) -> BackendView {
        BackendView {
            name: self.name.to_string(),
            alg: self.alg.as_str(),
            trust: self.trust.as_str(),
            min_live: self.min_live,
            has_token: self.has_token,
            created_at: WireTime(self.created_at),
            updated_at: WireTime(self.updated_at),
        }
    }
}

/// `POST /admin/v1/backends`
#[utoipa::path(post, operation_id = "backends_create", path = "/admin/v1/backends", tag = "backends", security(("admin_token" = ["backends:write"])),
    request_body = NewBackendBody, params(Retry, Trial),
    responses((status = 201, description = "The backend, which has no token yet", body = ChangedView<BackendView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::BackendsWrite).await?;
    let new = parse_new(&body.json()?)?;
    desk.change(&caller, &body, "backend.create", async |connection, circumstances| {
        Ok(Done::from(backends::create(connection, circumstances, new).await?))
    })
    .await
}

/// `GET /admin/v1/backends`
#[utoipa::path(get, operation_id = "backends_list", path = "/admin/v1/backends", tag = "backends", security(("admin_token" = ["fulfillment:read"])), params(Pages),
    responses((status = 200, description = "A page of backends, by name", body = PageView<BackendView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let page = desk.page(desk.query())?;
    let rows = rows::list(&mut *desk.read().await?, page.after.as_ref(), page.fetch()).await?;
    page.of(&desk, rows, |row| row.name.clone())
}

/// `GET /admin/v1/backends/{name}`
#[utoipa::path(get, operation_id = "backends_read", path = "/admin/v1/backends/{name}", tag = "backends", security(("admin_token" = ["fulfillment:read"])),
    params(("name" = String, Path)),
    responses((status = 200, description = "The backend", body = BackendView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let name = name(&desk)?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, &name).await?, KIND)
}

/// `PATCH /admin/v1/backends/{name}`
#[utoipa::path(patch, operation_id = "backends_amend", path = "/admin/v1/backends/{name}", tag = "backends", security(("admin_token" = ["backends:write"])),
    request_body = BackendPatchBody, params(("name" = String, Path), Match, Trial),
    responses((status = 200, description = "The backend as it is now", body = ChangedView<BackendView>)))]
pub(crate) async fn amend(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::BackendsWrite).await?;
    let name = name(&desk)?;
    let patch = parse_patch(body.json()?)?;
    let expected = desk.required_match(KIND, &name)?;
    desk.change(&caller, &body, "backend.amend", async |connection, circumstances| {
        Ok(Done::from(backends::amend(connection, circumstances, &name, &expected, patch).await?))
    })
    .await
}

/// `POST /admin/v1/backends/{name}:rotate-token`
#[utoipa::path(post, operation_id = "backends_rotate_token", path = "/admin/v1/backends/{name}:rotate-token", tag = "backends", security(("admin_token" = ["backends:write"])),
    params(("name" = String, Path), Retry, Trial),
    responses((status = 200, description = "The backend, with another token", body = ChangedView<BackendView>)))]
pub(crate) async fn rotate_token(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::BackendsWrite).await?;
    let name = name(&desk)?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.optional_match(KIND, &name);
    desk.change(&caller, &body, "backend.rotate_token", async |connection, circumstances| {
        Ok(Done::from(backends::rotate_token(connection, circumstances, &name, &expected).await?))
    })
    .await
}

fn name(desk: &Desk) -> Result<BackendName, ApiError> {
    desk.segment("name", KIND)
}

fn parse_new(body: &NewBackendBody) -> Result<NewBackend, ApiError> {
    let mut invalid = Invalid::default();
    let name = invalid.parse_present("/name", body.name.as_deref());
    let alg = invalid.parse_present("/alg", body.alg.as_deref());
    let trust = invalid.parse_present("/trust", body.trust.as_deref());
    let min_live =
        invalid.present("/min_live", body.min_live).and_then(|least| parse_min_live(&mut invalid, least));
    match (name, alg, trust, min_live) {
        (Some(name), Some(alg), Some(trust), Some(min_live)) => Ok(NewBackend { name, alg, trust, min_live }),
        _ => Err(invalid.refuse()),
    }
}

fn parse_patch(body: BackendPatchBody) -> Result<BackendPatch, ApiError> {
    let mut invalid = Invalid::default();
    let min_live = invalid.not_null("/min_live", body.min_live);
    let patch = BackendPatch {
        alg: invalid.parse_patch("/alg", body.alg),
        trust: invalid.parse_patch("/trust", body.trust),
        min_live: min_live.and_then(|least| parse_min_live(&mut invalid, least)),
    };
    invalid.done()?;
    Ok(patch)
}

fn parse_min_live(invalid: &mut Invalid, least: i64) -> Option<i32> {
    invalid.number("/min_live", least, 0, MOST_PROCESSES)
}

const KIND: &str = "backend";
const MOST_PROCESSES: i64 = 1_000_000;
