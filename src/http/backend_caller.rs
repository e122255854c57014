//! Lets a backend pass by its token (`tab_…`), for what concerns itself.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use sqlx::PgConnection;

use super::authentication::{client_address, slow_down};
use super::error::ApiError;
use super::problems;
use crate::app::App;
use crate::domain::catalog::BackendName;
use crate::domain::credential::{Credential, CredentialKind};
use crate::storage::backends::{self, BackendRow};
use crate::telemetry::metric_names::AUTHENTICATION_FAILURES;

/// The backend that the path names, if the request brings its token. Comes before anything of the
/// request is parsed.
///
/// # Errors
/// 401, the same for every reason; 403 for another backend's token; 429 where too many failed before.
pub(crate) async fn admit(
    app: &App,
    connection: &mut PgConnection,
    request: &HttpRequest,
) -> Result<BackendRow, ApiError> {
    let address = client_address(app, request);
    app.failed_authentications.admit(address, None).map_err(slow_down)?;
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    // What was never handed out is not looked for.
    let token = token.and_then(|(_, token)| Credential::parse(CredentialKind::BackendToken, token.trim()));
    let found = match token {
        Some(token) => backends::find_by_token_digest(connection, &app.keystore.digest(&token)).await?,
        None => None,
    };
    let Some(backend) = found else {
        if header.is_some() {
            app.failed_authentications.failed(address, None);
            metrics::counter!(AUTHENTICATION_FAILURES, "surface" => "backends").increment(1);
        }
        return Err(ApiError::unauthenticated(CHALLENGE));
    };
    let named: Option<BackendName> = request.match_info().get("name").and_then(|name| name.parse().ok());
    if named.as_ref() != Some(&backend.name) {
        return Err(ApiError::refused(&problems::FORBIDDEN, "This token is another backend's."));
    }
    Ok(backend)
}

const CHALLENGE: &str = "Bearer realm=\"backends\"";
