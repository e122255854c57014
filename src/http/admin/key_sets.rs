//! `/admin/v1/key-sets`: every key set that was published, with the chain that proves it.

use actix_web::HttpResponse;
use serde::Serialize;
use serde_json::Value;

use super::described::Pages;
use super::desk::Desk;
use super::page::PageView;
use crate::domain::admin_scope::AdminScope;
use crate::http::error::ApiError;
use crate::http::time::WireTime;
use crate::storage::key_sets;

/// A key set in the list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeySetSummaryView {
    version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    digest: String,
    created_at: WireTime,
}

/// A key set with what proves it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeySetView {
    version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    digest: String,
    /// Of what the root signed; the next version names it as `prev`.
    manifest_digest: String,
    /// `null` for version 1.
    prev: Option<String>,
    root_version: u32,
    created_at: WireTime,
    /// As it was published, with its signatures.
    #[schema(value_type = Object)]
    manifest: Value,
    /// As it was published (RFC 7517 §5).
    #[schema(value_type = Object)]
    jwks: Value,
}

/// `GET /admin/v1/key-sets`
#[utoipa::path(get, operation_id = "key_sets_admin_list", path = "/admin/v1/key-sets", tag = "keys", security(("admin_token" = ["audit:read"])), params(Pages),
    responses((status = 200, description = "A page of key sets, oldest first", body = PageView<KeySetSummaryView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let page = desk.page::<u32>(desk.query())?;
    let environment = desk.app.settings.environment.as_str();
    let mut summaries = key_sets::list(&mut *desk.read().await?, environment).await?;
    summaries.retain(|summary| page.after.is_none_or(|after| summary.version > after));
    summaries.truncate(usize::try_from(page.fetch()).map_err(ApiError::fault)?);
    page.answer(
        &desk,
        summaries,
        |summary| summary.version,
        |summary| KeySetSummaryView {
            version: summary.version,
            digest: summary.jwks_digest.to_string(),
            created_at: WireTime(summary.created_at),
        },
    )
}

/// `GET /admin/v1/key-sets/{version}`
#[utoipa::path(get, operation_id = "key_sets_admin_read", path = "/admin/v1/key-sets/{version}", tag = "keys", security(("admin_token" = ["audit:read"])),
    params(("version" = u32, Path)),
    responses((status = 200, description = "The key set", body = KeySetView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let version = desk.segment("version", KIND)?;
    desk.query().done()?;
    let environment = desk.app.settings.environment.as_str();
    let found = key_sets::find(&mut *desk.read().await?, environment, version).await?;
    let found = found.ok_or_else(|| ApiError::not_found(KIND))?;
    Ok(HttpResponse::Ok().json(KeySetView {
        version: found.version,
        digest: found.jwks_digest.to_string(),
        manifest_digest: found.payload_digest.to_string(),
        prev: found.prev.map(|digest| digest.to_string()),
        root_version: found.root_version,
        created_at: WireTime(found.created_at),
        manifest: serde_json::from_slice(&found.manifest).map_err(ApiError::fault)?,
        jwks: serde_json::from_slice(&found.jwks).map_err(ApiError::fault)?,
    }))
}

const KIND: &str = "key set";
