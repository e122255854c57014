//! What every answer tells browsers: believe no more than what is said, and show it nowhere else.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::DefaultHeaders;

/// The headers of a service of this issuer, where an answer does not say otherwise.
pub(super) fn of(issuer: &str) -> DefaultHeaders {
    let headers = DefaultHeaders::new()
        // What says nothing of caches is for the caller alone.
        .add((CACHE_CONTROL, "no-store"))
        .add((CONTENT_SECURITY_POLICY, POLICY))
        .add((REFERRER_POLICY, "no-referrer"))
        .add((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((X_FRAME_OPTIONS, "DENY"));
    // A browser that came by HTTPS once is not to be led back.
    if issuer.starts_with("https://") {
        headers.add((STRICT_TRANSPORT_SECURITY, "max-age=31536000"))
    } else {
        headers
    }
}

/// The page of the API's description brings its own scripts and asks this service; the pages of problems have a
/// style; nothing else shows anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
