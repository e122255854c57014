//! Who asks on the admin API, whether they may, and what their request names.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, IF_MATCH};
use actix_web::{FromRequest, HttpRequest, web};
use chrono::{DateTime, TimeDelta, Utc};

use super::etag;
use super::page::Page;
use super::query::Query;
use crate::app::App;
use crate::domain::admin_scope::AdminScope;
use crate::domain::credential::{Credential, CredentialKind};
use crate::fulfillment::Expected;
use crate::http::authentication::{client_address, slow_down};
use crate::http::error::ApiError;
use crate::http::problems;
use crate::http::request_id::RequestId;
use crate::storage::StorageError;
use crate::storage::admin_tokens::{self, AdminTokenRow};
use crate::telemetry::metric_names::AUTHENTICATION_FAILURES;

/// One request of the admin API.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(super) app: web::Data<App>,
    pub(super) request: HttpRequest,
    pub(super) request_id: RequestId,
}

/// Who asks: the holder of a valid admin token.
#[derive(Debug)]
pub(crate) struct Caller(pub(super) AdminTokenRow);

/// What a view may depend on beside its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(super) now: DateTime<Utc>,
    pub(super) grace: TimeDelta,
}

impl FromRequest for Desk {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let request_id = RequestId::from_request(request, payload).into_inner();
        ready(match app {
            Some(app) => request_id.map(|request_id| Self { app, request: request.clone(), request_id }),
            None => Err(ApiError::fault("no application")),
        })
    }
}

impl Desk {
    /// Lets the holder of a valid token with this scope pass. Comes before anything of the request is parsed.
    ///
    /// # Errors
    /// 401, the same for every reason; 403 naming the scope; 429 where too many failed before.
    pub(crate) async fn admit(&self, scope: AdminScope) -> Result<Caller, ApiError> {
        let address = client_address(&self.app, &self.request);
        self.app.failed_authentications.admit(address, None).map_err(slow_down)?;
        let Some(caller) = self.authenticate().await? else {
            if self.request.headers().contains_key(AUTHORIZATION) {
                self.app.failed_authentications.failed(address, None);
                metrics::counter!(AUTHENTICATION_FAILURES, "surface" => "admin").increment(1);
            }
            return Err(ApiError::unauthenticated(CHALLENGE));
        };
        if !caller.0.scopes.contains(&scope) {
            let detail = format!("This needs a token with the scope {scope}.");
            return Err(ApiError::refused(&problems::FORBIDDEN, detail).with_member("scope", scope.as_str()));
        }
        Ok(caller)
    }

    /// The id in the path.
    ///
    /// # Errors
    /// 404 for what cannot be one.
    pub(crate) fn id<T: FromStr>(&self, what: &str) -> Result<T, ApiError> {
        self.segment("id", what)
    }

    /// A segment of the path by its name.
    ///
    /// # Errors
    /// 404 for what cannot be one.
    pub(crate) fn segment<T: FromStr>(&self, name: &str, what: &str) -> Result<T, ApiError> {
        let segment = self.request.match_info().get(name).unwrap_or_default();
        segment.parse().map_err(|_| ApiError::not_found(what))
    }

    /// The revisions that If-Match names, which this change needs.
    ///
    /// # Errors
    /// 428 where it is missing.
    pub(crate) fn required_match(&self, kind: &str, id: impl ToString) -> Result<Expected, ApiError> {
        if !self.request.headers().contains_key(IF_MATCH) {
            let detail = "This change needs If-Match with the ETag of the record as you know it.";
            return Err(ApiError::refused(&problems::PRECONDITION_REQUIRED, detail));
        }
        Ok(self.optional_match(kind, id))
    }

    /// The revisions that If-Match names; any, where it is missing.
    pub(crate) fn optional_match(&self, kind: &str, id: impl ToString) -> Expected {
        let given = self.request.headers().get_all(IF_MATCH).filter_map(|value| value.to_str().ok());
        match self.request.headers().contains_key(IF_MATCH) {
            true => etag::expected(given, kind, &id.to_string()),
            false => Expected::Any,
        }
    }

    /// The parameters of the query, each to be taken by its name.
    pub(crate) fn query(&self) -> Query {
        Query::of(self.request.query_string())
    }

    /// The page that is asked for, once every filter was taken.
    ///
    /// # Errors
    /// 422 with every unknown and wrong parameter.
    pub(crate) fn page<C: FromStr>(&self, query: Query) -> Result<Page<C>, ApiError> {
        query.page(self.request.path(), &self.app.keystore)
    }

    /// A connection to read with.
    ///
    /// # Errors
    /// 503 when the database is away.
    pub(crate) async fn read(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, StorageError> {
        self.app.database.begin().await
    }

    /// What views of this answer may depend on.
    pub(crate) fn seen(&self) -> Seen {
        Seen { now: self.app.now(), grace: self.app.grace() }
    }

    async fn authenticate(&self) -> Result<Option<Caller>, ApiError> {
        let header = self.request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|header| header.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // What was never handed out is not looked for.
        let Some(token) =
            token.and_then(|(_, token)| Credential::parse(CredentialKind::AdminToken, token.trim()))
        else {
            return Ok(None);
        };
        let now = self.app.now();
        let mut tx = self.app.database.begin().await?;
        let found = admin_tokens::find_by_digest(&mut tx, &self.app.keystore.digest(&token)).await?;
        let Some(row) = found.filter(|row| is_valid(row, now)) else { return Ok(None) };
        // What is only tried leaves no trace.
        if !self.query().flag("validate_only") {
            admin_tokens::update_last_used(&mut tx, &row, now).await?;
        }
        tx.commit().await.map_err(StorageError::from)?;
        Ok(Some(Caller(row)))
    }
}

impl Caller {
    /// What its requests are told apart from others' by.
    pub(super) fn id(&self) -> String {
        self.0.id.to_string()
    }

    /// As the audit names it.
    pub(super) fn actor(&self) -> String {
        format!("admin_token:{} {}", self.0.id, self.0.name)
    }

    /// What it may do.
    pub(crate) fn scopes(&self) -> &[AdminScope] {
        &self.0.scopes
    }
}

fn is_valid(row: &AdminTokenRow, now: DateTime<Utc>) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|expires_at| now < expires_at)
}

const CHALLENGE: &str = "Bearer realm=\"admin\"";
