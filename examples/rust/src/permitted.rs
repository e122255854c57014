//! Lets a handler be called only with a token that permits it.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};
use token_authority_verifier::{Claims, Headers, RequestVerifier};

use crate::now;

/// What the token of a permitted request says.
pub(crate) struct Permitted(pub(crate) Arc<Claims>);

/// The answer to a request that is not.
#[derive(Debug)]
pub(crate) struct Refused {
    code: &'static str,
    status: StatusCode,
    /// Says why, and which key set this build has; never anything of the token.
    challenge: String,
    problem: String,
}

impl FromRequest for Permitted {
    type Error = Refused;
    type Future = Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(match request.app_data::<web::Data<RequestVerifier>>() {
            Some(requests) => judge(requests, request),
            None => Err(Refused::unguarded()),
        })
    }
}

fn judge(requests: &RequestVerifier, request: &HttpRequest) -> Result<Permitted, Refused> {
    requests.judge(&Fields(request.headers()), now()).map(Permitted).map_err(|refusal| {
        tracing::info!(code = refusal.code(), path = request.path(), "refused: {refusal}");
        Refused {
            code: refusal.code(),
            status: StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED),
            challenge: requests.challenge(&refusal),
            problem: requests.problem(&refusal),
        }
    })
}

impl Refused {
    /// A route that forgot to say what it demands is closed, not open.
    fn unguarded() -> Self {
        Self {
            code: "unguarded",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            challenge: "Bearer".to_owned(),
            problem: r#"{"code":"unguarded","status":500,"title":"Internal Server Error"}"#.to_owned(),
        }
    }
}

/// The header fields as actix has them.
struct Fields<'a>(&'a HeaderMap);

impl Headers for Fields<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.get_all(name).map(|value| value.as_bytes())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status)
            .insert_header((WWW_AUTHENTICATE, self.challenge.clone()))
            .insert_header((CONTENT_TYPE, "application/problem+json"))
            .body(self.problem.clone())
    }
}
