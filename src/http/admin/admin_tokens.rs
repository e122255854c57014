//! `/admin/v1/admin-tokens`: who may use this API.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::change::{ChangedView, Done};
use super::described::{Match, Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::EmptyBody;
use super::page::PageView;
use super::resource::{Resource, one};
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::AdminTokenId;
use crate::fulfillment::admin_tokens::{self, NewAdminToken};
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::http::time::WireTime;
use crate::storage::admin_tokens::{self as rows, AdminTokenRow};

/// A token to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAdminTokenBody {
    /// Who is to use it: the audit names it.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    name: Option<String>,
    /// At least one, and none that you lack: `fulfillment:read`, `fulfillment:write`, `licenses:revoke`,
    /// `instances:write`, `backends:write`, `audit:read`, `admin_tokens:write`.
    #[schema(value_type = Vec<String>, min_items = 1)]
    scopes: Option<Vec<String>>,
    /// From this instant on it opens nothing; without, it lives until it is revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
}

/// A token, less its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AdminTokenView {
    id: uuid::Uuid,
    name: String,
    scopes: Vec<&'static str>,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    expires_at: Option<WireTime>,
    /// To the minute.
    last_used_at: Option<WireTime>,
    revoked_at: Option<WireTime>,
    created_at: WireTime,
}

impl Resource for AdminTokenRow {
    const KIND: &'static str = KIND;
    type View = AdminTokenView;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn revision(&self) -> i64 {
        admin_tokens::revision(self)
    }

    fn path(&self) -> String {
        format!("/admin/v1/admin-tokens/{}", self.id)
    }

    fn view(&self, seen: Seen) -> AdminTokenView {
        let is_expired = self.expires_at.is_some_and(|expires_at| expires_at <= seen.now);
        let state = match (self.revoked_at, is_expired) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "active",
        };
        AdminTokenView {
            id: self.id.as_uuid(),
            name: self.name.clone(),
            scopes: self.scopes.iter().map(|scope| scope.as_str()).collect(),
            state,
            expires_at: self.expires_at.map(WireTime),
            last_used_at: self.last_used_at.map(WireTime),
            revoked_at: self.revoked_at.map(WireTime),
            created_at: WireTime(self.created_at),
        }
    }
}

/// `POST /admin/v1/admin-tokens`
#[utoipa::path(post, operation_id = "admin_tokens_create", path = "/admin/v1/admin-tokens", tag = "admin tokens", security(("admin_token" = ["admin_tokens:write"])),
    request_body = NewAdminTokenBody, params(Retry, Trial),
    responses((status = 201, description = "The new token, with its secret", body = ChangedView<AdminTokenView>)))]
pub(crate) async fn create(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::AdminTokensWrite).await?;
    let new = parse_new(body.json()?)?;
    desk.change(&caller, &body, "admin_token.create", async |connection, circumstances| {
        let giver = Some(caller.scopes());
        let now = circumstances.clock.now();
        Ok(Done::from(admin_tokens::create(connection, circumstances.keystore, now, giver, new).await?))
    })
    .await
}

/// `GET /admin/v1/admin-tokens`
#[utoipa::path(get, operation_id = "admin_tokens_list", path = "/admin/v1/admin-tokens", tag = "admin tokens", security(("admin_token" = ["admin_tokens:write"])), params(Pages),
    responses((status = 200, description = "A page of tokens, in the order in which they were made", body = PageView<AdminTokenView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AdminTokensWrite).await?;
    let page = desk.page(desk.query())?;
    let rows = rows::list(&mut *desk.read().await?, page.after, page.fetch()).await?;
    page.of(&desk, rows, |row| row.id)
}

/// `GET /admin/v1/admin-tokens/{id}`
#[utoipa::path(get, operation_id = "admin_tokens_read", path = "/admin/v1/admin-tokens/{id}", tag = "admin tokens", security(("admin_token" = ["admin_tokens:write"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The token, less its secret", body = AdminTokenView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AdminTokensWrite).await?;
    let id = desk.id("admin token")?;
    desk.query().done()?;
    one(&desk, rows::find(&mut *desk.read().await?, id).await?, "admin token")
}

/// `DELETE /admin/v1/admin-tokens/{id}`
#[utoipa::path(delete, operation_id = "admin_tokens_revoke", path = "/admin/v1/admin-tokens/{id}", tag = "admin tokens", security(("admin_token" = ["admin_tokens:write"])),
    params(("id" = uuid::Uuid, Path), Match, Trial),
    responses((status = 200, description = "The token, revoked for good and remembered", body = ChangedView<AdminTokenView>)))]
pub(crate) async fn revoke(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::AdminTokensWrite).await?;
    let id: AdminTokenId = desk.id("admin token")?;
    let EmptyBody {} = body.json_or_default()?;
    let expected = desk.required_match(KIND, id)?;
    desk.change(&caller, &body, "admin_token.revoke", async |connection, circumstances| {
        Ok(Done::from(admin_tokens::revoke(connection, circumstances, id, &expected).await?))
    })
    .await
}

fn parse_new(body: NewAdminTokenBody) -> Result<NewAdminToken, ApiError> {
    let mut invalid = Invalid::default();
    let name = invalid.present("/name", body.name).and_then(|name| invalid.name("/name", name));
    let named = invalid.present("/scopes", body.scopes).unwrap_or_default();
    let mut scopes = Vec::with_capacity(named.len());
    for (index, scope) in named.iter().enumerate() {
        scopes.extend(invalid.parse::<AdminScope>(&format!("/scopes/{index}"), scope));
    }
    let expires_at = body.expires_at.and_then(|text| invalid.instant("/expires_at", &text));
    let Some(name) = name else { return Err(invalid.refuse()) };
    invalid.done()?;
    if scopes.is_empty() {
        let mut invalid = Invalid::default();
        invalid.add("/scopes", "out_of_range", "must name at least one scope");
        return Err(invalid.refuse());
    }
    Ok(NewAdminToken { name, scopes, expires_at })
}

const KIND: &str = "admin_token";
