//! A middleware for actix-web: only requests with a good token reach the handlers behind it.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::body::EitherBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{Error, HttpMessage as _, HttpResponse, web};

use crate::claims::Claims;
use crate::request::{Headers, RequestError, RequestVerifier, system_clock};

/// Wraps an app, a scope or a route. What is refused is answered with 401, 403 or 503, `WWW-Authenticate` and
/// `application/problem+json`; handlers behind it take the claims as `web::ReqData<Arc<Claims>>`.
///
/// ```
/// use std::sync::Arc;
/// use actix_web::{App, web};
/// use token_authority_verifier::{Claims, LiveVerifier, RequestVerifier, actix::RequireToken};
///
/// fn app(verifier: Arc<LiveVerifier>) -> App<impl actix_web::dev::ServiceFactory<
///     actix_web::dev::ServiceRequest, Config = (), Response = actix_web::dev::ServiceResponse,
///     Error = actix_web::Error, InitError = ()>> {
///     let chat = RequestVerifier::new(verifier).permitting("duo_chat");
///     App::new().service(
///         web::resource("/v1/chat")
///             .wrap(actix_web::middleware::Compat::new(RequireToken::new(chat)))
///             .to(|claims: web::ReqData<Arc<Claims>>| async move { format!("hello, {}", claims.sub) }),
///     )
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RequireToken {
    requests: RequestVerifier,
    clock: fn() -> SystemTime,
    observer: fn(&RequestError),
}

impl RequireToken {
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

impl<S, B> Transform<S, ServiceRequest> for RequireToken
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = RequireTokenService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(RequireTokenService { service: Rc::new(service), judge: self.clone() }))
    }
}

/// What [`RequireToken`] makes of a service.
#[derive(Debug)]
pub struct RequireTokenService<S> {
    service: Rc<S>,
    judge: RequireToken,
}

impl<S, B> Service<ServiceRequest> for RequireTokenService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let RequireToken { requests, clock, observer } = &self.judge;
        match requests.judge(request.headers(), clock()) {
            Ok(claims) => {
                request.extensions_mut().insert::<Arc<Claims>>(claims);
                let served = self.service.call(request);
                Box::pin(async move { Ok(served.await?.map_into_left_body()) })
            }
            Err(refusal) => {
                observer(&refusal);
                let answer = answer(requests, &refusal);
                Box::pin(async move {
                    drain(&mut request).await;
                    Ok(request.into_response(answer).map_into_right_body())
                })
            }
        }
    }
}

fn answer(requests: &RequestVerifier, refusal: &RequestError) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut answer = HttpResponse::build(status);
    answer.insert_header((WWW_AUTHENTICATE, requests.challenge(refusal)));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.insert_header((RETRY_AFTER, usize::from(RequestError::RETRY_AFTER_SECONDS)));
    }
    answer.content_type("application/problem+json").body(requests.problem(refusal))
}

/// An answer before the body was read makes actix close the connection, and a client that goes on sending pays for a new
/// one. A small body is read; whoever sends a large one without a good token may connect anew.
async fn drain(request: &mut ServiceRequest) {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| (1..=DRAINED_BYTES).contains(&length)) {
        // What cannot be read closes the connection, as it would have been.
        let _ = request.extract::<web::Bytes>().await;
    }
}

const DRAINED_BYTES: usize = 65_536;

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).map(|value| value.as_bytes())
    }
}
