//! What an instance may use, and why: the explanation of a decision at any instant.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use super::authentication;
use super::error::ApiError;
use super::parameters;
use super::time::WireTime;
use crate::app::App;
use crate::domain::catalog::Catalog;
use crate::domain::entitlement::{Decision, Explanation, Situation, decide};
use crate::domain::ids::InstanceUid;
use crate::storage::{catalogs, facts};

/// Why one unit primitive is granted or not.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EntitlementView {
    #[schema(value_type = String)]
    unit_primitive: String,
    granted: bool,
    /// Stable: `free_access`, `add_on:<name>`, `license_type:<name>`, or why it is denied.
    #[schema(value_type = String)]
    code: Cow<'static, str>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Only the grace after the term's end holds this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    in_grace: bool,
    /// The earliest instant at which this answer changes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<WireTime>,
}

/// The explanation of every unit primitive for one instance at one instant.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ExplanationView {
    instance_uid: uuid::Uuid,
    at: WireTime,
    next_change_at: Option<WireTime>,
    entitlements: Vec<EntitlementView>,
    catalog: CatalogView,
}

/// Which catalog decided.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CatalogView {
    pub(crate) digest: String,
}

impl EntitlementView {
    /// The views of a decision, in the catalog's order.
    pub(crate) fn all(catalog: &Catalog, situation: &Situation, decision: &Decision) -> Vec<Self> {
        let view = |entitlement| {
            let Explanation { code, detail, remedy } = Explanation::of(catalog, situation, entitlement);
            let verdict = entitlement.verdict;
            Self {
                unit_primitive: catalog.unit_primitives()[entitlement.unit_primitive].name.to_string(),
                granted: verdict.is_granted(),
                code,
                detail,
                remedy,
                in_grace: verdict.is_in_grace(),
                until: entitlement.until.map(WireTime),
            }
        };
        decision.entitlements.iter().map(view).collect()
    }
}

/// The instant that is asked about.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
pub(crate) struct AtQuery {
    /// RFC 3339; now, if it is missing.
    at: Option<String>,
}

/// `GET /v1/entitlements?at=`
#[utoipa::path(get, path = "/v1/entitlements", tag = "instances", params(AtQuery),
    security(("instance_secret" = []), ("client_assertion" = [])),
    responses((status = 200, description = "Why each unit primitive is granted or not", body = ExplanationView)))]
pub(crate) async fn of_caller(
    app: web::Data<App>,
    request: HttpRequest,
    query: web::Query<AtQuery>,
) -> Result<HttpResponse, ApiError> {
    let claimed = authentication::claimed(&app, &request, &[])?;
    let mut tx = app.database.begin().await?;
    let caller = authentication::prove(&app, &mut tx, &claimed).await?;
    let view = explain(&app, &mut tx, caller.facts.uid, &query).await?;
    tx.commit().await.map_err(crate::storage::StorageError::from)?;
    Ok(HttpResponse::Ok().json(view))
}

/// Explains one instance: the past as it was recorded then and by the catalog that decided
/// then, now and the future by what is recorded now.
///
/// # Errors
/// 404 for an unknown instance, 422 for what is no instant.
pub(crate) async fn explain(
    app: &App,
    connection: &mut PgConnection,
    uid: InstanceUid,
    query: &AtQuery,
) -> Result<ExplanationView, ApiError> {
    let now = app.now();
    let at = query.at.as_deref().map_or(Ok(now), |text| parameters::instant("?at", text))?;
    let (situation, stored) = if at < now {
        let situation = facts::find_situation_as_recorded(connection, uid, at).await?;
        (situation, catalogs::find_active_at(connection, at).await?)
    } else {
        (facts::find_situation(connection, uid).await?, None)
    };
    let situation = situation.ok_or_else(|| ApiError::not_found("instance"))?;
    let current = app.catalog.load();
    let catalog = stored.as_ref().unwrap_or(&current.catalog);
    Ok(view(catalog, uid, &situation, app.grace(), at))
}

fn view(
    catalog: &Catalog,
    uid: InstanceUid,
    situation: &Situation,
    grace: chrono::TimeDelta,
    at: DateTime<Utc>,
) -> ExplanationView {
    let decision = decide(catalog, situation, grace, at);
    ExplanationView {
        instance_uid: uid.as_uuid(),
        at: WireTime(at),
        next_change_at: decision.next_change_at.map(WireTime),
        entitlements: EntitlementView::all(catalog, situation, &decision),
        catalog: CatalogView { digest: catalog.digest().as_str().to_owned() },
    }
}
