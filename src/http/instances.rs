//! `/v1/instances`: an installation activates, rotates its secret, releases itself, and sees what is switched off.

pub(crate) mod reported;

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::authentication::{self, client_address, slow_down};
use super::body::Body;
use super::error::ApiError;
use super::idempotency::{Answer, IdempotencyKey};
use super::parameters::Invalid;
use super::problems;
use super::request_id::RequestId;
use super::time::WireTime;
use crate::activation::{
    self, Activation, ActivationError, ActivationProof, Bearer, Circumstances, ProofError, PublicKeyJwk,
    SwitchedOff,
};
use crate::app::App;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Deployment, InstanceKind};
use crate::domain::version::Version;
use crate::storage::{StorageError, subscriptions};

/// What an installation sends to be activated. Members that are not known here are ignored.
// No `Debug`: it holds a secret in clear.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct ActivationBody {
    activation_code: String,
    /// The id that the installation gave itself: a UUID.
    instance_id: String,
    hostname: String,
    version: String,
    /// `self_managed` or `dedicated`.
    deployment: String,
    /// `production`, `staging` or `development`. Left out it stays what it was, and is `production` at first.
    kind: Option<String>,
    /// An Ed25519 key that the installation authenticates with, in place of a secret.
    public_key: Option<PublicKeyJwk>,
    /// A compact JWS by that key (`typ: activation-proof+jwt`).
    proof: Option<String>,
}

/// What activation answers.
// No `Debug`: it holds a secret in clear.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ActivationView {
    instance_uid: uuid::Uuid,
    /// Shown here only. Missing for an installation with a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_secret: Option<String>,
    subscription: SubscriptionSummary,
    sync: SyncHint,
}

/// What the instance may know of the subscription behind its license.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SubscriptionSummary {
    license_type: String,
    starts_at: WireTime,
    ends_at: WireTime,
    seats: i32,
    trial: bool,
    time_zone: String,
}

/// When to sync.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SyncHint {
    interval_seconds: i64,
    refresh_after: WireTime,
}

/// `POST /v1/instances`
#[utoipa::path(post, path = "/v1/instances", tag = "instances", request_body = ActivationBody, security(()),
    responses((status = 201, description = "A new instance", body = ActivationView),
              (status = 200, description = "The same instance, activated again", body = ActivationView)))]
pub(crate) async fn activate(
    app: web::Data<App>,
    request: HttpRequest,
    id: RequestId,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let now = app.now();
    let address = client_address(&app, &request);
    app.failed_authentications.admit(address, None).map_err(slow_down)?;
    let bytes = &body.bytes;
    let body: ActivationBody = body.json()?;
    let Some(code) = Credential::parse(CredentialKind::ActivationCode, &body.activation_code) else {
        app.failed_authentications.failed(address, None);
        return Err(ApiError::unauthenticated(ACTIVATION_CHALLENGE));
    };
    let asked = parse(body, bytes, code, app.issuer(), now)?;
    let circumstances = Circumstances { now, grace: app.grace(), request_id: id.as_str() };
    let mut tx = app.database.begin().await?;
    let activated = match activation::activate(&mut tx, &app.keystore, asked, circumstances).await {
        Err(ActivationError::UnknownCode) => {
            app.failed_authentications.failed(address, None);
            return Err(ApiError::unauthenticated(ACTIVATION_CHALLENGE));
        }
        activated => activated?,
    };
    let subscription = subscriptions::find(&mut tx, activated.license.subscription_id).await?;
    let subscription = subscription.ok_or_else(|| ApiError::fault("a license without its subscription"))?;
    tx.commit().await.map_err(StorageError::from)?;
    let view = ActivationView {
        instance_uid: activated.uid.as_uuid(),
        instance_secret: activated.secret.map(|secret| secret.expose().to_owned()),
        subscription: SubscriptionSummary {
            license_type: subscription.license_type.to_string(),
            starts_at: WireTime(subscription.term.starts_at()),
            ends_at: WireTime(subscription.term.ends_at()),
            seats: subscription.seats,
            trial: subscription.trial,
            time_zone: subscription.time_zone.to_string(),
        },
        sync: SyncHint { interval_seconds: app.sync_interval().num_seconds(), refresh_after: WireTime(now) },
    };
    let mut response = if activated.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).json(view))
}

/// What an installation sends to register a key, in place of its secret or of another key. Nothing, for a new secret.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub(crate) struct CredentialBody {
    public_key: Option<PublicKeyJwk>,
    /// A compact JWS by the new key (`typ: activation-proof+jwt`), as at activation.
    proof: Option<String>,
}

/// A new credential.
// No `Debug`: it holds a secret in clear.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CredentialView {
    instance_uid: uuid::Uuid,
    /// Shown here only. The old one goes on until 7 days after the first use of this one. Missing where a key was
    /// registered, which holds from now on, alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_secret: Option<String>,
}

/// `POST /v1/instances/me/credential`
#[utoipa::path(post, path = "/v1/instances/me/credential", tag = "instances",
    params(("Idempotency-Key" = Option<String>, Header, nullable = false, min_length = 1, max_length = 255, description = "A retry with it gets the same secret again for 24 hours")),
    request_body(content = Option<CredentialBody>, content_type = "application/json"),
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 201, description = "A new secret, which the old one overlaps; or the key is registered", body = CredentialView)))]
pub(crate) async fn rotate_credential(
    app: web::Data<App>,
    request: HttpRequest,
    id: RequestId,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &body.bytes)?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    let uid = caller.facts.uid;
    let now = app.now();
    let key = IdempotencyKey::of(&request, &format!("instance:{}", uid.as_uuid()), &body.bytes)?;
    if let Some(key) = &key
        && let Some(answer) = key.claim(&mut tx, &app.keystore, now).await?
    {
        tx.commit().await.map_err(StorageError::from)?;
        return Ok(answer.respond(true));
    }
    let asked: CredentialBody = body.json_or_default()?;
    let mut invalid = Invalid::default();
    let (jwk, proof) = (asked.public_key.as_ref(), asked.proof.as_deref());
    let instance_id = Some(caller.facts.instance_id);
    let registered = parse_key(&mut invalid, jwk, proof, app.issuer(), instance_id, &body.bytes, now);
    invalid.done()?;
    let circumstances = Circumstances { now, grace: app.grace(), request_id: id.as_str() };
    let secret = match registered {
        Some(registered) => {
            activation::register_key(&mut tx, uid, &registered, caller.held_key(), circumstances).await?;
            None
        }
        None if caller.facts.public_key.is_some() => {
            let detail = "An instance with a registered key has no secret; send another `public_key` with its `proof`.";
            return Err(ApiError::refused(&problems::FORBIDDEN, detail));
        }
        None => Some(activation::rotate(&mut tx, &app.keystore, uid, circumstances).await?),
    };
    let instance_secret = secret.map(|secret| secret.expose().to_owned());
    let view = CredentialView { instance_uid: uid.as_uuid(), instance_secret };
    let answer = Answer {
        status: StatusCode::CREATED,
        etag: None,
        location: None,
        body: serde_json::to_vec(&view).map_err(ApiError::fault)?,
    };
    if let Some(key) = &key {
        key.keep(&mut tx, &app.keystore, &answer).await?;
    }
    tx.commit().await.map_err(StorageError::from)?;
    Ok(answer.respond(false))
}

/// What a release answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReceiptView {
    instance_uid: uuid::Uuid,
    state: &'static str,
    released_at: WireTime,
    /// Until then tokens may still be in use, and the place under the license is taken.
    place_held_until: Option<WireTime>,
    /// The same as a JWS (`typ: release-receipt+jwt`) by a key of the manifest for audit checkpoints; missing while no
    /// such key is active.
    receipt: Option<String>,
}

/// `DELETE /v1/instances/me`
#[utoipa::path(delete, path = "/v1/instances/me", tag = "instances",
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "The receipt", body = ReceiptView)))]
pub(crate) async fn release(
    app: web::Data<App>,
    request: HttpRequest,
    id: RequestId,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &body.bytes)?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    let circumstances = Circumstances { now: app.now(), grace: app.grace(), request_id: id.as_str() };
    let receipt = activation::release(&mut tx, caller.facts.uid, circumstances).await?;
    let environment = app.settings.environment.as_str();
    let kek = app.keystore.key_encryption();
    let signed = activation::sign_receipt(&mut tx, &**kek, environment, app.issuer(), &receipt).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok(HttpResponse::Ok().json(ReceiptView {
        instance_uid: receipt.uid.as_uuid(),
        state: "released",
        released_at: WireTime(receipt.released_at),
        place_held_until: receipt.place_held_until.map(WireTime),
        receipt: signed,
    }))
}

/// What an instance's administrator switched off.
#[derive(Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
pub(crate) struct AccessView {
    #[serde(default)]
    disabled_unit_primitives: Vec<String>,
    #[serde(default)]
    disabled_backends: Vec<String>,
}

/// `GET /v1/instances/me/access`
#[utoipa::path(get, path = "/v1/instances/me/access", tag = "instances",
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "What is switched off", body = AccessView)))]
pub(crate) async fn access(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &[])?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok(HttpResponse::Ok().json(AccessView::of(&switched_off(&caller))))
}

/// `PUT /v1/instances/me/access`
#[utoipa::path(put, path = "/v1/instances/me/access", tag = "instances", request_body = AccessView,
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "What is switched off from the next sync on", body = AccessView)))]
pub(crate) async fn replace_access(
    app: web::Data<App>,
    request: HttpRequest,
    id: RequestId,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &body.bytes)?;
    let asked = parse_access(&app, &body.json()?)?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    let circumstances = Circumstances { now: app.now(), grace: app.grace(), request_id: id.as_str() };
    let before = switched_off(&caller);
    activation::switch_off(&mut tx, caller.facts.uid, &before, &asked, circumstances).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok(HttpResponse::Ok().json(AccessView::of(&asked)))
}

impl AccessView {
    fn of(off: &SwitchedOff) -> Self {
        Self {
            disabled_unit_primitives: off.unit_primitives.iter().map(ToString::to_string).collect(),
            disabled_backends: off.backends.iter().map(ToString::to_string).collect(),
        }
    }
}

fn switched_off(caller: &authentication::KnownInstance) -> SwitchedOff {
    let standing = &caller.facts.situation.instance;
    SwitchedOff {
        unit_primitives: standing.disabled_unit_primitives.clone(),
        backends: standing.disabled_backends.clone(),
    }
}

/// Names that the catalog does not know are refused: a typo would leave something on.
fn parse_access(app: &App, body: &AccessView) -> Result<SwitchedOff, ApiError> {
    let current = app.catalog.load();
    let catalog = &current.catalog;
    let mut invalid = Invalid::default();
    let mut off = SwitchedOff { unit_primitives: BTreeSet::new(), backends: BTreeSet::new() };
    for (index, name) in body.disabled_unit_primitives.iter().enumerate() {
        // An alias switches off the primitive that it stands for.
        match name.parse().ok().and_then(|name| catalog.unit_primitive(&name)) {
            Some(primitive) => _ = off.unit_primitives.insert(primitive.name.clone()),
            None => invalid.add(
                &format!("/disabled_unit_primitives/{index}"),
                "unknown",
                "names no unit primitive",
            ),
        }
    }
    for (index, name) in body.disabled_backends.iter().enumerate() {
        match name.parse().ok().and_then(|name| catalog.backend(&name)) {
            Some(backend) => _ = off.backends.insert(backend.name.clone()),
            None => invalid.add(&format!("/disabled_backends/{index}"), "unknown", "names no backend"),
        }
    }
    invalid.done()?;
    Ok(off)
}

fn parse(
    body: ActivationBody,
    bytes: &[u8],
    code: Credential,
    issuer: &str,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Activation, ApiError> {
    let mut invalid = Invalid::default();
    let instance_id: Option<InstanceId> = invalid.parse("/instance_id", &body.instance_id);
    let hostname = invalid.text("/hostname", body.hostname, 255);
    let version: Option<Version> = invalid.parse("/version", &body.version);
    let deployment: Option<Deployment> = invalid.parse("/deployment", &body.deployment);
    let kind: Option<InstanceKind> = body.kind.as_deref().and_then(|kind| invalid.parse("/kind", kind));
    let (key, proof) = (body.public_key.as_ref(), body.proof.as_deref());
    let key = parse_key(&mut invalid, key, proof, issuer, instance_id, bytes, now);
    match (instance_id, hostname, version, deployment) {
        (Some(instance_id), Some(hostname), Some(version), Some(deployment)) => {
            invalid.done()?;
            Ok(Activation {
                code,
                instance_id,
                hostname,
                version,
                deployment,
                kind,
                key,
                bearer: Bearer::Secret,
            })
        }
        _ => Err(invalid.refuse()),
    }
}

/// A public key with the proof that its private half is held; `None` where there is none, or it does not do.
fn parse_key(
    invalid: &mut Invalid,
    key: Option<&PublicKeyJwk>,
    proof: Option<&str>,
    issuer: &str,
    instance_id: Option<InstanceId>,
    bytes: &[u8],
    now: chrono::DateTime<chrono::Utc>,
) -> Option<ActivationProof> {
    match (key, proof, instance_id) {
        (None, None, _) => None,
        (None, Some(_), _) => {
            invalid.add("/public_key", "missing", "a proof needs the public key that it is by");
            None
        }
        (Some(_), None, _) => {
            invalid.add("/proof", "missing", "a public key needs a proof that its private half is held");
            None
        }
        (Some(_), Some(_), None) => None,
        (Some(key), Some(proof), Some(instance_id)) => {
            match ActivationProof::check(key, proof, issuer, instance_id, bytes, now) {
                Ok(key) => Some(key),
                Err(error) => {
                    let pointer = if matches!(error, ProofError::Key(_)) { "/public_key" } else { "/proof" };
                    invalid.add(pointer, "invalid", error.to_string());
                    None
                }
            }
        }
    }
}

impl From<ActivationError> for ApiError {
    fn from(error: ActivationError) -> Self {
        match error {
            ActivationError::CapReached { cap } => Self::refused(
                &problems::INSTANCE_CAP_REACHED,
                format!("The license allows {cap} active instances of this kind, and all places are taken."),
            ),
            ActivationError::Keystore(error) => Self::fault(error),
            ActivationError::Mismatch => Self::refused(
                &problems::INSTANCE_MISMATCH,
                "An instance with this instance_id is active under another license.",
            ),
            ActivationError::NoLicenseKeys => Self::refused(
                &problems::FORBIDDEN,
                "This license gives no license keys (`legacy_bearer`); activate with a newer version.",
            ),
            ActivationError::ProofUsed => {
                let mut invalid = Invalid::default();
                invalid.add("/proof", "used", "was used before, with another request; make a new one");
                invalid.refuse()
            }
            ActivationError::Refused(obstacle) => obstacle.into(),
            ActivationError::Storage(error) => error.into(),
            ActivationError::UnknownCode => Self::unauthenticated(ACTIVATION_CHALLENGE),
            ActivationError::WrongKey => Self::refused(
                &problems::FORBIDDEN,
                "This instance activates again with its registered key only, or after an administrator allowed it.",
            ),
        }
    }
}

const ACTIVATION_CHALLENGE: &str = "ActivationCode realm=\"instances\"";
