//! `/v1/backends/{name}/…`: the processes of a backend report themselves and prove their keys.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use metrics::counter;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::backend_caller;
use super::body::Body;
use super::error::{ApiError, InvalidValue};
use super::parameters::Invalid;
use super::problems;
use crate::app::App;
use crate::domain::backend::ProcessId;
use crate::domain::catalog::UnitPrimitiveName;
use crate::domain::key_ring::{Digest, KeyState, Kid, Purpose, Standing};
use crate::domain::probes::Verdict;
use crate::rotation::RotationError;
use crate::rotation::beat::{self, BEAT, Beat, Heard, Hearing, Taken};
use crate::storage::checked_builds::{self, CheckedBuild};
use crate::storage::deployments::{self, Report};
use crate::storage::{StorageError, key_rings, key_sets};
use crate::telemetry::metric_names::{DISPROVED_PROCESSES, UNKNOWN_KEY_SETS};

/// What a process says of itself. Members that are not known here are ignored: a new verifier may
/// speak to an old service.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct BeatBody {
    /// What was built: a version, a commit, the digest of an image.
    build: String,
    /// The key set that is in it.
    key_set_version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    key_set_digest: String,
    /// The verifier and its version.
    verifier: String,
    /// What the verifier understands.
    #[serde(default)]
    algorithms: Vec<String>,
    /// Of the deny list that it obeys; null where it reads none.
    #[schema(minimum = 0)]
    deny_list_serial: Option<u64>,
    /// What it enforces: the unit primitives of its `contract.json`. Left out where it has none.
    #[serde(default)]
    enforces: Option<Vec<String>>,
    /// The verdicts on the probes of the last answer.
    #[serde(default)]
    probe_results: Vec<VerdictBody>,
}

/// The verdict on one probe.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct VerdictBody {
    kid: String,
    nonce: String,
    /// Whether the verification function took it for a token.
    accepted: bool,
    /// Why it was refused; kept nowhere.
    #[serde(default, rename = "detail")]
    _detail: Option<String>,
}

/// What a process should know now, and the next probes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BeatView {
    /// Report again after this long.
    beat_seconds: i64,
    /// The lowest key-set version with which a process may start.
    floor: u32,
    /// The newest key-set version.
    head: u32,
    /// Read the deny list where yours is lower.
    deny_list_serial: u64,
    /// Run each through your verification function, and report the verdicts. Some are forged.
    probes: Vec<ProbeView>,
}

/// A token that asks for a verdict.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProbeView {
    kid: String,
    nonce: Uuid,
    token: String,
}

/// A build that a deployment pipeline has checked.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct CheckedBuildBody {
    build: String,
    key_set_version: u32,
    /// Of the plain set: `sha256:` and 64 hexadecimal digits.
    key_set_digest: String,
    /// What it enforces: the unit primitives of its `contract.json`. Left out where it has none.
    #[serde(default)]
    enforces: Option<Vec<String>>,
}

/// What the check is evidence for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CheckedBuildView {
    build: String,
    key_set_version: u32,
    /// The access-token keys in it that are published or sign.
    kids: Vec<String>,
    floor: u32,
    head: u32,
}

/// `PUT /v1/backends/{name}/deployments/{process_id}`
#[utoipa::path(put, path = "/v1/backends/{name}/deployments/{process_id}", tag = "backends", security(("backend_token" = [])),
    params(("name" = String, Path, description = "As the catalog names it"),
           ("process_id" = String, Path, description = "Chosen anew at each start: 1 to 128 characters of A-Z, a-z, 0-9, `.`, `_`, `-`")),
    request_body = BeatBody,
    responses((status = 200, description = "What to know, and what to prove next", body = BeatView)))]
pub(crate) async fn report(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let now = app.now();
    let mut tx = app.database.begin().await?;
    let backend = backend_caller::admit(&app, &mut tx, &request).await?;
    let (beat, unreadable) = parse(process_id(&request)?, body.json()?)?;
    let process = format!("{}/{}", backend.name, beat.process_id);
    let catalog = app.catalog.load();
    let hearing = Hearing {
        environment: app.settings.environment.as_str(),
        issuer: app.issuer(),
        audience: catalog.catalog.backend(&backend.name).map(|backend| backend.audience.as_str()),
        keystore: &app.keystore,
        now,
    };
    let heard = beat::hear(&mut tx, &hearing, &backend, beat).await?;
    tx.commit().await.map_err(StorageError::from)?;
    match heard {
        Heard::UnknownKeySet => {
            counter!(UNKNOWN_KEY_SETS, "backend" => backend.name.to_string()).increment(1);
            tracing::error!(backend = %backend.name, process, "{process} runs a key set that was never published");
            Err(unknown_key_set())
        }
        Heard::ForeignVerdicts(places) => {
            tracing::warn!(backend = %backend.name, process, "{process} answers probes that it was not given");
            Err(foreign_verdicts(&places, &unreadable))
        }
        Heard::Taken(_) if !unreadable.is_empty() => Err(foreign_verdicts(&[], &unreadable)),
        Heard::Taken(taken) => {
            if !taken.deceived.is_empty() {
                counter!(DISPROVED_PROCESSES, "backend" => backend.name.to_string()).increment(1);
                tracing::error!(backend = %backend.name, process, "{process} accepted forged probes");
            }
            Ok(HttpResponse::Ok().insert_header(NO_STORE).json(BeatView::from(taken)))
        }
    }
}

/// `DELETE /v1/backends/{name}/deployments/{process_id}`
#[utoipa::path(delete, path = "/v1/backends/{name}/deployments/{process_id}", tag = "backends", security(("backend_token" = [])),
    params(("name" = String, Path), ("process_id" = String, Path)),
    responses((status = 204, description = "The process serves no more"),
              (status = 404, description = "It never reported itself")))]
pub(crate) async fn sign_off(
    app: web::Data<App>,
    request: HttpRequest,
    _: Body,
) -> Result<HttpResponse, ApiError> {
    let mut tx = app.database.begin().await?;
    let backend = backend_caller::admit(&app, &mut tx, &request).await?;
    let process_id = process_id(&request)?;
    let found = deployments::find_for_update(&mut tx, &backend.name, &process_id).await?;
    let row = found.ok_or_else(|| ApiError::not_found("process"))?;
    deployments::update_standing(&mut tx, &row, Standing::SignedOff, None).await?;
    tx.commit().await.map_err(StorageError::from)?;
    tracing::info!(backend = %backend.name, "{}/{process_id} has signed off", backend.name);
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /v1/backends/{name}/checked-builds`
#[utoipa::path(post, path = "/v1/backends/{name}/checked-builds", tag = "backends", security(("backend_token" = [])),
    params(("name" = String, Path)), request_body = CheckedBuildBody,
    responses((status = 200, description = "For which keys it counts as evidence", body = CheckedBuildView)))]
pub(crate) async fn record_checked_build(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let now = app.now();
    let mut tx = app.database.begin().await?;
    let backend = backend_caller::admit(&app, &mut tx, &request).await?;
    let body: CheckedBuildBody = body.json()?;
    let mut invalid = Invalid::default();
    let build = invalid.text("/build", body.build, MOST_IN_A_TEXT);
    let digest: Option<Digest> = invalid.parse("/key_set_digest", &body.key_set_digest);
    let enforces = body.enforces.map(|names| contract(&mut invalid, names));
    let (Some(build), Some(digest)) = (build, digest) else { return Err(invalid.refuse()) };
    invalid.done()?;

    let environment = app.settings.environment.as_str();
    let key_set = key_sets::find(&mut tx, environment, body.key_set_version).await?;
    let Some(key_set) = key_set.filter(|key_set| key_set.jwks_digest == digest) else {
        counter!(UNKNOWN_KEY_SETS, "backend" => backend.name.to_string()).increment(1);
        tracing::error!(backend = %backend.name, "a build of {} has a key set that was never published", backend.name);
        return Err(unknown_key_set());
    };
    let stored = key_rings::find(&mut tx, environment).await?;
    let ring = stored.ok_or_else(|| ApiError::not_found("key set"))?.ring;
    if key_set.version < ring.floor() {
        let detail = format!(
            "Key set {} is older than {}, the lowest that may be deployed.",
            key_set.version,
            ring.floor()
        );
        return Err(ApiError::refused(&problems::KEYS_BELOW_FLOOR, detail)
            .with_member("floor", ring.floor())
            .with_member("head", ring.head_version()));
    }
    let (backend, key_set_version) = (backend.name, key_set.version);
    let checked = CheckedBuild { backend, build, key_set_version, enforces, checked_at: now };
    checked_builds::upsert(&mut tx, environment, &checked).await?;
    tx.commit().await.map_err(StorageError::from)?;

    let carried = beat::carried(&key_set)?;
    let kids = ring.keys().filter(|key| {
        key.purpose == Purpose::AccessTokens
            && matches!(key.state, KeyState::Published | KeyState::Active)
            && carried.contains(&key.kid)
    });
    Ok(HttpResponse::Ok().json(CheckedBuildView {
        build: checked.build,
        key_set_version: checked.key_set_version,
        kids: kids.map(|key| key.kid.to_string()).collect(),
        floor: ring.floor(),
        head: ring.head_version(),
    }))
}

fn process_id(request: &HttpRequest) -> Result<ProcessId, ApiError> {
    let mut invalid = Invalid::default();
    let text = request.match_info().get("process_id").unwrap_or_default();
    invalid.parse("?process_id", text).ok_or_else(|| invalid.refuse())
}

/// The beat, and the pointers to what cannot be a verdict on a probe of ours.
fn parse(process_id: ProcessId, body: BeatBody) -> Result<(Beat, Vec<String>), ApiError> {
    let mut invalid = Invalid::default();
    let build = invalid.text("/build", body.build, MOST_IN_A_TEXT);
    let verifier = invalid.text("/verifier", body.verifier, MOST_IN_A_TEXT);
    let digest: Option<Digest> = invalid.parse("/key_set_digest", &body.key_set_digest);
    if body.algorithms.len() > MOST_ALGORITHMS {
        invalid.add("/algorithms", "too_long", format!("may name {MOST_ALGORITHMS} algorithms at the most"));
    }
    let algorithms = body.algorithms.into_iter().enumerate();
    let algorithms: Vec<_> = algorithms
        .filter_map(|(place, name)| invalid.text(&format!("/algorithms/{place}"), name, 32))
        .collect();
    if body.deny_list_serial.is_some_and(|serial| i64::try_from(serial).is_err()) {
        invalid.add("/deny_list_serial", "out_of_range", "is higher than any serial");
    }
    let enforces = body.enforces.map(|names| contract(&mut invalid, names));
    if body.probe_results.len() > MOST_VERDICTS {
        invalid.add("/probe_results", "too_long", format!("may hold {MOST_VERDICTS} verdicts at the most"));
    }
    let (Some(build), Some(verifier), Some(key_set_digest)) = (build, verifier, digest) else {
        return Err(invalid.refuse());
    };
    invalid.done()?;

    let mut unreadable = Vec::new();
    let mut verdicts = Vec::with_capacity(body.probe_results.len());
    for (place, verdict) in body.probe_results.into_iter().enumerate() {
        // What is no kid or no UUID names nothing that we asked: foreign, like any other nonce.
        let parsed: (Option<Kid>, Option<Uuid>) = (verdict.kid.parse().ok(), verdict.nonce.parse().ok());
        match parsed {
            (Some(kid), Some(nonce)) => verdicts.push(Verdict { kid, nonce, accepted: verdict.accepted }),
            (None, _) => unreadable.push(format!("/probe_results/{place}/kid")),
            (Some(_), None) => unreadable.push(format!("/probe_results/{place}/nonce")),
        }
    }
    let report = Report {
        build,
        key_set_version: body.key_set_version,
        key_set_digest,
        verifier,
        algorithms,
        deny_list_serial: body.deny_list_serial,
        enforces,
    };
    Ok((Beat { process_id, report, verdicts }, unreadable))
}

/// The names of a contract, sorted, each once. Which of them the catalog sells is not asked here: that is what the
/// report on contracts tells.
fn contract(invalid: &mut Invalid, names: Vec<String>) -> Vec<String> {
    if names.len() > MOST_ENFORCED {
        invalid.add("/enforces", "too_long", format!("may name {MOST_ENFORCED} unit primitives at the most"));
        return Vec::new();
    }
    let names = names
        .iter()
        .enumerate()
        .filter_map(|(place, name)| invalid.parse::<UnitPrimitiveName>(&format!("/enforces/{place}"), name));
    let names: BTreeSet<UnitPrimitiveName> = names.collect();
    names.iter().map(ToString::to_string).collect()
}

fn foreign_verdicts(places: &[usize], unreadable: &[String]) -> ApiError {
    let nonces = places.iter().map(|place| format!("/probe_results/{place}/nonce"));
    let pointers = nonces.chain(unreadable.iter().cloned());
    let errors = pointers.map(|pointer| InvalidValue {
        pointer,
        code: "unknown_probe",
        detail: "answers no probe of the last three answers to this process".to_owned(),
    });
    ApiError::invalid(errors.collect())
}

fn unknown_key_set() -> ApiError {
    let detail = "No key set with this digest was published under this version.";
    ApiError::refused(&problems::KEYS_UNKNOWN_KEY_SET, detail)
}

impl From<Taken> for BeatView {
    fn from(taken: Taken) -> Self {
        let probes = taken.probes.into_iter().map(|probe| ProbeView {
            kid: probe.kid.to_string(),
            nonce: probe.nonce,
            token: probe.token,
        });
        Self {
            beat_seconds: BEAT.num_seconds(),
            floor: taken.floor,
            head: taken.head,
            deny_list_serial: taken.deny_list_serial,
            probes: probes.collect(),
        }
    }
}

impl From<RotationError> for ApiError {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Storage(error) => error.into(),
            error => Self::fault(error),
        }
    }
}

const MOST_IN_A_TEXT: usize = 255;
const MOST_ALGORITHMS: usize = 16;
const MOST_ENFORCED: usize = 1024;
const MOST_VERDICTS: usize = 1024;
const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");
