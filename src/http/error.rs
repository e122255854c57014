//! What a handler answers when it cannot do what was asked: a problem document (RFC 9457).
//!
//! A refusal is told in full. A fault is logged once, here, and told without detail.

use std::error::Error;
use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::problems::{self, Problem};
use crate::domain::entitlement::Obstacle;
use crate::storage::StorageError;

/// A refusal, or a fault.
#[derive(Debug)]
pub(crate) struct ApiError {
    problem: &'static Problem,
    detail: String,
    errors: Vec<InvalidValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Members that this one answer adds, such as the id of the record it collides with.
    extra: serde_json::Map<String, serde_json::Value>,
    /// What lies behind a fault. Logged, never told.
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// One wrong value of a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct InvalidValue {
    /// RFC 6901; for a parameter of the query `?name`.
    pub(crate) pointer: String,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl ApiError {
    /// A refusal of this kind.
    #[must_use]
    pub(crate) fn refused(problem: &'static Problem, detail: impl Into<String>) -> Self {
        Self {
            problem,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            extra: serde_json::Map::new(),
            source: None,
        }
    }

    /// 404; `what` names the kind of resource.
    #[must_use]
    pub(crate) fn not_found(what: &str) -> Self {
        Self::refused(&problems::NOT_FOUND, format!("There is no such {what}."))
    }

    /// 401; the same for every reason. `challenge` is the value of `WWW-Authenticate`.
    #[must_use]
    pub(crate) fn unauthenticated(challenge: &'static str) -> Self {
        Self::refused(&problems::UNAUTHENTICATED, "The credential is missing, wrong or expired.")
            .with_header(actix_web::http::header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 422 with every wrong value.
    #[must_use]
    pub(crate) fn invalid(errors: Vec<InvalidValue>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            several => format!("{} values are wrong.", several.len()),
        };
        Self { errors, ..Self::refused(&problems::INVALID_PARAMETERS, detail) }
    }

    /// 503, with a jittered `Retry-After`.
    #[must_use]
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::refused(&problems::UNAVAILABLE, detail).with_retry_after(jittered_delay())
    }

    /// 500: something went wrong here.
    #[must_use]
    pub(crate) fn fault(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::refused(&problems::INTERNAL, "The fault was logged.") }
    }

    /// Adds what lies behind: logged, never told.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`, in seconds.
    #[must_use]
    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds one member to the problem document (RFC 9457 §3.2).
    #[must_use]
    pub(crate) fn with_member(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.problem.code
    }

    /// What is told beside it.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.problem.status
    }

    /// Logs what lies behind a fault, where the answer is not a problem document.
    pub(crate) fn log(&self) {
        if let Some(source) = &self.source {
            tracing::error!(error = %Chain(source.as_ref()), "request failed: {}", self.problem.code);
        }
    }

    /// Whether the database ended what this is the fault of, to let another transaction go on.
    pub(crate) fn is_deadlock(&self) -> bool {
        let source = self.source.as_deref().and_then(|source| source.downcast_ref::<StorageError>());
        source.is_some_and(StorageError::is_deadlock)
    }

    /// The answer, complete; a fault is logged on the way.
    pub(crate) fn respond(&self, base_url: &str, request_id: &str) -> HttpResponse {
        if let Some(source) = &self.source {
            tracing::error!(request.id = request_id, error = %Chain(source.as_ref()), "request failed: {}", self.problem.code);
        }
        let mut response = HttpResponse::build(self.problem.status);
        for (name, value) in &self.headers {
            response.append_header((name.clone(), value.clone()));
        }
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        response.body(serde_json::to_vec(&self.document(base_url, request_id)).unwrap_or_default())
    }

    /// The problem document, for an answer of which it is a part.
    pub(crate) fn document<'a>(&'a self, base_url: &str, request_id: &'a str) -> impl Serialize + use<'a> {
        Document {
            r#type: format!("{base_url}/problems/{}", self.problem.code),
            title: self.problem.title,
            status: self.problem.status.as_u16(),
            detail: &self.detail,
            code: self.problem.code,
            remedy: self.problem.remedy,
            request_id,
            errors: &self.errors,
            extra: &self.extra,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    remedy: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [InvalidValue],
    #[serde(flatten)]
    extra: &'a serde_json::Map<String, serde_json::Value>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem.code, self.detail)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.problem.status
    }

    /// The middleware `request_id` answers in full; this is what is left without it.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        HttpResponse::new(self.problem.status)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.is_unavailable() {
            return Self::unavailable("The database cannot be reached.").with_source(error);
        }
        Self::fault(error)
    }
}

impl From<Obstacle> for ApiError {
    fn from(obstacle: Obstacle) -> Self {
        let problem = match obstacle {
            Obstacle::Expired { .. } => &problems::EXPIRED,
            Obstacle::InstanceBlocked => &problems::INSTANCE_BLOCKED,
            Obstacle::InstanceReleased => &problems::INSTANCE_RELEASED,
            Obstacle::LicenseNotOnline => &problems::LICENSE_NOT_ONLINE,
            Obstacle::LicenseRevoked { .. } => &problems::LICENSE_REVOKED,
            Obstacle::NotStarted { .. } => &problems::NOT_STARTED,
            Obstacle::SubscriptionCanceled => &problems::SUBSCRIPTION_CANCELED,
            Obstacle::SubscriptionSuspended => &problems::SUBSCRIPTION_SUSPENDED,
        };
        Self::refused(problem, obstacle.detail())
    }
}

/// An error and all that lies behind it, on one line.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

/// Between 1 and 5 seconds, so that callers that were refused together do not return together.
fn jittered_delay() -> u32 {
    let mut random = [0];
    // Without randomness the shortest delay is as good as any.
    let _ = aws_lc_rs::rand::fill(&mut random);
    1 + u32::from(random[0]) % 5
}
