//! `POST /api/v1/seat_links`: an older instance reports its seats.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::authentication::{self, Claimed};
use super::body::{Body, holds_nul};
use super::error::ApiError;
use super::legacy_caller::LegacyCaller;
use super::parameters::Invalid;
use super::time::WireTime;
use crate::app::App;
use crate::domain::version::Version;
use crate::storage::instances::{self, Reported};
use crate::storage::{StorageError, subscriptions};

/// What an older instance sends. Members that are not known here are ignored.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct SeatLinkBody {
    license_key: String,
    gitlab_version: String,
    /// When the seats were counted; kept as it came.
    timestamp: Option<String>,
    max_historical_user_count: Option<u64>,
    billable_users_count: Option<u64>,
    hostname: Option<String>,
    /// Kept with the report, like every other number that is told of add-ons.
    #[schema(value_type = Option<Object>)]
    add_on_metrics: Option<Value>,
}

/// What it is told.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SeatLinkView {
    success: bool,
    /// A new license key; never here: a key is given by activation alone.
    license: Option<String>,
    future_subscriptions: Vec<FutureSubscriptionView>,
    next_reconciliation_date: Option<String>,
    display_alert_from: Option<String>,
    /// What stands against it, where `success` is false.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Cow<'static, str>>,
}

/// A subscription of the same customer that starts later.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FutureSubscriptionView {
    plan: String,
    starts_at: WireTime,
    expires_at: WireTime,
    users_in_license_count: i32,
}

/// `POST /api/v1/seat_links`
#[utoipa::path(post, operation_id = "seat_links", path = "/api/v1/seat_links", tag = "older instances", request_body = SeatLinkBody, security(()),
    responses((status = 200, description = "The report is kept, with all that came before it", body = SeatLinkView),
              (status = 401, description = "Not a license key of this installation", body = SeatLinkView)))]
pub(crate) async fn report(
    app: web::Data<App>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = LegacyCaller::of(&app, &request)?;
    let body: SeatLinkBody = body.json()?;
    let (version, hostname) = parse(&body)?;

    // 1. Who reports. Whether anything is granted does not matter for what is counted.
    let mut tx = app.database.begin().await?;
    let claimed: Result<Claimed, ApiError> = caller.claim(&app, &body.license_key).await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(error) if error.status() == StatusCode::UNAUTHORIZED => return Ok(refused()),
        Err(error) => return Err(error),
    };
    let known =
        match authentication::prove_as(&app, &mut tx, &claimed, |app, claimed| caller.failed(app, claimed))
            .await
        {
            Ok(known) => known,
            Err(error) if error.status() == StatusCode::UNAUTHORIZED => return Ok(refused()),
            Err(error) => return Err(error),
        };

    // 2. Keep it.
    let now = app.now();
    let usage = json!({
        "timestamp": body.timestamp,
        "max_historical_user_count": body.max_historical_user_count,
        "billable_users_count": body.billable_users_count,
        "add_on_metrics": body.add_on_metrics,
    });
    let reported =
        Reported { uid: known.facts.uid, version: version.to_string(), hostname, usage: Some(usage) };
    instances::update_reported(&mut tx, &[reported], now).await?;
    let future = subscriptions::list_future_of_customer_of(&mut tx, known.facts.subscription_id, now).await?;
    tx.commit().await.map_err(StorageError::from)?;

    let future_subscriptions = future.into_iter().map(|row| FutureSubscriptionView {
        plan: row.license_type,
        starts_at: WireTime(row.starts_at),
        expires_at: WireTime(row.ends_at),
        users_in_license_count: row.seats,
    });
    Ok(HttpResponse::Ok().json(SeatLinkView {
        success: true,
        license: None,
        future_subscriptions: future_subscriptions.collect(),
        next_reconciliation_date: None,
        display_alert_from: None,
        errors: Vec::new(),
    }))
}

fn parse(body: &SeatLinkBody) -> Result<(Version, Option<String>), ApiError> {
    let mut invalid = Invalid::default();
    let version = invalid.parse("/gitlab_version", &body.gitlab_version);
    let hostname = body.hostname.clone().and_then(|hostname| invalid.text("/hostname", hostname, 255));
    if let Some(timestamp) = body.timestamp.clone() {
        let _ = invalid.text("/timestamp", timestamp, 64);
    }
    if body.add_on_metrics.as_ref().is_some_and(|metrics| holds_nul("", metrics)) {
        invalid.add("/add_on_metrics", "invalid", "must not contain the character U+0000");
    }
    match version {
        Some(version) => invalid.done().map(|()| (version, hostname)),
        None => Err(invalid.refuse()),
    }
}

fn refused() -> HttpResponse {
    HttpResponse::Unauthorized().json(SeatLinkView {
        success: false,
        license: None,
        future_subscriptions: Vec::new(),
        next_reconciliation_date: None,
        display_alert_from: None,
        errors: vec![Cow::Borrowed("The license key is not valid.")],
    })
}
