//! Gives each request an id, and turns what went wrong into the problem document that carries it.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use std::future::{Ready, ready};
use std::time::Instant;

use opentelemetry::context::FutureExt;
use tracing::Instrument;

use super::error::ApiError;
use super::problems::{self, Problem};
use crate::app::App;
use crate::telemetry::metric_names::HTTP_REQUESTS;
use crate::telemetry::traces::RequestTrace;

/// The id under which a request is logged, audited and answered.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(String);

impl RequestId {
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The caller's own id where it is a plain word, else a fresh one.
    fn of(request: &ServiceRequest, app: &App) -> Self {
        let given = request.headers().get(&HEADER).and_then(|value| value.to_str().ok());
        match given.filter(|id| is_plain(id)) {
            Some(id) => Self(id.to_owned()),
            None => Self(crate::domain::ids::RequestUuid::generate(app.clock.now()).to_string()),
        }
    }
}

impl FromRequest for RequestId {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.extensions().get::<Self>().cloned();
        ready(id.ok_or_else(|| ApiError::fault("a request without its id")))
    }
}

/// The middleware: around all others but the one that adds headers, so that every answer carries the id.
pub(crate) async fn identify(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let app =
        request.app_data::<web::Data<App>>().cloned().ok_or_else(|| ApiError::fault("no application"))?;
    let id = RequestId::of(&request, &app);
    request.extensions_mut().insert(id.clone());
    let header = HeaderValue::from_str(&id.0).unwrap_or_else(|_| HeaderValue::from_static("unreadable"));
    let began = Instant::now();
    let trace = RequestTrace::begin(request.method().as_str(), request.headers());
    // The routes turn every error into a response; what comes as an error here never reached them.
    let response = match &trace {
        Some(trace) => next.call(request).with_context(trace.context()).instrument(span_of(trace)).await?,
        None => next.call(request).await?,
    };
    let told = match response.response().error() {
        Some(error) => Some(told(error, &app, &id)),
        None => untold(&response).map(|refusal| refusal.respond(app.issuer(), &id.0)),
    };
    let mut answered = match told {
        Some(told) => response.into_response(told).map_into_right_body(),
        None => response.map_into_left_body(),
    };
    answered.headers_mut().insert(HEADER.clone(), header);
    log(&answered, &id, began, trace.as_ref());
    Ok(answered)
}

/// What gives each log line of the request the id of its trace.
fn span_of(trace: &RequestTrace) -> tracing::Span {
    tracing::error_span!("request", trace_id = trace.id())
}

/// One line for each answer, and its count. What succeeds is told at `debug` where it happens all the time.
fn log<B>(answered: &ServiceResponse<B>, id: &RequestId, began: Instant, trace: Option<&RequestTrace>) {
    let request = answered.request();
    let route = request.match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let status = answered.status().as_u16();
    metrics::counter!(HTTP_REQUESTS, "route" => route.clone(), "status" => answered.status().as_str().to_owned())
        .increment(1);
    let (id, method) = (id.as_str(), request.method().as_str());
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    let _traced = trace.map(|trace| {
        trace.end(method, &route, status, id);
        span_of(trace).entered()
    });
    let routine = status < 400 && (route == "/v1/sync" || route.starts_with("/health/"));
    if routine {
        tracing::debug!(
            request.id = id,
            http.method = method,
            http.route = route,
            http.status = status,
            milliseconds,
            "answered"
        );
    } else {
        tracing::info!(
            request.id = id,
            http.method = method,
            http.route = route,
            http.status = status,
            milliseconds,
            "answered"
        );
    }
}

fn told(error: &Error, app: &App, id: &RequestId) -> actix_web::HttpResponse {
    let base_url = app.issuer();
    if let Some(error) = error.as_error::<ApiError>() {
        return error.respond(base_url, &id.0);
    }
    // What the framework itself refuses before a handler runs: an unreadable path or header.
    let status = error.as_response_error().status_code();
    let fallback = if status.is_client_error() {
        let problem = problem_of(status);
        ApiError::refused(problem, problem.cause)
    } else {
        ApiError::fault(error.to_string())
    };
    fallback.respond(base_url, &id.0)
}

/// What a library refused in its own words: the page of the API's description does. Whoever answers in JSON
/// speaks the words of another standard, as `/oauth/token` does.
fn untold<B>(response: &ServiceResponse<B>) -> Option<ApiError> {
    let status = response.status();
    let is_json = |kind: &HeaderValue| {
        kind.as_bytes().starts_with(b"application/json") || kind == "application/problem+json"
    };
    if !status.is_client_error() || response.headers().get(CONTENT_TYPE).is_some_and(is_json) {
        return None;
    }
    let problem = problem_of(status);
    Some(ApiError::refused(problem, problem.cause))
}

fn problem_of(status: StatusCode) -> &'static Problem {
    let found = problems::ALL.iter().find(|problem| problem.status == status);
    found.copied().unwrap_or(&problems::INVALID_REQUEST)
}

fn is_plain(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

static HEADER: HeaderName = HeaderName::from_static("x-request-id");
