//! `POST /v1/sync`: an instance asks for its tokens.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::authentication;
use super::body::{Body, holds_nul};
use super::entitlements::{CatalogView, EntitlementView};
use super::error::ApiError;
use super::parameters::Invalid;
use super::time::WireTime;
use crate::app::App;
use crate::domain::version::Version;
use crate::issuing::{self, CallerProof, SyncAnswer, SyncError, SyncRequest, TokenForm};

/// What an instance sends. Members that are not known here are ignored: a new instance
/// may speak to an old service.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct SyncBody {
    /// The version that the instance runs, such as `17.6.1`.
    version: String,
    hostname: Option<String>,
    /// What the instance reports of its use; kept, and never part of a decision.
    #[schema(value_type = Option<Object>)]
    usage: Option<serde_json::Map<String, serde_json::Value>>,
    /// Tokens for these backends only; unknown names are ignored.
    backends: Option<Vec<String>>,
    /// Whether to answer why each unit primitive is granted or not.
    explain: Option<bool>,
    /// Takes part in telling copies of an installation apart: `null` the first time, then the `sync_value` of the last
    /// answer that arrived.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    sync_value: Option<Option<String>>,
}

/// The tokens of an instance, and when to come again.
// No `Debug`: it holds tokens.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct SyncView<'a> {
    instance_uid: uuid::Uuid,
    synced_at: WireTime,
    /// Sync again at this instant: spread per instance, before anything ends.
    refresh_after: WireTime,
    /// How many syncs in a row may fail before a token runs out that a sync would have kept alive.
    missable_syncs: i64,
    /// The earliest instant at which what is granted changes by itself.
    next_change_at: Option<WireTime>,
    /// Bring it along the next time. There for whoever sends the member.
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_value: Option<&'a str>,
    /// Two installations use this identity; both go on until an administrator decides.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    identity_contested: bool,
    /// Sorted by backend.
    #[serde(borrow)]
    tokens: Vec<TokenView<'a>>,
    /// Backends that host something granted and get no token now; not there when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withheld: Vec<WithheldView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entitlements: Option<Vec<EntitlementView>>,
    catalog: CatalogView,
    key_set: KeySetView,
}

/// One token for one backend.
// No `Debug`: it holds a token.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct TokenView<'a> {
    backend: &'a str,
    audience: &'a str,
    token: &'a str,
    expires_at: WireTime,
    unit_primitives: Vec<&'a str>,
}

/// A backend that gets no token now, although something that it hosts is granted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct WithheldView<'a> {
    backend: &'a str,
    /// `no_signing_key`: none may sign with the algorithm that this backend verifies.
    code: &'static str,
    detail: String,
    remedy: &'static str,
}

/// The newest key set.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeySetView {
    version: Option<i64>,
}

/// `POST /v1/sync`
#[utoipa::path(post, path = "/v1/sync", tag = "instances", request_body = SyncBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Keeps the tokens of an identical sync for 10 minutes")),
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "The tokens of each backend, and when to come again", body = SyncView<'_>)))]
pub(crate) async fn sync(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &body.bytes)?;
    let key = request.headers().get("idempotency-key");
    let idempotency = key.map(|key| digest_of_key(key.as_bytes()));
    let asked = parse(&app, body.json()?, claimed.proof.clone(), idempotency)?;
    match app.issuing.sync(asked).await {
        Ok(answer) => reply(&answer),
        Err(SyncError::Unauthenticated) => Err(claimed.fail(&app)),
        Err(SyncError::Refused(obstacle)) => Err(obstacle.into()),
        // Nothing here names scopes; what cannot be asked for is not refused either.
        Err(error @ SyncError::NotGranted(_)) => Err(ApiError::fault(error)),
        Err(SyncError::Unavailable(why)) => Err(ApiError::unavailable(why)),
        Err(SyncError::Fault(source)) => Err(ApiError::fault(source)),
    }
}

fn parse(
    app: &App,
    body: SyncBody,
    caller: CallerProof,
    idempotency: Option<[u8; 16]>,
) -> Result<SyncRequest, ApiError> {
    let mut invalid = Invalid::default();
    let version: Option<Version> = invalid.parse("/version", &body.version);
    let hostname = body.hostname.and_then(|hostname| invalid.text("/hostname", hostname, 255));
    if body.usage.as_ref().is_some_and(|usage| usage.iter().any(|(name, value)| holds_nul(name, value))) {
        invalid.add("/usage", "invalid", "must not contain the character U+0000");
    }
    let Some(version) = version else { return Err(invalid.refuse()) };
    invalid.done()?;
    // A name that no backend can have names none: it is ignored like any unknown one.
    let backends = body.backends.map(|names| names.iter().filter_map(|name| name.parse().ok()).collect());
    let line = body.sync_value.map(|text| issuing::brought(&app.keystore, caller.uid(), text.as_deref()));
    Ok(SyncRequest {
        caller,
        version: Some(version),
        hostname,
        usage: body.usage.map(serde_json::Value::Object),
        backends,
        scopes: None,
        form: TokenForm::PerBackend,
        explain: body.explain.unwrap_or(false),
        line,
        idempotency,
    })
}

/// A member that is there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn reply(answer: &SyncAnswer) -> Result<HttpResponse, ApiError> {
    let catalog = &answer.catalog.catalog;
    let tokens = answer.tokens.iter().map(|issued| {
        let backend = &catalog.backends()[issued.backend];
        TokenView {
            backend: backend.name.as_str(),
            audience: &backend.audience,
            token: &issued.token,
            expires_at: WireTime(issued.expires_at),
            unit_primitives: issued
                .scopes
                .iter()
                .map(|scope| catalog.unit_primitives()[*scope].name.as_str())
                .collect(),
        }
    });
    let withheld = answer.withheld.iter().map(|withheld| WithheldView {
        backend: catalog.backends()[withheld.backend].name.as_str(),
        code: "no_signing_key",
        detail: format!("No {} key may sign right now.", withheld.alg),
        remedy: "Go on with the token that you hold, and sync again at refresh_after.",
    });
    let explained = answer.explained.as_deref();
    let view = SyncView {
        instance_uid: answer.instance_uid.as_uuid(),
        synced_at: WireTime(answer.synced_at),
        refresh_after: WireTime(answer.schedule.refresh_after),
        missable_syncs: answer.schedule.missable_syncs,
        next_change_at: answer.next_change_at.map(WireTime),
        sync_value: answer.sync_value.as_deref(),
        identity_contested: answer.is_contested,
        tokens: tokens.collect(),
        withheld: withheld.collect(),
        entitlements: explained
            .map(|(situation, decision)| EntitlementView::all(catalog, situation, decision)),
        catalog: CatalogView { digest: catalog.digest().as_str().to_owned() },
        key_set: KeySetView { version: answer.key_set_version },
    };
    let body = serde_json::to_vec(&view).map_err(ApiError::fault)?;
    // Tokens are credentials: no cache may keep them (RFC 6749 §5.1).
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("application/json")
        .body(body))
}

/// Kept in the ledger in place of the key, whose length the caller chooses.
fn digest_of_key(key: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(key)[..16]);
    digest
}
