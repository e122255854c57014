//! `/admin/v1/audit-events`: who changed what, and the signed word on it.

use actix_web::HttpResponse;
use serde::Serialize;

use super::described::Pages;
use super::desk::Desk;
use super::page::PageView;
use crate::audit::checkpoint::{self, CheckpointError};
use crate::domain::admin_scope::AdminScope;
use crate::http::error::ApiError;
use crate::http::time::WireTime;
use crate::storage::events::{self, EventFilter, EventRow};

/// One change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditEventView {
    /// Its place in the order in which changes were committed: 1, 2, 3, without gaps.
    sequence: u64,
    id: uuid::Uuid,
    at: WireTime,
    /// Who did it, such as `admin_token:<id> <name>`, `instance:<uid>` or `command_line:<account>`.
    actor: String,
    /// What was done, such as `license.revoke`.
    action: String,
    /// What it was done to, such as `license`.
    subject_kind: String,
    subject_id: String,
    reason: Option<String>,
    /// The record as it was; `null` for one that was new.
    #[schema(value_type = Option<Object>)]
    before: Option<serde_json::Value>,
    /// The record as it was afterwards.
    #[schema(value_type = Option<Object>)]
    after: Option<serde_json::Value>,
    request_id: Option<String>,
    /// Covers this event and the digest of the one before it.
    digest: String,
}

/// A checkpoint, in words and signed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CheckpointView {
    /// The last event.
    sequence: u64,
    /// Its digest, which stands for every event before it as well.
    digest: String,
    #[schema(format = DateTime)]
    created: String,
    /// A compact JWS with `typ` `audit-checkpoint+jws`, by a key of the key sets for audit checkpoints.
    checkpoint: String,
}

impl From<&EventRow> for AuditEventView {
    fn from(row: &EventRow) -> Self {
        Self {
            sequence: row.sequence,
            id: row.id.as_uuid(),
            at: WireTime(row.at),
            actor: row.actor.clone(),
            action: row.action.clone(),
            subject_kind: row.subject_kind.clone(),
            subject_id: row.subject_id.clone(),
            reason: row.reason.clone(),
            before: row.before.clone(),
            after: row.after.clone(),
            request_id: row.request_id.clone(),
            digest: row.digest.to_string(),
        }
    }
}

/// `GET /admin/v1/audit-events`
#[utoipa::path(get, operation_id = "audit_events_list", path = "/admin/v1/audit-events", tag = "audit", security(("admin_token" = ["audit:read"])),
    params(("actor" = inline(Option<String>), Query, nullable = false, description = "Exactly as events name it"),
           ("action" = inline(Option<String>), Query, nullable = false, description = "Such as `license.revoke`"),
           ("subject_kind" = inline(Option<String>), Query, nullable = false, description = "Such as `license`"),
           ("subject_id" = inline(Option<String>), Query, nullable = false),
           ("request_id" = inline(Option<String>), Query, nullable = false, description = "The `X-Request-Id` of the request that did it"),
           ("since" = inline(Option<chrono::DateTime<chrono::Utc>>), Query, nullable = false, description = "From this instant on"),
           ("until" = inline(Option<chrono::DateTime<chrono::Utc>>), Query, nullable = false, description = "Before this instant"),
           Pages),
    responses((status = 200, description = "A page of changes, latest first", body = PageView<AuditEventView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let mut query = desk.query();
    let filter = EventFilter {
        actor: query.text("actor"),
        action: query.text("action"),
        subject_kind: query.text("subject_kind"),
        subject_id: query.text("subject_id"),
        request_id: query.text("request_id"),
        since: query.instant("since"),
        until: query.instant("until"),
    };
    let page = desk.page(query)?;
    let rows = events::list_latest(&mut *desk.read().await?, &filter, page.after, page.fetch()).await?;
    page.answer(&desk, rows, EventRow::place, |row| AuditEventView::from(row))
}

/// `GET /admin/v1/audit-events/checkpoint`
#[utoipa::path(get, operation_id = "audit_events_checkpoint", path = "/admin/v1/audit-events/checkpoint", tag = "audit", security(("admin_token" = ["audit:read"])),
    responses((status = 200, description = "The signed word on every event up to now. Keep it where the database cannot reach", body = CheckpointView),
              (status = 503, description = "No key signs audit checkpoints")))]
pub(crate) async fn checkpoint(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    desk.query().done()?;
    let app = &desk.app;
    let mut tx = desk.read().await?;
    let environment = app.settings.environment.as_str();
    let kek = app.keystore.key_encryption();
    let signed = checkpoint::sign(&mut tx, &**kek, environment, app.now()).await.map_err(refused)?;
    Ok(HttpResponse::Ok().json(CheckpointView {
        sequence: signed.checkpoint.sequence,
        digest: signed.checkpoint.digest.to_string(),
        created: signed.checkpoint.created.to_string(),
        checkpoint: signed.jws,
    }))
}

fn refused(error: CheckpointError) -> ApiError {
    match error {
        CheckpointError::NoKey { .. } => ApiError::unavailable("No key signs audit checkpoints now."),
        CheckpointError::Storage(error) => error.into(),
        error => ApiError::fault(error),
    }
}
