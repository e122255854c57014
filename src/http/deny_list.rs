//! `GET /v1/deny-list`: what is denied between two builds, signed.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use super::error::ApiError;
use crate::app::App;
use crate::storage::deny_lists;

/// `GET /v1/deny-list`
#[utoipa::path(get, operation_id = "deny_list_read", path = "/v1/deny-list", tag = "public", security(()),
    responses((status = 200, description = "The deny list: a compact JWS (RFC 7515 §7.1) with `typ` `deny-list+jws`",
               content_type = "application/jose", body = String),
              (status = 404, description = "None was signed yet")))]
pub(crate) async fn read(app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let latest = deny_lists::find_latest(&mut connection, app.settings.environment.as_str()).await?;
    let latest = latest.ok_or_else(|| ApiError::not_found("deny list"))?;
    Ok(HttpResponse::Ok()
        // Who asks wants to know now; the list is small.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("ETag", format!("\"{}-{}\"", latest.serial, latest.created_at.timestamp())))
        .content_type("application/jose")
        .body(latest.jws))
}
