//! A layer for tower, and so for axum, tonic and hyper: only requests with a good token reach the service behind it.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::Either;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::claims::Claims;
use crate::request::{Headers, RequestError, RequestVerifier, system_clock};

/// Refuses with 401, 403 or 503, `WWW-Authenticate` and `application/problem+json`. Services behind it find the claims in
/// the request's extensions, as `Arc<Claims>`.
///
/// ```
/// use std::sync::Arc;
/// use axum::{Extension, Router, routing::post};
/// use token_authority_verifier::{Claims, LiveVerifier, RequestVerifier, tower::RequireTokenLayer};
///
/// fn app(verifier: Arc<LiveVerifier>) -> Router {
///     let chat = RequestVerifier::new(verifier).permitting("duo_chat");
///     Router::new()
///         .route("/v1/chat", post(|Extension(claims): Extension<Arc<Claims>>| async move { claims.sub.clone() }))
///         .layer(RequireTokenLayer::new(chat))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RequireTokenLayer {
    requests: RequestVerifier,
    clock: fn() -> SystemTime,
    observer: fn(&RequestError),
}

impl RequireTokenLayer {
    /// Lets pass what `requests` accepts, by the system's clock.
    #[must_use]
    pub fn new(requests: RequestVerifier) -> Self {
        Self { requests, clock: system_clock, observer: |_| {} }
    }

    /// Judges by another clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Tells each refusal, for logs and counters. Nothing of the token is in it.
    #[must_use]
    pub fn with_observer(mut self, observer: fn(&RequestError)) -> Self {
        self.observer = observer;
        self
    }
}

impl<S> Layer<S> for RequireTokenLayer {
    type Service = RequireToken<S>;

    fn layer(&self, service: S) -> RequireToken<S> {
        RequireToken { service, judge: self.clone() }
    }
}

/// What [`RequireTokenLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RequireToken<S> {
    service: S,
    judge: RequireTokenLayer,
}

impl<S, A, B> Service<Request<A>> for RequireToken<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: From<String>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<B>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let RequireTokenLayer { requests, clock, observer } = &self.judge;
        match requests.judge(request.headers(), clock()) {
            Ok(claims) => {
                request.extensions_mut().insert::<Arc<Claims>>(claims);
                Either::Left(self.service.call(request))
            }
            Err(refusal) => {
                observer(&refusal);
                Either::Right(ready(Ok(answer(requests, &refusal))))
            }
        }
    }
}

fn answer<B: From<String>>(requests: &RequestVerifier, refusal: &RequestError) -> Response<B> {
    let mut answer = Response::new(B::from(requests.problem(refusal)));
    *answer.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // A challenge has visible ASCII only.
    if let Ok(challenge) = HeaderValue::from_str(&requests.challenge(refusal)) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if refusal.status() == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        headers.insert(RETRY_AFTER, HeaderValue::from(RequestError::RETRY_AFTER_SECONDS));
    }
    answer
}

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }
}
