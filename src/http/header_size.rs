//! Refuses requests with very large headers: nothing that is served here needs any.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use super::error::ApiError;
use super::problems;

/// The middleware: 431 for more than [`MOST`] bytes of headers. The server itself reads eight times as many and no
/// more, whoever sends them.
pub(crate) async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let size =
        |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| {
            name.as_str().len() + value.len()
        };
    let bytes: usize = request.headers().iter().map(size).sum::<usize>() + request.uri().to_string().len();
    if bytes > MOST {
        let detail = format!("The address and the headers may have {MOST} bytes at the most.");
        let refused = ApiError::refused(&problems::HEADERS_TOO_LARGE, detail);
        return Ok(ServiceResponse::from_err(refused, request.into_parts().0).map_into_left_body());
    }
    Ok(next.call(request).await?.map_into_right_body())
}

/// A client assertion, a page token and what proxies add are a few thousand.
const MOST: usize = 16 * 1024;
