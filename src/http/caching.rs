//! Answers that a caller may keep: under an entity tag, and 304 to whoever has them already.

use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse};

/// A JSON answer under the digest of what it says; 304 to whoever has it already (RFC 9110 §13.1.2).
pub(crate) fn cached(
    request: &HttpRequest,
    digest: &str,
    cache_control: &'static str,
    json: String,
) -> HttpResponse {
    let etag = format!("\"{digest}\"");
    let known = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    let is_known = known
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, cache_control));
    if is_known { response.finish() } else { response.content_type("application/json").body(json) }
}
