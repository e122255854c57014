//! What every resource of the admin API has: a kind, an id, a revision, an address and a view.

use actix_web::HttpResponse;
use actix_web::http::header::ETAG;
use serde::Serialize;

use super::desk::{Desk, Seen};
use super::etag;
use crate::http::error::ApiError;

/// A record that can be read and changed.
pub(crate) trait Resource {
    /// In the audit, and in entity tags.
    const KIND: &'static str;

    /// What is told of it. Holds no secret and no digest of one: the audit keeps it too.
    type View: Serialize;

    fn id(&self) -> String;

    fn revision(&self) -> i64;

    /// Where it can be read.
    fn path(&self) -> String;

    fn view(&self, seen: Seen) -> Self::View;

    /// The entity tag of this revision.
    fn etag(&self) -> String {
        etag::of(Self::KIND, &self.id(), self.revision())
    }
}

/// The answer to a read of one record.
///
/// # Errors
/// 404 where there is none.
pub(crate) fn one<R: Resource>(desk: &Desk, found: Option<R>, what: &str) -> Result<HttpResponse, ApiError> {
    let found = found.ok_or_else(|| ApiError::not_found(what))?;
    Ok(HttpResponse::Ok().insert_header((ETAG, found.etag())).json(found.view(desk.seen())))
}
