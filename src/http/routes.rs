//! The route table: every path, its methods, and who answers.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpResponse, Resource, Route, guard, web};

use super::body::Body;
use super::error::ApiError;
use super::{
    admin, catalog, deny_list, deployments, entitlements, graphql, health, instances, key_sets, oauth,
    openapi, problems, seat_links, sync,
};

/// The public surface.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        // Instances.
        .service(resource("/v1/instances", "POST").route(web::post().to(instances::activate)))
        .service(resource("/v1/instances/me", "DELETE").route(web::delete().to(instances::release)))
        .service(
            resource("/v1/instances/me/access", "GET, PUT")
                .route(get().to(instances::access))
                .route(web::put().to(instances::replace_access)),
        )
        .service(resource("/v1/instances/me/reported", "GET").route(get().to(instances::reported::reported)))
        .service(
            resource("/v1/instances/me/credential", "POST")
                .route(web::post().to(instances::rotate_credential)),
        )
        .service(resource("/v1/sync", "POST").route(web::post().to(sync::sync)))
        .service(resource("/oauth/token", "POST").route(web::post().to(oauth::token)))
        // Older instances.
        .app_data(web::Data::new(graphql::schema()))
        .service(resource("/graphql", "POST").route(web::post().to(graphql::answer)))
        .service(resource("/api/v1/seat_links", "POST").route(web::post().to(seat_links::report)))
        .service(resource("/v1/entitlements", "GET").route(get().to(entitlements::of_caller)))
        // Backends.
        .service(
            resource("/v1/backends/{name}/deployments/{process_id}", "DELETE, PUT")
                .route(web::delete().to(deployments::sign_off))
                .route(web::put().to(deployments::report)),
        )
        .service(
            resource("/v1/backends/{name}/checked-builds", "POST")
                .route(web::post().to(deployments::record_checked_build)),
        )
        // Public.
        .service(resource("/v1/catalog", "GET").route(get().to(catalog::read)))
        .service(resource("/v1/deny-list", "GET").route(get().to(deny_list::read)))
        .service(resource("/.well-known/jwks.json", "GET").route(get().to(key_sets::published_now)))
        .service(resource("/oauth/discovery/keys", "GET").route(get().to(key_sets::published_now)))
        .service(resource("/.well-known/openid-configuration", "GET").route(get().to(key_sets::discovery)))
        .service(
            resource("/.well-known/oauth-authorization-server", "GET").route(get().to(oauth::metadata::read)),
        )
        .service(resource("/v1/key-sets", "GET").route(get().to(key_sets::list)))
        .service(resource("/v1/key-sets/latest", "GET").route(get().to(key_sets::latest)))
        .service(resource("/v1/key-sets/{version}", "GET").route(get().to(key_sets::by_version)))
        .service(resource("/v1/roots", "GET").route(get().to(key_sets::roots)))
        // For people and load balancers.
        .service(resource("/health/live", "GET").route(get().to(health::live)))
        .service(resource("/health/ready", "GET").route(get().to(health::ready)))
        .service(resource("/problems/{code:.*}", "GET").route(get().to(problems::page)))
        // Order systems, support, operators.
        .configure(admin::configure)
        .configure(openapi::configure)
        .default_service(web::to(not_found));
}

/// A path and the methods that it has; any other is told which there are (RFC 9110 §15.5.6).
/// What can be read with GET can be asked for with HEAD.
pub(crate) fn resource(path: &str, methods: &str) -> Resource {
    resource_of(path, methods.replacen("GET", "GET, HEAD", 1))
}

/// The same for what a library answers: it has these methods, and no HEAD of ours.
pub(crate) fn resource_of(path: &str, methods: String) -> Resource {
    web::resource(path.to_owned())
        .default_service(web::to(move |_: Body| method_not_allowed(methods.clone())))
}

/// Reads, for GET and for HEAD, whose answer is the same without its body (RFC 9110 §9.3.2).
pub(crate) fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn method_not_allowed(methods: String) -> Result<HttpResponse, ApiError> {
    let allow = HeaderValue::from_str(&methods).map_err(ApiError::fault)?;
    let detail = format!("This resource has the methods {methods}.");
    Err(ApiError::refused(&problems::METHOD_NOT_ALLOWED, detail).with_header(ALLOW, allow))
}

async fn not_found(_: Body) -> Result<HttpResponse, ApiError> {
    Err(ApiError::not_found("resource"))
}
