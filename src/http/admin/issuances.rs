//! `/admin/v1/issuances`: the ledger of every token that left.

use actix_web::HttpResponse;

use super::described::Pages;
use super::desk::Desk;
use super::instances::IssuanceView;
use super::page::PageView;
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::Jti;
use crate::domain::key_ring::Kid;
use crate::http::error::ApiError;
use crate::storage::issued_tokens::{self, IssuanceFilter};

/// `GET /admin/v1/issuances`
#[utoipa::path(get, operation_id = "issuances_list", path = "/admin/v1/issuances", tag = "issuances", security(("admin_token" = ["audit:read"])),
    params(("jti" = inline(Option<uuid::Uuid>), Query, nullable = false, description = "As the token names itself"),
           ("instance_uid" = inline(Option<uuid::Uuid>), Query, nullable = false),
           ("kid" = inline(Option<String>), Query, nullable = false, description = "The key that signed"),
           ("issued_after" = inline(Option<chrono::DateTime<chrono::Utc>>), Query, nullable = false, description = "At this instant or later"),
           ("issued_before" = inline(Option<chrono::DateTime<chrono::Utc>>), Query, nullable = false, description = "Before this instant"),
           Pages),
    responses((status = 200, description = "A page of the tokens that left, latest first", body = PageView<IssuanceView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let mut query = desk.query();
    let filter = IssuanceFilter {
        jti: query.parse("jti"),
        instance_uid: query.parse("instance_uid"),
        kid: query.parse::<Kid>("kid"),
        issued_after: query.instant("issued_after"),
        issued_before: query.instant("issued_before"),
    };
    let page = desk.page(query)?;
    let rows = issued_tokens::list(&mut *desk.read().await?, &filter, page.after, page.fetch()).await?;
    page.answer(&desk, rows, |row| row.jti, |row| IssuanceView::from(row))
}

/// `GET /admin/v1/issuances/{jti}`
#[utoipa::path(get, operation_id = "issuances_read", path = "/admin/v1/issuances/{jti}", tag = "issuances", security(("admin_token" = ["audit:read"])),
    params(("jti" = uuid::Uuid, Path)),
    responses((status = 200, description = "What the token said; the token itself is kept nowhere", body = IssuanceView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let jti: Jti = desk.segment("jti", KIND)?;
    desk.query().done()?;
    let filter = IssuanceFilter { jti: Some(jti), ..IssuanceFilter::default() };
    let rows = issued_tokens::list(&mut *desk.read().await?, &filter, None, 1).await?;
    let found = rows.first().ok_or_else(|| ApiError::not_found(KIND))?;
    Ok(HttpResponse::Ok().json(IssuanceView::from(found)))
}

const KIND: &str = "issuance";
