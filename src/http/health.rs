//! `/health`: whether this process lives, and whether it can answer syncs now.

use actix_web::{HttpResponse, web};
use chrono::SecondsFormat;
use serde::Serialize;

use crate::app::App;
use crate::storage::{Schema, StorageError, backends, facts, safe_mode};

/// One thing that is needed, and what is the matter with it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Check {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Whether this process can answer syncs now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct HealthView {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// `GET /health/live`
#[utoipa::path(get, path = "/health/live", tag = "health", security(()),
    responses((status = 200, description = "The process answers", body = HealthView)))]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(HealthView { status: "live", checks: Vec::new() })
}

/// `GET /health/ready`
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()),
    responses((status = 200, description = "Syncs can be answered", body = HealthView),
              (status = 503, description = "What is wrong", body = HealthView)))]
pub(crate) async fn ready(app: web::Data<App>) -> HttpResponse {
    let checks = vec![
        queue(&app),
        database(&app).await,
        signing_key_and_clock(&app).await,
        safe_mode(&app).await,
        clock_mark(&app).await,
    ];
    if checks.iter().all(|check| check.ok) {
        HttpResponse::Ok().json(HealthView { status: "ready", checks })
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header(("Retry-After", "2"))
            .json(HealthView { status: "unready", checks })
    }
}

fn queue(app: &App) -> Check {
    let (waiting, limit) = (app.issuing.waiting(), app.settings.sync_queue_limit.get());
    let full = waiting >= limit;
    Check { name: "queue", ok: !full, detail: full.then(|| format!("{waiting} of {limit} syncs wait")) }
}

async fn database(app: &App) -> Check {
    let detail = match app.database.schema().await {
        // A newer program that only added leaves this one ready, or no rollout would be without a gap.
        Ok(Schema::Ahead(_) | Schema::Current) => None,
        Ok(Schema::Behind(versions)) => {
            Some(format!("migrations {versions:?} are missing: run `token-authority migrate`"))
        }
        Ok(Schema::Beyond { needs }) => {
            Some(format!("the database is for programs that know migration {needs}: run such a one"))
        }
        Err(error) if error.is_unavailable() => Some("the database cannot be reached".to_owned()),
        Err(error) => {
            tracing::error!(%error, "the readiness check failed");
            Some("the database cannot be read".to_owned())
        }
    };
    Check { name: "database", ok: detail.is_none(), detail }
}

async fn signing_key_and_clock(app: &App) -> Check {
    let detail = match signing(app).await {
        Ok(Signing { has_key: true, skew, unserved }) if skew <= MOST_SKEW_SECONDS => {
            // The others are served: a replica that is taken out for this would take theirs away, too.
            return Check { name: "signing_key", ok: true, detail: unserved };
        }
        Ok(Signing { has_key: true, skew, .. }) => {
            Some(format!("the clocks of this process and the database differ by {skew} seconds"))
        }
        Ok(Signing { has_key: false, .. }) => {
            Some("no signing key is active: run `token-authority init`, or `keys plan`".to_owned())
        }
        Err(_) => Some("the database cannot be read".to_owned()),
    };
    Check { name: "signing_key", ok: detail.is_none(), detail }
}

/// What signing needs.
struct Signing {
    /// Whether any key may sign.
    has_key: bool,
    /// By how many seconds the clocks differ.
    skew: i64,
    /// Which backends get no tokens all the same.
    unserved: Option<String>,
}

/// An old copy of the database mints nothing until `recover` has told it what it forgot.
async fn safe_mode(app: &App) -> Check {
    let found = async {
        let mut tx = app.database.begin().await?;
        safe_mode::find(&mut tx, app.settings.environment.as_str()).await
    };
    let detail = match found.await {
        Ok(None) => None,
        Ok(Some(mode)) => Some(format!(
            "safe mode since {}: {}; run `token-authority recover`",
            mode.since.to_rfc3339_opts(SecondsFormat::Secs, true),
            mode.reason
        )),
        Err(_) => Some("the database cannot be read".to_owned()),
    };
    Check { name: "safe_mode", ok: detail.is_none(), detail }
}

async fn clock_mark(app: &App) -> Check {
    let found = async {
        let mut tx = app.database.begin().await?;
        safe_mode::find_clock_jump(&mut tx, app.settings.environment.as_str()).await
    };
    let detail = match found.await {
        Ok(None) => None,
        Ok(Some(back)) => Some(format!(
            "the database's clock jumped back by {} seconds; nothing is minted until it is set right",
            back.num_seconds()
        )),
        Err(_) => Some("the database cannot be read".to_owned()),
    };
    Check { name: "clock", ok: detail.is_none(), detail }
}

async fn signing(app: &App) -> Result<Signing, StorageError> {
    let environment = app.settings.environment.as_str();
    let mut tx = app.database.begin().await?;
    let unserved = backends::list_unserved(&mut tx, environment, app.now()).await?;
    let unserved: Vec<_> = unserved.iter().map(|(name, alg)| format!("{name} ({alg})")).collect();
    let unserved = (!unserved.is_empty())
        .then(|| format!("no key may sign for {}: they get no tokens; run `keys plan`", unserved.join(", ")));
    let (has_key, database_now) = facts::find_key_and_clock(&mut tx, environment, app.now()).await?;
    let skew = (app.clock.settle(database_now) - app.clock.now()).num_seconds().abs();
    Ok(Signing { has_key, skew, unserved })
}

/// A replica further off than this from the database is not ready.
const MOST_SKEW_SECONDS: i64 = 5;
