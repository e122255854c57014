//! What the token endpoint answers: RFC 6749 §5.1 and §5.2.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, PRAGMA, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::app::App;
use crate::domain::entitlement::Obstacle;
use crate::http::error::ApiError;
use crate::issuing::SyncAnswer;

/// A token (RFC 6749 §5.1).
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TokenView<'a> {
    access_token: &'a str,
    /// `Bearer`
    token_type: &'static str,
    /// In seconds.
    expires_in: i64,
    /// The unit primitives in it, separated by spaces.
    scope: String,
}

/// A refusal (RFC 6749 §5.2).
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TokenErrorView<'a> {
    /// One of the standard's codes.
    error: &'static str,
    error_description: &'a str,
    /// A page on cause and remedy, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_uri: Option<String>,
}

/// A refusal in the standard's words.
#[derive(Debug)]
pub(super) struct TokenError {
    error: &'static str,
    description: Cow<'static, str>,
    /// The code of ours that says more.
    problem: Option<&'static str>,
}

impl TokenError {
    pub(super) fn invalid_request(description: &'static str) -> Self {
        Self::new("invalid_request", description)
    }

    /// The same for every reason.
    pub(super) fn invalid_client() -> Self {
        let description = "The client's credential is missing, wrong or expired.";
        Self { problem: Some("unauthenticated"), ..Self::new("invalid_client", description) }
    }

    pub(super) fn invalid_scope(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_scope", description)
    }

    /// RFC 8707 §2.
    pub(super) fn invalid_target(description: &'static str) -> Self {
        Self::new("invalid_target", description)
    }

    /// Known, but not allowed: the license, the subscription or the instance stands against it.
    pub(super) fn unauthorized_client(obstacle: Obstacle) -> Self {
        Self { problem: Some(obstacle.code()), ..Self::new("unauthorized_client", obstacle.detail()) }
    }

    pub(super) fn unsupported_grant_type() -> Self {
        Self::new("unsupported_grant_type", "The grant here is client_credentials.")
    }

    fn new(error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self { error, description: description.into(), problem: None }
    }

    pub(super) fn respond(&self, app: &App) -> HttpResponse {
        let is_client = self.error == "invalid_client";
        let status = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = HttpResponse::build(status);
        response.insert_header((CACHE_CONTROL, "no-store")).insert_header((PRAGMA, "no-cache"));
        if is_client {
            response.insert_header((WWW_AUTHENTICATE, "Basic realm=\"instances\", charset=\"UTF-8\""));
        }
        response.json(TokenErrorView {
            error: self.error,
            error_description: &self.description,
            error_uri: self.problem.map(|code| format!("{}/problems/{code}", app.issuer())),
        })
    }
}

/// The one token of the answer.
pub(super) fn granted(answer: &SyncAnswer) -> Result<HttpResponse, ApiError> {
    let issued = answer.tokens.first().ok_or_else(|| ApiError::fault("an answer without its token"))?;
    let primitives = answer.catalog.catalog.unit_primitives();
    let scopes: Vec<&str> = issued.scopes.iter().map(|scope| primitives[*scope].name.as_str()).collect();
    let view = TokenView {
        access_token: &issued.token,
        token_type: "Bearer",
        expires_in: (issued.expires_at - answer.synced_at).num_seconds(),
        scope: scopes.join(" "),
    };
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((PRAGMA, "no-cache"))
        .json(view))
}
