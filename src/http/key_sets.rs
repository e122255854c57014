//! Public keys: what is published now, and every key set that ever was.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use token_authority_verifier::Digest;

use super::caching;
use super::error::ApiError;
use super::oauth::AuthorizationServerView;
use super::time::WireTime;
use crate::app::App;
use crate::domain::key_ring::Algorithm;
use crate::rotation::overview;
use crate::storage::key_rings;
use crate::storage::key_sets::{self, StoredKeySet};

/// Every key set of this environment, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeySetList {
    items: Vec<KeySetItem>,
    /// The newest version.
    head: u32,
    /// The lowest version with which a process may start.
    floor: u32,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeySetItem {
    version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    digest: String,
    created: WireTime,
}

/// One key set. What `manifest` and `jwks` hold is, byte for byte, what was published.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what is written from the published bytes")]
pub(crate) struct KeySetDocument {
    version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    digest: String,
    /// JWS in General JSON Serialization (RFC 7515 §7.2.1), signed by the root.
    #[schema(value_type = Object)]
    manifest: serde_json::Value,
    /// The access-token keys (RFC 7517 §5).
    #[schema(value_type = Object)]
    jwks: serde_json::Value,
}

/// Every version of the root, oldest first.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what is written from the published bytes")]
pub(crate) struct RootList {
    items: Vec<RootItem>,
}

/// One version of the root. What `root` holds is, byte for byte, what was published.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what is written from the published bytes")]
pub(crate) struct RootItem {
    version: u32,
    /// Of what its keys have signed: the name by which backends trust it.
    digest: String,
    /// JWS in General JSON Serialization (RFC 7515 §7.2.1).
    #[schema(value_type = Object)]
    root: serde_json::Value,
}

/// What discovery tells a verifier that does not embed its keys (OpenID Connect Discovery 1.0 §3).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DiscoveryDocument {
    #[serde(flatten)]
    server: AuthorizationServerView,
    id_token_signing_alg_values_supported: Vec<&'static str>,
    subject_types_supported: Vec<&'static str>,
}

/// `GET /.well-known/jwks.json`, and the same at `/oauth/discovery/keys`
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "public", security(()),
    responses((status = 200, description = "The access-token keys that are published now (RFC 7517 §5)", body = serde_json::Value)))]
pub(crate) async fn published_now(
    request: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let jwks = overview::published_now(&mut connection, app.settings.environment.as_str()).await?;
    Ok(cached(&request, CHANGES, jwks))
}

/// `GET /.well-known/openid-configuration`
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "public", security(()),
    responses((status = 200, description = "Where the keys are", body = DiscoveryDocument)))]
pub(crate) async fn discovery(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let algs = overview::published_algs(&mut connection, app.settings.environment.as_str()).await?;
    let document = DiscoveryDocument {
        server: AuthorizationServerView::new(&app),
        id_token_signing_alg_values_supported: algs.into_iter().map(Algorithm::as_str).collect(),
        subject_types_supported: vec!["public"],
    };
    Ok(cached(&request, CHANGES, serde_json::to_string(&document).map_err(ApiError::fault)?))
}

/// `GET /v1/key-sets`
#[utoipa::path(get, path = "/v1/key-sets", tag = "public", security(()),
    responses((status = 200, description = "Every key set, oldest first", body = KeySetList)))]
pub(crate) async fn list(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let environment = app.settings.environment.as_str();
    let summaries = key_sets::list(&mut connection, environment).await?;
    let floor = key_rings::find_floor(&mut connection, environment).await?.unwrap_or(0);
    let head = summaries.last().map_or(0, |summary| summary.version);
    let items = summaries.into_iter().map(|summary| KeySetItem {
        version: summary.version,
        digest: summary.jwks_digest.to_string(),
        created: summary.created_at.into(),
    });
    let list = KeySetList { items: items.collect(), head, floor };
    Ok(cached(&request, CHANGES, serde_json::to_string(&list).map_err(ApiError::fault)?))
}

/// `GET /v1/key-sets/latest`
#[utoipa::path(get, path = "/v1/key-sets/latest", tag = "public", security(()),
    responses((status = 200, description = "The newest key set", body = KeySetDocument),
              (status = 404, description = "None was published yet")))]
pub(crate) async fn latest(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let key_set = key_sets::find_latest(&mut connection, app.settings.environment.as_str()).await?;
    let key_set = key_set.ok_or_else(|| ApiError::not_found("key set"))?;
    Ok(cached(&request, CHANGES, document(&key_set)?))
}

/// `GET /v1/key-sets/{version}`
#[utoipa::path(get, path = "/v1/key-sets/{version}", tag = "public", security(()),
    params(("version" = u32, Path, description = "A number, which never changes its meaning")),
    responses((status = 200, description = "That key set", body = KeySetDocument),
              (status = 404, description = "No such version was published")))]
pub(crate) async fn by_version(
    request: HttpRequest,
    app: web::Data<App>,
    version: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let not_found = || ApiError::not_found("key set");
    // One spelling per version: `07` is none.
    let number: u32 =
        version.parse().ok().filter(|number: &u32| number.to_string() == **version).ok_or_else(not_found)?;
    let mut connection = app.database.begin().await?;
    let key_set = key_sets::find(&mut connection, app.settings.environment.as_str(), number).await?;
    Ok(cached(&request, NEVER_CHANGES, document(&key_set.ok_or_else(not_found)?)?))
}

/// `GET /v1/roots`
///
/// For those who embed a key set: from the root that they trust, each next one is signed by the one before it. A
/// root that comes from here is worth nothing without a digest that comes from elsewhere.
#[utoipa::path(get, path = "/v1/roots", tag = "public", security(()),
    responses((status = 200, description = "Every version of the root, oldest first", body = RootList)))]
pub(crate) async fn roots(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let mut connection = app.database.begin().await?;
    let roots = key_sets::list_roots(&mut connection, app.settings.environment.as_str()).await?;
    let mut items = Vec::with_capacity(roots.len());
    for root in &roots {
        let file = std::str::from_utf8(&root.file).map_err(ApiError::fault)?;
        items.push(format!(r#"{{"version":{},"digest":"{}","root":{file}}}"#, root.version, root.digest));
    }
    Ok(cached(&request, CHANGES, format!(r#"{{"items":[{}]}}"#, items.join(","))))
}

/// The published bytes stand in it as they are, so that a reader can take them out and digest them.
fn document(key_set: &StoredKeySet) -> Result<String, ApiError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(ApiError::fault);
    Ok(format!(
        r#"{{"version":{},"digest":"{}","manifest":{},"jwks":{}}}"#,
        key_set.version,
        key_set.jwks_digest,
        text(&key_set.manifest)?,
        text(&key_set.jwks)?,
    ))
}

// As long as `rotation::JWKS_MAX_AGE` says: the gate counts on it.
pub(crate) const CHANGES: &str = "public, max-age=300";
const NEVER_CHANGES: &str = "public, max-age=31536000, immutable";

/// A JSON answer under the digest of its bytes.
pub(crate) fn cached(request: &HttpRequest, cache_control: &'static str, json: String) -> HttpResponse {
    let digest = Digest::of(json.as_bytes()).to_string();
    caching::cached(request, &digest, cache_control, json)
}
