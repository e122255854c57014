//! What clients and verifiers discover of the authorization server (RFC 8414 §2).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::key_sets::{CHANGES, cached};

/// The authorization server, as standard clients find it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuthorizationServerView {
    pub(crate) issuer: String,
    pub(crate) token_endpoint: String,
    pub(crate) jwks_uri: String,
    pub(crate) grant_types_supported: [&'static str; 1],
    /// There is no authorization endpoint; the standard wants the member all the same.
    pub(crate) response_types_supported: [&'static str; 1],
    pub(crate) token_endpoint_auth_methods_supported: [&'static str; 2],
    pub(crate) token_endpoint_auth_signing_alg_values_supported: [&'static str; 2],
    pub(crate) service_documentation: String,
}

impl AuthorizationServerView {
    pub(crate) fn new(app: &App) -> Self {
        let issuer = app.issuer();
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: format!("{issuer}/oauth/token"),
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            grant_types_supported: ["client_credentials"],
            response_types_supported: ["token"],
            token_endpoint_auth_methods_supported: ["private_key_jwt", "client_secret_basic"],
            token_endpoint_auth_signing_alg_values_supported: ["EdDSA", "Ed25519"],
            service_documentation: format!("{issuer}/docs"),
        }
    }
}

/// `GET /.well-known/oauth-authorization-server`
#[utoipa::path(get, operation_id = "oauth_metadata", path = "/.well-known/oauth-authorization-server", tag = "public", security(()),
    responses((status = 200, description = "The authorization server (RFC 8414)", body = AuthorizationServerView)))]
pub(crate) async fn read(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let json = serde_json::to_string(&AuthorizationServerView::new(&app)).map_err(ApiError::fault)?;
    Ok(cached(&request, CHANGES, json))
}
