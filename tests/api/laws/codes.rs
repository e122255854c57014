//! Every code of the decision and of the refusals is reached over HTTP by some request.

use std::collections::BTreeSet;
use std::fs;

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority::catalog_files;
use token_authority::issuing::LoadedCatalog;

use crate::support::app::{
    Answer, Instance, Sold, TestApp, activate, activation, beginning, fresh_uuid, sell, send, text,
};

/// What keeps a whole instance from syncing, in the order of the checks.
const OBSTACLES: [&str; 8] = [
    "license_not_online",
    "license_revoked",
    "subscription_canceled",
    "subscription_suspended",
    "not_started",
    "expired",
    "instance_released",
    "instance_blocked",
];

/// A change of a record, made on what it says now.
async fn change(app: &TestApp, record: &str, verb: &str, body: Value) {
    let etag = send(app.admin(Method::GET, record)).await.headers["etag"].clone();
    let request = app.admin(Method::POST, &format!("{record}:{verb}")).header("if-match", etag);
    let answer = send(request.json(&body)).await;
    assert!(answer.status.is_success(), "{record}:{verb}: {answer:?}");
}

async fn sold_and_active(app: &TestApp) -> (Sold, Instance) {
    let sold = sell(app, None, 1).await;
    let instance = activate(app, &sold.activation_code).await;
    (sold, instance)
}

#[tokio::test]
async fn each_obstacle_is_a_403_at_the_sync_and_told_in_the_explanation_too() {
    for code in OBSTACLES {
        let app = TestApp::start().await;
        let (sold, instance) = sold_and_active(&app).await;
        let license = format!("/admin/v1/licenses/{}", sold.license_id);
        let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
        let record = format!("/admin/v1/instances/{}", instance.uid);
        let reason = json!({ "reason": "for the table" });
        match code {
            // No record turns into another kind: only a hand can show it to an instance that is active.
            "license_not_online" => {
                let sql = "update licenses set kind = 'offline', revision = revision + 1";
                sqlx::query(sql).execute(&mut *app.database().await).await.unwrap();
            }
            "license_revoked" => change(&app, &license, "revoke", reason).await,
            "subscription_canceled" => change(&app, &subscription, "cancel", reason).await,
            "subscription_suspended" => change(&app, &subscription, "suspend", reason).await,
            "not_started" => app.clock.set(beginning() - TimeDelta::days(20)),
            "expired" => app.clock.set(beginning() + TimeDelta::days(400)),
            "instance_released" => change(&app, &record, "release", reason).await,
            _ => change(&app, &record, "block", reason).await,
        }
        let synced = instance.sync(&app, &json!({ "version": "17.6.1" })).await;
        synced.refused(StatusCode::FORBIDDEN, code);
        let path = format!("{record}/entitlements");
        for request in
            [app.admin(Method::GET, &path), instance.request(&app, Method::GET, "/v1/entitlements")]
        {
            let explained = send(request).await.expect(StatusCode::OK);
            let told: BTreeSet<_> =
                explained["entitlements"].as_array().unwrap().iter().map(|one| text(&one["code"])).collect();
            assert_eq!(told, BTreeSet::from([code.to_owned()]), "{explained}");
        }
    }
}

/// One primitive for each check that can fail, and for each cause of a grant.
const PRIMITIVES: [(&str, &str, &str); 8] = [
    ("by_add_on", "add_on:pro", "cut_off_date: 2024-01-01T00:00:00Z\nadd_ons: [pro]"),
    ("by_plan", "license_type:premium", "cut_off_date: 2024-01-01T00:00:00Z"),
    ("elsewhere", "not_in_realm", ""),
    ("free", "free_access", ""),
    ("for_newer", "version_too_old", "min_gitlab_version_for_free_access: 99.0"),
    ("for_others", "license_type_not_eligible", "license_types: [ultimate]"),
    ("not_bought", "add_on_not_purchased", "cut_off_date: 2024-01-01T00:00:00Z\nadd_ons: [rare]"),
    ("off", "disabled_by_instance", ""),
];

#[tokio::test]
async fn each_check_of_a_unit_primitive_is_told_by_its_code() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |path: String, text: String| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (name, _, more) in PRIMITIVES {
        let plans = if more.contains("license_types") { "" } else { "license_types: [premium]\n" };
        let text = format!(
            "name: {name}\ndescription: One.\nfeature_category: x\nbackend_services: [gateway]\n{plans}{more}\n"
        );
        write(format!("unit_primitives/{name}.yml"), text);
    }
    write("backend_services/gateway.yml".into(), "name: gateway\njwt_aud: example-gateway\n".into());
    for name in ["pro", "rare", "duo_pro"] {
        write(format!("add_ons/{name}.yml"), format!("name: {name}\n"));
    }
    for name in ["premium", "ultimate"] {
        write(format!("license_types/{name}.yml"), format!("name: {name}\n"));
    }
    let service = "name: hosted\ngitlab_realm: [gitlab-com]\nunit_primitives: [elsewhere]\n";
    write("services/hosted.yml".into(), service.into());
    let catalog = catalog_files::read(folder.path()).unwrap();
    app.app.catalog.replace(LoadedCatalog { catalog, number: 1 });

    let sold = sell(&app, Some("pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let off = json!({ "disabled_unit_primitives": ["off"] });
    send(instance.request(&app, Method::PUT, "/v1/instances/me/access").json(&off))
        .await
        .expect(StatusCode::OK);
    let explained =
        send(instance.request(&app, Method::GET, "/v1/entitlements")).await.expect(StatusCode::OK);
    let told = explained["entitlements"].as_array().unwrap();
    assert_eq!(told.len(), PRIMITIVES.len());
    for (name, code, _) in PRIMITIVES {
        let one = told.iter().find(|one| one["unit_primitive"] == name).unwrap();
        assert_eq!(one["code"], code, "{one}");
        let granted = ["free_access", "add_on:pro", "license_type:premium"].contains(&code);
        assert_eq!(one["granted"], granted, "{one}");
        assert!(one["detail"].is_string() && one["remedy"].is_string() != granted, "{one}");
    }
}

/// What answers `refused` with this code. Faults and what the database being away does are in `refusals`.
async fn refused(app: &TestApp, sold: &Sold, instance: &Instance, code: &str) -> Answer {
    let json = |method: Method, path: &str, body: Value| app.admin(method, path).json(&body);
    let customer = format!("/admin/v1/customers/{}", sold.customer_id);
    let activate = async |body: &Value| send(app.request(Method::POST, "/v1/instances").json(body)).await;
    match code {
        "conflict" => {
            let body = json!({ "name": "Example GmbH", "external_ref": "C-1" });
            app.admin_post("/admin/v1/customers", body.clone()).await;
            send(json(Method::POST, "/admin/v1/customers", body)).await
        }
        "forbidden" => {
            let reader = json!({ "name": "reader", "scopes": ["audit:read"] });
            let reader = app.admin_post("/admin/v1/admin-tokens", reader).await;
            send(app.request(Method::GET, &customer).bearer_auth(text(&reader["token"]))).await
        }
        "idempotency_key_reused" => {
            let make = async |name: &str| {
                let request = json(Method::POST, "/admin/v1/customers", json!({ "name": name }));
                send(request.header("idempotency-key", "k")).await
            };
            make("One").await.expect(StatusCode::CREATED);
            make("Another").await
        }
        "instance_cap_reached" => activate(&activation(&sold.activation_code, &fresh_uuid())).await,
        "instance_mismatch" => {
            let other = sell(app, None, 1).await;
            activate(&activation(&other.activation_code, &instance.instance_id)).await
        }
        "invalid_parameters" => instance.sync(app, &json!({ "version": 7 })).await,
        "invalid_request" => {
            let request = instance.request(app, Method::POST, "/v1/sync");
            send(request.header("content-type", "application/json").body("{")).await
        }
        "keys/unknown_key_set" => {
            let new = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 1 });
            app.admin_post("/admin/v1/backends", new).await;
            let token = app.admin_post("/admin/v1/backends/ai_gateway:rotate-token", json!({})).await;
            let digest = format!("sha256:{}", "0".repeat(64));
            let report = json!({
                "build": "1", "key_set_version": 1, "key_set_digest": digest, "verifier": "x",
                "algorithms": ["EdDSA"], "deny_list_serial": 0, "probe_results": [],
            });
            let request = app.request(Method::PUT, "/v1/backends/ai_gateway/deployments/1");
            send(request.bearer_auth(text(&token["token"])).json(&report)).await
        }
        "method_not_allowed" => send(app.request(Method::PUT, "/v1/sync")).await,
        "not_found" => send(app.admin(Method::GET, "/admin/v1/customers/no-uuid")).await,
        "precondition_failed" => {
            let request = json(Method::PATCH, &customer, json!({ "name": "Another" }));
            send(request.header("if-match", "\"x\"")).await
        }
        "precondition_required" => send(json(Method::PATCH, &customer, json!({ "name": "Another" }))).await,
        "rate_limited" => {
            let wrong = Instance { uid: fresh_uuid(), ..instance.clone() };
            for _ in 0..10 {
                let answer = wrong.sync(app, &json!({ "version": "18.0.0" })).await;
                answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
            }
            wrong.sync(app, &json!({ "version": "18.0.0" })).await;
            wrong.sync(app, &json!({ "version": "18.0.0" })).await
        }
        "too_large" => {
            let request = instance.request(app, Method::POST, "/v1/sync");
            send(request.header("content-type", "application/json").body(vec![b' '; 8 << 20])).await
        }
        "unauthenticated" => send(app.request(Method::POST, "/v1/sync").json(&json!({}))).await,
        "unsupported_media_type" => {
            send(
                instance
                    .request(app, Method::POST, "/v1/sync")
                    .header("content-type", "text/plain")
                    .body("{}"),
            )
            .await
        }
        other => panic!("nothing is refused with {other}"),
    }
}

#[tokio::test]
async fn each_code_of_the_refusals_is_reached_with_its_status() {
    for (status, codes) in [
        (400, &["invalid_request"][..]),
        (401, &["unauthenticated"]),
        (403, &["forbidden", "instance_cap_reached"]),
        (404, &["not_found"]),
        (405, &["method_not_allowed"]),
        (409, &["conflict", "instance_mismatch", "idempotency_key_reused", "keys/unknown_key_set"]),
        (412, &["precondition_failed"]),
        (413, &["too_large"]),
        (415, &["unsupported_media_type"]),
        (422, &["invalid_parameters"]),
        (428, &["precondition_required"]),
        (429, &["rate_limited"]),
    ] {
        for code in codes {
            let app = TestApp::start().await;
            let (sold, instance) = sold_and_active(&app).await;
            let answer = refused(&app, &sold, &instance, code).await;
            answer.refused(StatusCode::from_u16(status).unwrap(), code);
        }
    }
}
