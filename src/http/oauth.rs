//! `POST /oauth/token`: tokens by the client credentials grant (RFC 6749 §4.4), for clients that speak plain OAuth.
//!
//! It is a sync that asks for one backend: the same decision, the same record, the same keys.

mod answer;
mod client;
pub(crate) mod metadata;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use url::form_urlencoded;

pub(crate) use self::metadata::AuthorizationServerView;

use self::answer::{TokenError, TokenErrorView, TokenView};
use self::client::Client;
use super::body::Body;
use super::error::ApiError;
use crate::app::App;
use crate::domain::catalog::{BackendName, Catalog, UnitPrimitiveName};
use crate::issuing::{SyncAnswer, SyncError, SyncRequest, TokenForm};

/// What a client sends, as `application/x-www-form-urlencoded`.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "described here, read parameter by parameter")]
pub(crate) struct TokenRequestForm {
    /// `client_credentials`
    grant_type: String,
    /// The one backend that the token is for (RFC 8707): its audience, or its name in the catalog.
    resource: Option<String>,
    /// The same under another common name.
    audience: Option<String>,
    /// Unit primitives, separated by spaces: these alone. Each must be granted.
    scope: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`
    client_assertion_type: Option<String>,
    /// By the instance's registered key (RFC 7523 §2.2): `iss` and `sub` its uid, `aud` exactly the issuer.
    client_assertion: Option<String>,
    /// The instance's uid; may be left out.
    client_id: Option<String>,
}

/// `POST /oauth/token`
#[utoipa::path(post, operation_id = "oauth_token", path = "/oauth/token", tag = "instances",
    request_body(content = TokenRequestForm, content_type = "application/x-www-form-urlencoded"),
    security(("instance_secret" = []), ()),
    responses((status = 200, description = "A token for the backend (RFC 6749 §5.1)", body = TokenView<'_>),
              (status = 400, description = "Refused (RFC 6749 §5.2): `invalid_request`, `invalid_scope`, `invalid_target`, `unauthorized_client`, `unsupported_grant_type`", body = TokenErrorView<'_>),
              (status = 401, description = "`invalid_client`", body = TokenErrorView<'_>)))]
pub(crate) async fn token(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    match issue(&app, &request, &body).await {
        Ok(answer) => answer::granted(&answer),
        Err(Refused::Token(error)) => Ok(error.respond(&app)),
        Err(Refused::Api(error)) => Err(error),
    }
}

/// A refusal in the words of RFC 6749, or what that has no words for.
enum Refused {
    Api(ApiError),
    Token(TokenError),
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

async fn issue(app: &App, request: &HttpRequest, body: &Body) -> Result<SyncAnswer, Refused> {
    // 1. The parameters, from the body alone: what stands in an address ends up in logs.
    if !request.query_string().is_empty() {
        return Err(TokenError::invalid_request("Parameters go in the body, never in the address.").into());
    }
    let form = Form::read(request, &body.bytes)?;
    match form.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => return Err(TokenError::unsupported_grant_type().into()),
        None => return Err(TokenError::invalid_request("`grant_type` is missing.").into()),
    }

    // 2. Who asks.
    let client = Client::read(app, request, &form, &body.bytes)?;

    // 3. For which backend, and what of it.
    let current = app.catalog.load();
    let backend = form.backend(&current.catalog)?;
    let scopes = form.scopes()?;

    // 4. A sync for it.
    let asked = SyncRequest {
        caller: client.proof.clone(),
        version: None,
        hostname: None,
        usage: None,
        backends: Some(vec![backend]),
        scopes,
        form: TokenForm::Joint { lifetime: app.token_lifetime() },
        explain: false,
        line: None,
        idempotency: None,
    };
    match app.issuing.sync(asked).await {
        Ok(answer) if answer.tokens.is_empty() => {
            Err(TokenError::invalid_scope("Nothing is granted at this backend.").into())
        }
        Ok(answer) => Ok(answer),
        Err(SyncError::Unauthenticated) => Err(client.fail(app).into()),
        Err(SyncError::Refused(obstacle)) => Err(TokenError::unauthorized_client(obstacle).into()),
        Err(SyncError::NotGranted(scope)) => {
            Err(TokenError::invalid_scope(format!("`{scope}` is not granted at this backend.")).into())
        }
        Err(SyncError::Unavailable(why)) => Err(Refused::Api(ApiError::unavailable(why))),
        Err(SyncError::Fault(source)) => Err(Refused::Api(ApiError::fault(source))),
    }
}

/// The parameters, each once (RFC 6749 §3.2). Empty ones count as left out (§3.1).
struct Form(Vec<(String, String)>);

impl Form {
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, TokenError> {
        let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = given.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(TokenError::invalid_request("The body must be application/x-www-form-urlencoded."));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(if name == "resource" || name == "audience" {
                    TokenError::invalid_target("A token is for one backend; ask for each on its own.")
                } else {
                    TokenError::invalid_request("A parameter came twice.")
                });
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        pairs.retain(|(_, value)| !value.is_empty());
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The backend that `resource` or `audience` names, by its audience or its name.
    fn backend(&self, catalog: &Catalog) -> Result<BackendName, TokenError> {
        let named = match (self.get("resource"), self.get("audience")) {
            (Some(one), Some(other)) if one != other => {
                return Err(TokenError::invalid_target("`resource` and `audience` name different backends."));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => {
                return Err(TokenError::invalid_target("`resource` or `audience` must name the backend."));
            }
        };
        let known = catalog
            .backends()
            .iter()
            .find(|backend| backend.audience == named || backend.name.as_str() == named);
        known
            .map(|backend| backend.name.clone())
            .ok_or_else(|| TokenError::invalid_target("There is no such backend."))
    }

    fn scopes(&self) -> Result<Option<Vec<UnitPrimitiveName>>, TokenError> {
        let Some(scope) = self.get("scope") else { return Ok(None) };
        let parse = |name: &str| {
            name.parse().map_err(|_| TokenError::invalid_scope("A scope is the name of a unit primitive."))
        };
        scope.split(' ').filter(|name| !name.is_empty()).map(parse).collect::<Result<_, _>>().map(Some)
    }
}
