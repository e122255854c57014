//! A backend that serves whoever brings a token that permits it: three routes, one unit primitive each.

mod reporting;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;
use token_authority_verifier::actix::RequireToken;
use token_authority_verifier::{Claims, RequestError, RequestVerifier};
use tracing_subscriber::EnvFilter;

use embedded::unit_primitives::{COMPLETE_CODE, DUO_CHAT, GENERATE_COMMIT_MESSAGE};
use reporting::{Fitness, Reporter};

/// The key set and the contract, from the build.
mod embedded {
    token_authority_verifier::include_key_set!();
}

/// This backend's `jwt_aud` in the catalog.
const AUDIENCE: &str = "gitlab-ai-gateway";

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();

    // 1. Trust: from the build alone. This cannot fail in a build that passed its own checks.
    let keys = embedded::KEY_SET.open()?;
    let verifier = Arc::new(keys.live_verifier(AUDIENCE, now())?);
    let lock = keys.lock();
    tracing::info!("key set {} of `{}` by {}", lock.key_set_version, lock.environment, lock.issuer);

    // 2. Reports, where there is somebody to report to. Without, this backend serves all the same.
    let fitness = Fitness::default();
    let reporter = Reporter::from_environment(&keys, Arc::clone(&verifier), fitness.clone())?;
    let reporting = reporter.clone().map(|reporter| actix_web::rt::spawn(reporter.run()));

    // 3. Routes: each demands its unit primitive.
    let requests = RequestVerifier::new(verifier);
    let serving = HttpServer::new(move || {
        let route = |path: &str, unit_primitive: &'static str| {
            let permitted = RequireToken::new(requests.clone().permitting(unit_primitive));
            web::resource(path).wrap(permitted.with_observer(log_refusal)).route(web::get().to(answer))
        };
        App::new()
            .app_data(web::Data::new(fitness.clone()))
            .route("/health", web::get().to(health))
            .service(route("/completions", COMPLETE_CODE))
            .service(route("/chat", DUO_CHAT))
            .service(route("/commit-message", GENERATE_COMMIT_MESSAGE))
    });
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8081".to_owned());
    let serving = serving.workers(2).bind(&listen)?;
    for address in serving.addrs() {
        tracing::info!("serving on http://{address}");
    }
    serving.run().await?;

    // 4. A process that says goodbye holds no rotation up.
    if let Some(reporting) = reporting {
        reporting.abort();
    }
    if let Some(reporter) = reporter {
        reporter.sign_off().await;
    }
    Ok(())
}

/// Here the work would be done. The instance is who the token says.
async fn answer(claims: web::ReqData<Arc<Claims>>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "instance": claims.sub, "realm": claims.gitlab_realm }))
}

fn log_refusal(refusal: &RequestError) {
    tracing::info!(code = refusal.code(), "refused: {refusal}");
}

/// Whether requests should be sent here.
async fn health(fitness: web::Data<Fitness>) -> HttpResponse {
    match fitness.below_floor() {
        None => HttpResponse::Ok().json(json!({ "ready": true })),
        Some(floor) => HttpResponse::ServiceUnavailable().json(json!({
            "ready": false, "reason": format!("this build's key set is below the floor {floor}: rebuild it"),
        })),
    }
}

#[expect(clippy::disallowed_methods, reason = "a backend's clock is its machine's")]
fn now() -> SystemTime {
    SystemTime::now()
}
