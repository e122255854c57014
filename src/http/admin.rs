//! `/admin/v1`: what order systems, support and operators may see and change.
//!
//! Every handler reads alike: who asks, what they ask, one use case, the answer. What they
//! have in common is written once: `desk` lets callers pass, `query` and `members` read what
//! they send, `change` runs every change, `page` every list.

mod add_on_purchases;
mod admin_tokens;
mod audit_events;
mod backends;
mod change;
mod customers;
mod deployments;
mod described;
mod desk;
mod effects;
mod etag;
mod events;
pub(crate) mod imports;
mod instances;
mod issuances;
mod key_sets;
mod keys;
mod licenses;
mod members;
pub(crate) mod page;
mod query;
mod reports;
mod resource;
mod subscriptions;
mod webhooks;

use actix_web::Resource;
use actix_web::web::{ServiceConfig, delete, patch, post};
use utoipa::OpenApi;

use super::routes::{get, resource as route};

/// The routes. An id stops at a colon, behind which a verb stands.
pub(crate) fn configure(config: &mut ServiceConfig) {
    config
        .service(
            route("/admin/v1/customers", "GET, POST")
                .route(get().to(customers::list))
                .route(post().to(customers::create)),
        )
        .service(
            route("/admin/v1/customers/{id:[^/:]+}", "GET, PATCH")
                .route(get().to(customers::read))
                .route(patch().to(customers::amend)),
        )
        .service(verb("/admin/v1/customers/{id:[^/:]+}:archive").route(post().to(customers::archive)))
        .service(
            route("/admin/v1/subscriptions", "GET, POST")
                .route(get().to(subscriptions::list))
                .route(post().to(subscriptions::create)),
        )
        .service(
            route("/admin/v1/subscriptions/{id:[^/:]+}", "GET, PATCH")
                .route(get().to(subscriptions::read))
                .route(patch().to(subscriptions::amend)),
        )
        .service(verb("/admin/v1/subscriptions/{id:[^/:]+}:suspend").route(post().to(subscriptions::suspend)))
        .service(verb("/admin/v1/subscriptions/{id:[^/:]+}:resume").route(post().to(subscriptions::resume)))
        .service(verb("/admin/v1/subscriptions/{id:[^/:]+}:renew").route(post().to(subscriptions::renew)))
        .service(verb("/admin/v1/subscriptions/{id:[^/:]+}:cancel").route(post().to(subscriptions::cancel)))
        .service(
            route("/admin/v1/subscriptions/{id:[^/:]+}/add-on-purchases", "GET, POST")
                .route(get().to(add_on_purchases::list))
                .route(post().to(add_on_purchases::create)),
        )
        .service(
            route(
                "/admin/v1/subscriptions/{id:[^/:]+}/add-on-purchases/{purchase_id:[^/:]+}",
                "DELETE, GET, PATCH",
            )
            .route(delete().to(add_on_purchases::end))
            .route(get().to(add_on_purchases::read))
            .route(patch().to(add_on_purchases::amend)),
        )
        .service(
            route("/admin/v1/licenses", "GET, POST")
                .route(get().to(licenses::list))
                .route(post().to(licenses::create)),
        )
        .service(
            route("/admin/v1/licenses/{id:[^/:]+}", "GET, PATCH")
                .route(get().to(licenses::read))
                .route(patch().to(licenses::amend)),
        )
        .service(verb("/admin/v1/licenses/{id:[^/:]+}:revoke").route(post().to(licenses::revoke)))
        .service(verb("/admin/v1/licenses/{id:[^/:]+}:reissue").route(post().to(licenses::reissue)))
        .service(route("/admin/v1/instances", "GET").route(get().to(instances::list)))
        .service(route("/admin/v1/instances/{uid:[^/:]+}", "GET").route(get().to(instances::read)))
        .service(
            route("/admin/v1/instances/{uid:[^/:]+}/entitlements", "GET").route(get().to(instances::explain)),
        )
        .service(
            route("/admin/v1/instances/{uid:[^/:]+}/issuances", "GET").route(get().to(instances::issuances)),
        )
        .service(route("/admin/v1/instances/{uid:[^/:]+}/reports", "GET").route(get().to(instances::reports)))
        .service(verb("/admin/v1/instances/{uid:[^/:]+}:block").route(post().to(instances::block)))
        .service(verb("/admin/v1/instances/{uid:[^/:]+}:unblock").route(post().to(instances::unblock)))
        .service(verb("/admin/v1/instances/{uid:[^/:]+}:release").route(post().to(instances::release)))
        .service(
            verb("/admin/v1/instances/{uid:[^/:]+}:settle-identity")
                .route(post().to(instances::settle_identity)),
        )
        .service(
            verb("/admin/v1/instances/{uid:[^/:]+}:allow-reactivation")
                .route(post().to(instances::allow_reactivation)),
        )
        .service(
            route("/admin/v1/imports", "GET, POST")
                .route(get().to(imports::list))
                .route(post().to(imports::create)),
        )
        .service(route("/admin/v1/imports/{id:[^/:]+}", "GET").route(get().to(imports::read)))
        .service(route("/admin/v1/imports/{id:[^/:]+}/results", "GET").route(get().to(imports::results)))
        .service(
            route("/admin/v1/backends", "GET, POST")
                .route(get().to(backends::list))
                .route(post().to(backends::create)),
        )
        .service(
            route("/admin/v1/backends/{name:[^/:]+}", "GET, PATCH")
                .route(get().to(backends::read))
                .route(patch().to(backends::amend)),
        )
        .service(
            verb("/admin/v1/backends/{name:[^/:]+}:rotate-token").route(post().to(backends::rotate_token)),
        )
        .service(route("/admin/v1/reports/at-risk", "GET").route(get().to(reports::at_risk)))
        .service(route("/admin/v1/reports/contracts", "GET").route(get().to(reports::of_contracts)))
        .service(
            route("/admin/v1/backends/{name:[^/:]+}/deployments", "GET").route(get().to(deployments::list)),
        )
        .service(
            verb("/admin/v1/backends/{name:[^/:]+}/deployments/{process_id:[^/:]+}:forget")
                .route(post().to(deployments::forget)),
        )
        .service(
            route("/admin/v1/admin-tokens", "GET, POST")
                .route(get().to(admin_tokens::list))
                .route(post().to(admin_tokens::create)),
        )
        .service(
            route("/admin/v1/admin-tokens/{id:[^/:]+}", "DELETE, GET")
                .route(delete().to(admin_tokens::revoke))
                .route(get().to(admin_tokens::read)),
        )
        .service(route("/admin/v1/keys", "GET").route(get().to(keys::list)))
        .service(route("/admin/v1/keys/{kid:[^/:]+}", "GET").route(get().to(keys::read)))
        .service(route("/admin/v1/key-sets", "GET").route(get().to(key_sets::list)))
        .service(route("/admin/v1/key-sets/{version:[^/:]+}", "GET").route(get().to(key_sets::read)))
        .service(route("/admin/v1/issuances", "GET").route(get().to(issuances::list)))
        .service(route("/admin/v1/issuances/{jti:[^/:]+}", "GET").route(get().to(issuances::read)))
        .service(route("/admin/v1/audit-events", "GET").route(get().to(audit_events::list)))
        .service(route("/admin/v1/audit-events/checkpoint", "GET").route(get().to(audit_events::checkpoint)))
        .service(route("/admin/v1/events", "GET").route(get().to(events::list)))
        .service(
            route("/admin/v1/webhooks", "GET, POST")
                .route(get().to(webhooks::list))
                .route(post().to(webhooks::create)),
        )
        .service(
            route("/admin/v1/webhooks/{id:[^/:]+}", "DELETE, GET, PATCH")
                .route(delete().to(webhooks::delete))
                .route(get().to(webhooks::read))
                .route(patch().to(webhooks::amend)),
        )
        .service(verb("/admin/v1/webhooks/{id:[^/:]+}:replay").route(post().to(webhooks::replay)))
        .service(
            verb("/admin/v1/webhooks/{id:[^/:]+}:rotate-secret").route(post().to(webhooks::rotate_secret)),
        );
}

/// A verb on a resource is a POST.
fn verb(path: &str) -> Resource {
    route(path, "POST")
}

/// The description of the routes.
#[derive(OpenApi)]
#[openapi(paths(
    add_on_purchases::amend,
    add_on_purchases::create,
    add_on_purchases::end,
    add_on_purchases::list,
    add_on_purchases::read,
    admin_tokens::create,
    admin_tokens::list,
    admin_tokens::read,
    admin_tokens::revoke,
    audit_events::checkpoint,
    audit_events::list,
    backends::amend,
    backends::create,
    backends::list,
    backends::read,
    backends::rotate_token,
    customers::amend,
    customers::archive,
    customers::create,
    customers::list,
    customers::read,
    deployments::forget,
    deployments::list,
    events::list,
    imports::create,
    imports::list,
    imports::read,
    imports::results,
    instances::allow_reactivation,
    instances::block,
    instances::explain,
    instances::issuances,
    instances::list,
    instances::read,
    instances::release,
    instances::reports,
    instances::settle_identity,
    instances::unblock,
    issuances::list,
    issuances::read,
    key_sets::list,
    key_sets::read,
    keys::list,
    keys::read,
    licenses::amend,
    licenses::create,
    licenses::list,
    licenses::read,
    licenses::reissue,
    licenses::revoke,
    reports::at_risk,
    reports::of_contracts,
    subscriptions::amend,
    subscriptions::cancel,
    subscriptions::create,
    subscriptions::list,
    subscriptions::read,
    subscriptions::renew,
    subscriptions::resume,
    subscriptions::suspend,
    webhooks::amend,
    webhooks::create,
    webhooks::delete,
    webhooks::list,
    webhooks::read,
    webhooks::replay,
    webhooks::rotate_secret,
))]
pub(crate) struct Description;
