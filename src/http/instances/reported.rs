//! `GET /v1/instances/me/reported`: what the service holds of what the instance sent, field by field, and what for.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::authentication;
use crate::http::error::ApiError;
use crate::storage::facts::InstanceFacts;
use crate::storage::{StorageError, instance_states};

/// What the service holds of an instance's own words.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReportedView {
    items: Vec<ReportedField>,
}

/// One field that the instance sends.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReportedField {
    /// Its name in the requests that carry it.
    field: &'static str,
    /// What it is for.
    purpose: &'static str,
    /// How long it is kept.
    kept: &'static str,
    /// What is held now; missing where it is not kept.
    value: Value,
}

/// `GET /v1/instances/me/reported`
#[utoipa::path(get, operation_id = "reported", path = "/v1/instances/me/reported", tag = "instances",
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "Each field that an instance sends, with its purpose and what is held of it", body = ReportedView)))]
pub(crate) async fn reported(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &[])?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    let row = instance_states::find(&mut tx, caller.facts.uid).await?;
    let row = row.ok_or_else(|| ApiError::fault("an instance without its row"))?;
    tx.commit().await.map_err(StorageError::from)?;
    let facts: &InstanceFacts = &caller.facts;
    let field = |field, purpose, kept, value| ReportedField { field, purpose, kept, value };
    Ok(HttpResponse::Ok().json(ReportedView {
        items: vec![
            field(
                "instance_id",
                "Recognizes the installation, and is the subject of its tokens.",
                FOR_GOOD,
                json!(facts.instance_id),
            ),
            field(
                "hostname",
                "Lets support and administrators tell installations apart.",
                WITH_HISTORY,
                json!(facts.hostname),
            ),
            field(
                "version",
                "Decides which unit primitives the installation can use.",
                WITH_HISTORY,
                json!(facts.situation.instance.version.to_string()),
            ),
            field(
                "deployment",
                "Decides in which realm unit primitives are offered.",
                FOR_GOOD,
                json!(row.deployment.as_str()),
            ),
            field(
                "kind",
                "Counts against the license's cap for this kind.",
                FOR_GOOD,
                json!(row.kind.as_str()),
            ),
            field(
                "usage",
                "Seats and use, for reconciliation; no part of a decision.",
                WITH_HISTORY,
                json!(facts.reported_usage),
            ),
            field(
                "public_key",
                "Verifies what the installation signs.",
                "until seven days after its successor was first used",
                json!(facts.public_key.is_some()),
            ),
            field("backends", "Narrows one answer.", NOT_KEPT, Value::Null),
            field("explain", "Widens one answer.", NOT_KEPT, Value::Null),
            field(
                "sync_value",
                "Tells two installations with one identity from one.",
                "until the next one",
                Value::Null,
            ),
            field("the client's address", "Limits failed attempts.", "for minutes, in memory", Value::Null),
        ],
    }))
}

const FOR_GOOD: &str = "as long as the record of the instance";
const NOT_KEPT: &str = "not kept";
const WITH_HISTORY: &str = "with its history";
