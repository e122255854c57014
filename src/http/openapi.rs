//! The description of the HTTP surface (OpenAPI 3.1), generated from the handlers, and its page.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};
use utoipa_swagger_ui::SwaggerUi;

use super::routes::{get, resource, resource_of};
use super::{
    admin, catalog, deny_list, deployments, entitlements, graphql, health, instances, key_sets, oauth,
    seat_links, sync,
};

/// The description of every route.
#[derive(OpenApi)]
#[openapi(
    info(title = "token-authority", description = "Records what customers bought, decides what their instances may use, and mints the tokens that backends verify offline."),
    paths(
        instances::activate, instances::release, instances::rotate_credential, instances::access,
        instances::replace_access, instances::reported::reported, deployments::report, deployments::sign_off, deployments::record_checked_build,
        deny_list::read, sync::sync, oauth::token, oauth::metadata::read, graphql::answer, seat_links::report, entitlements::of_caller, catalog::read,
        key_sets::published_now, key_sets::discovery, key_sets::list, key_sets::latest, key_sets::by_version, key_sets::roots, health::live, health::ready,
    ),
    modifiers(&SecuritySchemes),
)]
pub(crate) struct Description;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let scheme = |scheme, about: &str| {
            SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(about)).build())
        };
        components.add_security_scheme(
            "admin_token",
            scheme(HttpAuthScheme::Bearer, "A token of the admin API (`taa_…`)."),
        );
        components.add_security_scheme(
            "backend_token",
            scheme(HttpAuthScheme::Bearer, "A backend's token (`tab_…`)."),
        );
        components.add_security_scheme(
            "client_assertion",
            scheme(HttpAuthScheme::Bearer, "A client assertion (RFC 7523) by the instance's registered key."),
        );
        components.add_security_scheme(
            "instance_secret",
            scheme(HttpAuthScheme::Basic, "The instance's uid and its secret (`tai_…`)."),
        );
    }
}

/// `/openapi.json`, and `/docs` as a page that loads nothing from elsewhere.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .service(resource("/docs", "GET").route(get().to(to_page)))
        .service(SwaggerUi::new(PAGE).url(FILE, description()))
        // What the page's library does not take.
        .service(resource_of(PAGE, "GET".to_owned()))
        .service(resource_of(FILE, "GET".to_owned()));
}

const FILE: &str = "/openapi.json";
const PAGE: &str = "/docs/{_:.*}";

/// The description of all that is served here.
fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    description.merge(admin::Description::openapi());
    // The generator reads it from the package, which names none.
    description.info.license = None;
    describe_refusals(&mut description);
    description
}

async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}

/// Every operation may answer a problem document: the statuses are told once, here.
fn describe_refusals(description: &mut utoipa::openapi::OpenApi) {
    let schemas = &mut description.components.get_or_insert_default().schemas;
    schemas.insert("InvalidValueView".to_owned(), InvalidValueView::schema());
    schemas.insert("Problem".to_owned(), ProblemView::schema());
    let problem = ResponseBuilder::new()
        .description("A problem document (RFC 9457): its `code` says which, its `type` is a page on it")
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
        )
        .build();
    for path in description.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            for status in ["4XX", "5XX"] {
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem.clone()));
            }
        }
    }
}

/// A problem document.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, written by `error`")]
pub(crate) struct ProblemView {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    /// Stable; programs compare it.
    code: String,
    remedy: String,
    request_id: String,
    /// One for each wrong value of a 422.
    errors: Option<Vec<InvalidValueView>>,
}

/// One wrong value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, written by `error`")]
pub(crate) struct InvalidValueView {
    /// RFC 6901; for a parameter of the query `?name`.
    pointer: String,
    code: String,
    detail: String,
}
