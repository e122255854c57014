//! `/admin/v1/imports`: records of another system in bulk, one JSON object a line.

mod answer;
mod lines;
mod record;
mod run;
mod sealing;
pub(crate) mod untrusted;

use std::str::FromStr;

use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream;
use serde::Serialize;

use answer::Telling;
use lines::Lines;
use run::Sender;

use super::described::{Pages, Retry, Trial};
use super::desk::{Caller, Desk};
use super::effects::EffectsView;
use super::page::PageView;
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::ImportId;
use crate::domain::import::{ImportState, LineOutcome};
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::idempotency::IdempotencyKey;
use crate::http::openapi::ProblemView;
use crate::http::problems;
use crate::http::time::WireTime;
use crate::storage::StorageError;
use crate::storage::imports::{self as rows, ImportKey, ImportRow, ResultFilter};

/// An import, and how far it has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ImportView {
    id: uuid::Uuid,
    /// `running`, `finished`, or `interrupted`: then send the same again.
    state: &'static str,
    /// The length of the body, where its sender told it.
    bytes_expected: Option<i64>,
    bytes_read: i64,
    /// The number of the last line that was dealt with.
    last_line: i64,
    created: i64,
    unchanged: i64,
    refused: i64,
    created_at: WireTime,
    updated_at: WireTime,
    finished_at: Option<WireTime>,
    /// Until then its results can be read, and its `Idempotency-Key` names it.
    results_end_at: WireTime,
}

/// What became of one line.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "described here, written by `record` and `answer`")]
pub(crate) struct LineResultView {
    /// Its number, from 1.
    line: i64,
    /// `created`, `unchanged` (it was recorded before) or `refused`.
    outcome: String,
    #[schema(nullable = false)]
    r#type: Option<String>,
    #[schema(nullable = false)]
    external_ref: Option<String>,
    /// Of the record.
    #[schema(nullable = false)]
    id: Option<uuid::Uuid>,
    /// Of a license that was made; told to its sender only.
    #[schema(nullable = false)]
    activation_code: Option<String>,
    #[schema(nullable = false)]
    effects: Option<EffectsView>,
    /// It was dealt with when the same import was sent before.
    #[schema(nullable = false)]
    replayed: Option<bool>,
    /// Why it was refused.
    #[schema(nullable = false)]
    problem: Option<ProblemView>,
}

impl ImportView {
    fn of(row: &ImportRow, now: DateTime<Utc>) -> Self {
        let is_silent = row.state == ImportState::Running && row.updated_at + SILENCE < now;
        let state = if is_silent { ImportState::Interrupted } else { row.state };
        Self {
            id: row.id.as_uuid(),
            state: state.as_str(),
            bytes_expected: row.bytes_expected,
            bytes_read: row.bytes_read,
            last_line: row.last_line,
            created: row.created,
            unchanged: row.unchanged,
            refused: row.refused,
            created_at: WireTime(row.created_at),
            updated_at: WireTime(row.updated_at),
            finished_at: row.finished_at.map(WireTime),
            results_end_at: WireTime(row.results_end_at),
        }
    }
}

/// `POST /admin/v1/imports`
///
/// The body has one JSON object a line (`application/x-ndjson`), the answer one for each, while the body is
/// still being read. A line is what the POST of its kind takes, and beside it `type` (`customer`, `subscription`,
/// `add_on_purchase` or `license`) and always `external_ref`. It names what it belongs to by
/// `customer_external_ref` or `subscription_external_ref`, or by `customer_id` or `subscription_id`.
#[utoipa::path(post, operation_id = "imports_create", path = "/admin/v1/imports", tag = "imports", security(("admin_token" = ["fulfillment:write"])),
    request_body(content((String = "application/x-ndjson"), (String = "text/plain")), description = "One record a line"), params(Retry, Trial),
    responses((status = 200, description = "What became of each line, one JSON object a line; `Location` is the import", content_type = "application/x-ndjson", body = LineResultView)))]
pub(crate) async fn create(desk: Desk, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let admitted = match desk.admit(AdminScope::FulfillmentWrite).await {
        Ok(caller) => question(&desk).map(|asked| (caller, asked)),
        Err(refusal) => Err(refusal),
    };
    let (caller, Question { is_trial, key }) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            body::drain(&desk.app, payload).await;
            return Err(refusal);
        }
    };
    if is_trial {
        return try_out(desk, caller, payload).await;
    }
    let app = desk.app.clone();
    let now = app.now();
    let mut tx = app.database.begin().await?;
    let key = ImportKey { caller: &caller.id(), idempotency_key: key.as_deref() };
    let expected = length(&desk.request);
    let id = ImportId::generate(now);
    let row = rows::begin(&mut tx, id, key, expected, now, now + RESULTS_KEPT_FOR).await?;
    tx.commit().await.map_err(StorageError::from)?;
    let lines = Lines::of(payload, app.settings.max_body_bytes.get());
    let sender = Sender { desk, caller, id: row.id, attempt: row.attempt };
    let telling = Telling { app, id: row.id, attempt: row.attempt, progress: sender.start(lines) };
    Ok(HttpResponse::Ok()
        .insert_header((LOCATION, path(row.id)))
        .content_type(NDJSON)
        .streaming(telling.stream()))
}

/// `GET /admin/v1/imports`
#[utoipa::path(get, operation_id = "imports_list", path = "/admin/v1/imports", tag = "imports", security(("admin_token" = ["fulfillment:read"])),
    params(("state" = inline(Option<String>), Query, nullable = false, description = "`running`, `interrupted` or `finished`"), Pages),
    responses((status = 200, description = "A page of imports, in the order in which they began", body = PageView<ImportView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let state = query.parse("state");
    let page = desk.page(query)?;
    let rows = rows::list(&mut *desk.read().await?, state, page.after, page.fetch()).await?;
    let now = desk.app.now();
    page.answer(&desk, rows, |row| row.id, |row| ImportView::of(row, now))
}

/// `GET /admin/v1/imports/{id}`
#[utoipa::path(get, operation_id = "imports_read", path = "/admin/v1/imports/{id}", tag = "imports", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "The import, and how far it has come", body = ImportView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id = desk.id(KIND)?;
    desk.query().done()?;
    let row = rows::find(&mut *desk.read().await?, id).await?.ok_or_else(|| ApiError::not_found(KIND))?;
    Ok(HttpResponse::Ok().json(ImportView::of(&row, desk.app.now())))
}

/// `GET /admin/v1/imports/{id}/results`
#[utoipa::path(get, operation_id = "imports_results", path = "/admin/v1/imports/{id}/results", tag = "imports", security(("admin_token" = ["fulfillment:read"])),
    params(("id" = uuid::Uuid, Path),
           ("outcome" = inline(Option<String>), Query, nullable = false, description = "`created`, `unchanged` or `refused`"), Pages),
    responses((status = 200, description = "A page of what became of its lines, in their order, without activation codes", body = PageView<LineResultView>)))]
pub(crate) async fn results(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let id: ImportId = desk.id(KIND)?;
    let mut query = desk.query();
    let outcome = query.parse::<LineOutcome>("outcome");
    let page = desk.page(query)?;
    let mut connection = desk.read().await?;
    let row = rows::find(&mut connection, id).await?.ok_or_else(|| ApiError::not_found(KIND))?;
    let filter = ResultFilter { after: page.after.unwrap_or(0), up_to: row.last_line, outcome };
    let found = rows::list_results(&mut connection, id, filter, page.fetch()).await?;
    page.answer(&desk, found, |row| row.line, |row| row.result.clone())
}

/// What the request asks for, apart from its lines.
struct Question {
    is_trial: bool,
    key: Option<String>,
}

fn question(desk: &Desk) -> Result<Question, ApiError> {
    let mut query = desk.query();
    let is_trial = query.flag("validate_only");
    query.done()?;
    let key = IdempotencyKey::word(&desk.request)?;
    let given = desk.request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if !MEDIA_TYPES.iter().any(|known| known.eq_ignore_ascii_case(essence)) {
        let detail = format!("The body must be {NDJSON}: one JSON object a line.");
        return Err(ApiError::refused(&problems::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(Question { is_trial, key: key.map(str::to_owned) })
}

/// Runs everything but the commit, in one transaction, of an import that is small enough for that.
async fn try_out(desk: Desk, caller: Caller, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let too_large = || {
        let detail = format!(
            "With validate_only an import may have {MOST_TRIED_BYTES} bytes and {MOST_TRIED_LINES} lines at the most."
        );
        ApiError::refused(&problems::TOO_LARGE, detail)
    };
    let body = payload.to_bytes_limited(MOST_TRIED_BYTES).await.map_err(|_| too_large())?;
    let body = body.map_err(|error| {
        ApiError::refused(&problems::INVALID_REQUEST, "The body broke off.")
            .with_member("reason", error.to_string())
    })?;
    let app = desk.app.clone();
    let mut lines = Lines::of(stream::iter([Ok(body)]), app.settings.max_body_bytes.get());
    let cut = |_| ApiError::refused(&problems::INVALID_REQUEST, "The body broke off.");
    let lines = lines.next(MOST_TRIED_LINES + 1).await.map_err(cut)?;
    if lines.len() > MOST_TRIED_LINES {
        return Err(too_large());
    }
    let sender = Sender { desk, caller, id: ImportId::generate(app.now()), attempt: 1 };
    let mut tx = app.database.begin().await?;
    let mut text = Vec::new();
    for line in &lines {
        let mut told = sender.tell(&mut tx, line).await?;
        // It will not be there.
        if told.outcome == LineOutcome::Created
            && let Some(result) = told.result.as_object_mut()
        {
            result.remove("id");
        }
        serde_json::to_writer(&mut text, &told.result).map_err(ApiError::fault)?;
        text.push(b'\n');
    }
    tx.rollback().await.map_err(StorageError::from)?;
    Ok(HttpResponse::Ok().content_type(NDJSON).body(text))
}

fn path(id: ImportId) -> String {
    format!("/admin/v1/imports/{id}")
}

fn length(request: &HttpRequest) -> Option<i64> {
    let given = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
    i64::from_str(given).ok().filter(|length| *length >= 0)
}

const KIND: &str = "import";
const NDJSON: &str = "application/x-ndjson";
/// Under which lines of JSON are sent; plain text by whoever knows no better word.
const MEDIA_TYPES: [&str; 5] =
    [NDJSON, "application/ndjson", "application/jsonl", "application/x-jsonlines", "text/plain"];
/// As long as other answers are kept for a retry.
const RESULTS_KEPT_FOR: TimeDelta = TimeDelta::hours(24);
/// Longer than a sender may be silent, and than a batch may take: then nobody works at it any more.
const SILENCE: TimeDelta = TimeDelta::minutes(3);
const MOST_TRIED_BYTES: usize = 1 << 20;
const MOST_TRIED_LINES: usize = 1000;
