//! THE table of refusals: each code with its status, cause and remedy, and the page that tells them.
//!
//! A code is stable: programs compare it. `type` of a problem document (RFC 9457 §3.1.1)
//! is the address of its page here.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::error::ApiError;
use crate::app::App;

/// One kind of refusal or failure.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) remedy: &'static str,
    /// Whether the same request may succeed later.
    pub(crate) retry: &'static str,
}

macro_rules! problems {
    ($($name:ident = $code:literal, $status:ident, $title:literal, cause: $cause:literal, remedy: $remedy:literal, retry: $retry:literal;)*) => {
        $(pub(crate) static $name: Problem = Problem {
            code: $code, status: StatusCode::$status, title: $title, cause: $cause, remedy: $remedy, retry: $retry,
        };)*
        /// Every problem, in the order of their codes.
        pub(crate) static ALL: &[&Problem] = &[$(&$name),*];
    };
}

problems! {
    CONFLICT = "conflict", CONFLICT, "Conflicts with what is recorded",
        cause: "The request contradicts a record that exists, for example an external_ref that is taken.",
        remedy: "Read the record that the answer names, and decide which of the two is right.",
        retry: "No: the same request is refused again until something changes.";
    EXPIRED = "expired", FORBIDDEN, "The subscription has ended",
        cause: "The subscription's term and its grace are over.",
        remedy: "Renew the subscription.",
        retry: "After the renewal; the next sync sees it at once.";
    FORBIDDEN = "forbidden", FORBIDDEN, "Not allowed",
        cause: "The credential is valid, but it does not allow this.",
        remedy: "Use a credential with the scope that the answer names, or ask an administrator.",
        retry: "No: the same request is refused again until something changes.";
    HEADERS_TOO_LARGE = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large",
        cause: "The address and the headers of the request are larger than anything that is served here needs.",
        remedy: "Look at what the client or a proxy adds: cookies, for example, are never read here.",
        retry: "No: the same request is refused again.";
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", CONFLICT, "The idempotency key belongs to another request",
        cause: "This Idempotency-Key came before with another body.",
        remedy: "Use a new key for a new request, and the same body for a retry.",
        retry: "No: the same request is refused again until something changes.";
    INSTANCE_BLOCKED = "instance_blocked", FORBIDDEN, "The instance is blocked",
        cause: "An administrator of the vendor blocked this instance.",
        remedy: "Ask the vendor's support why, and have it unblocked.",
        retry: "After it was unblocked.";
    INSTANCE_CAP_REACHED = "instance_cap_reached", FORBIDDEN, "The license has no place left",
        cause: "As many instances of this kind are active as the license allows.",
        remedy: "Release an instance that is no longer used (its place is free when its last token expires), or have the cap raised.",
        retry: "After a place became free.";
    INSTANCE_MISMATCH = "instance_mismatch", CONFLICT, "The instance is active under another license",
        cause: "An instance with this instance_id is active under another license.",
        remedy: "Release it there first, or give a copied installation an instance_id of its own.",
        retry: "After it was released.";
    INSTANCE_RELEASED = "instance_released", FORBIDDEN, "The instance was released",
        cause: "This instance was given back.",
        remedy: "Activate it again with an activation code.",
        retry: "After it was activated again.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "A fault of this service",
        cause: "Something went wrong here; it was logged with the request id.",
        remedy: "Retry; if it stays, give the request id to the operator.",
        retry: "Yes, with growing delays.";
    INVALID_PARAMETERS = "invalid_parameters", UNPROCESSABLE_ENTITY, "Some values are wrong",
        cause: "The request is well-formed, but values in it are missing, unknown or wrong.",
        remedy: "Each entry of `errors` points at one value and says what would do.",
        retry: "No: the same request is refused again until something changes.";
    INVALID_REQUEST = "invalid_request", BAD_REQUEST, "The request is malformed",
        cause: "The body is not JSON, or a header cannot be read.",
        remedy: "Send what the API description shows.",
        retry: "No: the same request is refused again until something changes.";
    KEYS_BELOW_FLOOR = "keys/below_floor", CONFLICT, "The key set is too old to be deployed",
        cause: "The build holds a key set below the floor: a key that may sign soon is not in it.",
        remedy: "Rebuild the backend with the newest key set.",
        retry: "After the rebuild.";
    KEYS_NOT_READY = "keys/not_ready", CONFLICT, "The key is not ready",
        cause: "Not every running backend has proved that it verifies this key.",
        remedy: "See which backends and processes the answer names, and rebuild or sign them off.",
        retry: "After they proved it.";
    KEYS_UNKNOWN_KEY_SET = "keys/unknown_key_set", CONFLICT, "No such key set was published",
        cause: "The digest that was reported belongs to no key set of this service.",
        remedy: "Rebuild the backend with a published key set; treat an unexplained one as an attack.",
        retry: "After the rebuild.";
    LICENSE_NOT_ONLINE = "license_not_online", FORBIDDEN, "The license is not an online one",
        cause: "Hosted features need an online license.",
        remedy: "Ask the vendor for an online license and activate with its code.",
        retry: "After an activation under an online license.";
    LICENSE_REVOKED = "license_revoked", FORBIDDEN, "The license was revoked",
        cause: "The vendor revoked this license.",
        remedy: "Ask the vendor for a new license and activate with its code.",
        retry: "After an activation under another license.";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "The resource has no such method",
        cause: "This address exists, but not with this method.",
        remedy: "Use one of the methods in the Allow header.",
        retry: "No: the same request is refused again until something changes.";
    NOT_FOUND = "not_found", NOT_FOUND, "Not found",
        cause: "No resource is at this address.",
        remedy: "Check the address and the id.",
        retry: "No: the same request is refused again until something changes.";
    NOT_STARTED = "not_started", FORBIDDEN, "The subscription has not started",
        cause: "The subscription's term lies ahead.",
        remedy: "Wait for its start, or have it brought forward.",
        retry: "After the start.";
    PRECONDITION_FAILED = "precondition_failed", PRECONDITION_FAILED, "The record has changed",
        cause: "If-Match names another version of the record than the current one.",
        remedy: "Read the record again, and repeat the change on what it says now.",
        retry: "With the current ETag.";
    PRECONDITION_REQUIRED = "precondition_required", PRECONDITION_REQUIRED, "If-Match is missing",
        cause: "This change needs the ETag of the record that it was made on.",
        remedy: "Send If-Match with the ETag of the last read.",
        retry: "With If-Match.";
    RATE_LIMITED = "rate_limited", TOO_MANY_REQUESTS, "Too many failed attempts",
        cause: "Too many requests from this address, or for this instance, failed to authenticate.",
        remedy: "Mend the credential, and wait as Retry-After says.",
        retry: "After Retry-After seconds.";
    SUBSCRIPTION_CANCELED = "subscription_canceled", FORBIDDEN, "The subscription was canceled",
        cause: "The subscription was canceled.",
        remedy: "Buy a new subscription.",
        retry: "After an activation under another license.";
    SUBSCRIPTION_SUSPENDED = "subscription_suspended", FORBIDDEN, "The subscription is suspended",
        cause: "The vendor suspended this subscription.",
        remedy: "Settle what it was suspended for with the vendor.",
        retry: "After it was resumed.";
    TOO_LARGE = "too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        cause: "The body is longer than this endpoint takes.",
        remedy: "Send less.",
        retry: "No: the same request is refused again until something changes.";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, "Not authenticated",
        cause: "The credential is missing, wrong, expired or revoked; which of these is not told.",
        remedy: "Send a valid credential as the API description says; if it was lost, activate again or have a new one made.",
        retry: "With another credential.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "Not available right now",
        cause: "The database cannot be reached, or more requests wait than can be served in time.",
        remedy: "Retry as Retry-After says; tokens that were issued go on being valid.",
        retry: "After Retry-After seconds.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body is not of the expected type",
        cause: "The Content-Type is not one that this endpoint reads.",
        remedy: "Send application/json (a merge patch may say application/merge-patch+json).",
        retry: "No: the same request is refused again until something changes.";
}

/// The problem with this code.
#[must_use]
pub(crate) fn find(code: &str) -> Option<&'static Problem> {
    ALL.iter().copied().find(|problem| problem.code == code)
}

/// `GET /problems/{code}`: what the code means, for people.
pub(crate) async fn page(_app: web::Data<App>, code: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let Problem { code, status, title, cause, remedy, retry } =
        find(&code).ok_or_else(|| ApiError::not_found("problem"))?;
    let status = status.as_u16();
    Ok(HttpResponse::Ok().content_type("text/html; charset=utf-8").body(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}}dt{{font-weight:600}}</style>\
         <h1>{title}</h1><p><code>{code}</code>, status {status}</p>\
         <dl><dt>Cause<dd>{cause}<dt>Remedy<dd>{remedy}<dt>May I retry?<dd>{retry}</dl></html>"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_spelled_alike() {
        let codes: Vec<_> = ALL.iter().map(|problem| problem.code).collect();
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(codes, sorted);
        for code in codes {
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '/'), "{code}");
        }
    }
}
