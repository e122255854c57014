//! `POST /graphql`: what instances speak that know the older surface alone.
//!
//! Two operations over the same use cases as everything else. One request names one license key or one activation
//! code, however many fields it has; how deep and how costly it may be is bounded before anything runs.

mod access;
mod activate;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::{HttpRequest, HttpResponse, web};
use async_graphql::{EmptySubscription, Error, ErrorExtensions, Schema};

use super::body::Body;
use super::error::ApiError;
use super::legacy_caller::LegacyCaller;
use super::request_id::RequestId;
use crate::app::App;

use self::access::Query;
use self::activate::Mutation;

/// The schema, put together once for each worker.
pub(crate) type LegacySchema = Schema<Query, Mutation, EmptySubscription>;

/// The schema with its bounds. Depth suffices for the usual introspection query; the cost of a field that asks the
/// database is set so that a few of them are the most.
pub(crate) fn schema() -> LegacySchema {
    Schema::build(Query, Mutation, EmptySubscription)
        .limit_depth(20)
        .limit_complexity(COMPLEXITY)
        .limit_recursive_depth(32)
        .limit_directives(4)
        .finish()
}

/// `POST /graphql`
#[utoipa::path(post, operation_id = "graphql", path = "/graphql", tag = "older instances", security(()),
    request_body(content = serde_json::Value, description = "A GraphQL request: `query`, `variables`, `operationName`"),
    responses((status = 200, description = "`data` and `errors`, as the GraphQL specification says", body = serde_json::Value)))]
pub(crate) async fn answer(
    app: web::Data<App>,
    schema: web::Data<LegacySchema>,
    request: HttpRequest,
    id: RequestId,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = LegacyCaller::of(&app, &request)?;
    let asked: async_graphql::Request = body.json()?;
    let one = Arc::new(OneCredential::default());
    let asked = asked.data(app.into_inner()).data(caller).data(id).data(Arc::clone(&one));
    let mut answer = schema.execute(asked).await;
    // Fields run side by side: whichever credential came first, the request is refused as a whole.
    if one.was_broken() {
        answer.data = async_graphql::Value::Null;
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// The one credential of a request: with several, one request could try many.
#[derive(Debug, Default)]
pub(crate) struct OneCredential {
    first: Mutex<Option<[u8; 32]>>,
    broken: AtomicBool,
}

impl OneCredential {
    /// # Errors
    /// Another one came before in the same request.
    pub(crate) fn admit(&self, digest: [u8; 32]) -> Result<(), Error> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        match *first {
            Some(known) if known != digest => {
                self.broken.store(true, Ordering::Relaxed);
                Err(refusal("invalid_request", "One request names one credential; send a request for each."))
            }
            _ => {
                *first = Some(digest);
                Ok(())
            }
        }
    }
}

impl OneCredential {
    /// Whether a second one came.
    fn was_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// A refusal in the `errors` member, with the stable code that every other surface has for it.
pub(crate) fn refusal(code: &str, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

/// The same of what the other surfaces answer as a problem document; a fault is logged on the way.
pub(crate) fn refused(error: &ApiError) -> Error {
    error.log();
    refusal(error.code(), error.detail())
}

/// What one request may cost in all: a field that asks the database costs 50, any other 1.
const COMPLEXITY: usize = 250;
