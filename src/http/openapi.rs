//! The description of the HTTP surface (OpenAPI 3.1), generated from the handlers, and its page.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use super::{admin, catalog, entitlements, health, instances, key_sets, sync};

/// The description of every route.
#[derive(OpenApi)]
#[openapi(
    info(title = "token-authority", description = "Records what customers bought, decides what their instances may use, and mints the tokens that backends verify offline."),
    paths(
        instances::activate, instances::release, instances::rotate_credential, instances::access,
        instances::replace_access, sync::sync, entitlements::of_caller, catalog::read,
        key_sets::published_now, key_sets::discovery, key_sets::list, key_sets::latest, key_sets::by_version, health::live, health::ready,
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
        .service(web::resource("/docs").route(web::get().to(to_page)))
        .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", description()));
}

/// The description of all that is served here.
fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    description.merge(admin::Description::openapi());
    description
}

async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}
