//! `/admin/v1/backends/{name}/deployments`: what runs of a backend, and what it has proved.

use std::collections::HashMap;

use actix_web::HttpResponse;
use serde::Serialize;

use super::change::{ChangedView, Done};
use super::described::{Pages, Retry, Trial};
use super::desk::{Desk, Seen};
use super::members::ReasonBody;
use super::page::PageView;
use super::resource::Resource;
use crate::domain::admin_scope::AdminScope;
use crate::domain::backend::ProcessId;
use crate::domain::catalog::BackendName;
use crate::domain::key_ring::{FORGET_AFTER, Standing};
use crate::fulfillment::backends::forget_deployment;
use crate::http::body::Body;
use crate::http::error::ApiError;
use crate::http::time::WireTime;
use crate::storage::backends;
use crate::storage::deployments::{self, DeploymentRow, ProofRow};

/// A process as it last reported itself.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeploymentView {
    backend: String,
    process_id: String,
    /// `running`, `signed_off`, or `forgotten` by an administrator.
    standing: &'static str,
    /// Why an administrator said that it is gone.
    forgotten_because: Option<String>,
    /// Whether it was heard of within the hour: if not, it holds no key up.
    is_live: bool,
    build: String,
    key_set_version: u32,
    key_set_digest: String,
    /// Whether that key set was ever published: if not, look closely.
    is_published: bool,
    verifier: String,
    algorithms: Vec<String>,
    deny_list_serial: Option<u64>,
    /// The unit primitives of its contract; null: it tells none.
    enforces: Option<Vec<String>>,
    first_seen_at: WireTime,
    last_seen_at: WireTime,
    /// Since when it is known to accept forged probes: nothing that it says counts.
    disproved_at: Option<WireTime>,
    /// The keys that it has proved to believe.
    #[serde(skip_serializing_if = "Option::is_none")]
    proofs: Option<Vec<ProofView>>,
}

/// That a process believes a key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProofView {
    kid: String,
    /// Without a break since then.
    first_proved_at: WireTime,
    last_proved_at: WireTime,
}

impl Resource for DeploymentRow {
    const KIND: &'static str = "deployment";
    type View = DeploymentView;

    fn id(&self) -> String {
        format!("{}/{}", self.backend, self.process_id)
    }

    /// It changes with each beat: nothing is ever conditional on it.
    fn revision(&self) -> i64 {
        self.last_seen_at.timestamp_micros()
    }

    fn path(&self) -> String {
        format!("/admin/v1/backends/{}/deployments", self.backend)
    }

    fn view(&self, seen: Seen) -> DeploymentView {
        DeploymentView {
            backend: self.backend.to_string(),
            process_id: self.process_id.to_string(),
            standing: self.standing.as_str(),
            forgotten_because: self.forgotten_because.clone(),
            is_live: self.standing == Standing::Running && seen.now - self.last_seen_at < FORGET_AFTER,
            build: self.report.build.clone(),
            key_set_version: self.report.key_set_version,
            key_set_digest: self.report.key_set_digest.to_string(),
            is_published: self.is_published,
            verifier: self.report.verifier.clone(),
            algorithms: self.report.algorithms.clone(),
            deny_list_serial: self.report.deny_list_serial,
            enforces: self.report.enforces.clone(),
            first_seen_at: WireTime(self.first_seen_at),
            last_seen_at: WireTime(self.last_seen_at),
            disproved_at: self.disproved_at.map(WireTime),
            proofs: None,
        }
    }
}

impl From<&ProofRow> for ProofView {
    fn from(proof: &ProofRow) -> Self {
        Self {
            kid: proof.kid.to_string(),
            first_proved_at: WireTime(proof.first_proved_at),
            last_proved_at: WireTime(proof.last_proved_at),
        }
    }
}

/// `GET /admin/v1/backends/{name}/deployments`
#[utoipa::path(get, operation_id = "deployments_list", path = "/admin/v1/backends/{name}/deployments", tag = "backends", security(("admin_token" = ["fulfillment:read"])),
    params(("name" = String, Path), Pages),
    responses((status = 200, description = "A page of processes, by name", body = PageView<DeploymentView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let backend = backend(&desk)?;
    let page = desk.page::<ProcessId>(desk.query())?;
    let mut tx = desk.read().await?;
    backends::find(&mut tx, &backend).await?.ok_or_else(|| ApiError::not_found(BACKEND))?;
    let rows = deployments::list(&mut tx, &backend, page.after.as_ref(), page.fetch()).await?;
    let mut proofs = HashMap::new();
    for row in &rows {
        let proved = deployments::list_proofs(&mut tx, &backend, &row.process_id).await?;
        proofs.insert(row.process_id.clone(), proved);
    }
    let seen = desk.seen();
    page.answer(
        &desk,
        rows,
        |row| row.process_id.clone(),
        |row| DeploymentView {
            proofs: proofs.get(&row.process_id).map(|proofs| proofs.iter().map(ProofView::from).collect()),
            ..row.view(seen)
        },
    )
}

/// `POST /admin/v1/backends/{name}/deployments/{process_id}:forget`
#[utoipa::path(post, operation_id = "deployments_forget", path = "/admin/v1/backends/{name}/deployments/{process_id}:forget", tag = "backends", security(("admin_token" = ["backends:write"])),
    params(("name" = String, Path), ("process_id" = String, Path), Retry, Trial), request_body = ReasonBody,
    responses((status = 200, description = "The process, which holds no key up any more", body = ChangedView<DeploymentView>)))]
pub(crate) async fn forget(desk: Desk, body: Body) -> Result<HttpResponse, ApiError> {
    let caller = desk.admit(AdminScope::BackendsWrite).await?;
    let backend = backend(&desk)?;
    let process_id: ProcessId = desk.segment("process_id", DeploymentRow::KIND)?;
    let reason = body.json::<ReasonBody>()?.parse()?;
    desk.change(&caller, &body, "deployment.forget", async |connection, circumstances| {
        let forgotten = forget_deployment(connection, circumstances, &backend, &process_id, &reason).await?;
        Ok(Done::from(forgotten).because(reason.clone()))
    })
    .await
}

fn backend(desk: &Desk) -> Result<BackendName, ApiError> {
    desk.segment("name", BACKEND)
}

const BACKEND: &str = "backend";
