//! Who may do what: every route, every scope, and every credential that is none.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority::domain::admin_scope::AdminScope;

use super::{changed, complaints, refused_post};
use crate::support::app::{TestApp, fresh_uuid, send, text};

/// One operation of the API's own description.
struct Operation {
    method: Method,
    path: String,
    scope: String,
}

/// Every operation under `/admin`, with an address that names nothing.
async fn operations(app: &TestApp) -> Vec<Operation> {
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        if !path.starts_with("/admin/") {
            continue;
        }
        for (method, operation) in methods.as_object().unwrap() {
            let scopes = &operation["security"][0]["admin_token"];
            assert_eq!(scopes.as_array().unwrap().len(), 1, "{method} {path} needs one scope: {scopes}");
            let path = path.replace("{id}", &fresh_uuid()).replace("{uid}", &fresh_uuid());
            let path = path.replace("{purchase_id}", &fresh_uuid()).replace("{name}", "no_such_backend");
            let path = path.replace("{jti}", &fresh_uuid()).replace("{version}", "999999");
            let path = path.replace("{kid}", &"A".repeat(43)).replace("{process_id}", "none");
            assert!(!path.contains('{'), "{path}: give its parameter a value here");
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                path,
                scope: text(&scopes[0]),
            });
        }
    }
    assert!(operations.len() >= 61, "only {} operations are described", operations.len());
    operations
}

/// The walks below follow the description: what is served and not described would be walked by none of them.
#[tokio::test]
async fn every_route_that_is_served_is_described_and_so_walked() {
    let app = TestApp::start().await;
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let table = include_str!("../../../src/http/admin.rs").split("\n}\n").next().unwrap();
    let mut served = BTreeSet::new();
    // Each path stands in the table once, as a text of its own; behind it its methods, or it is a verb.
    for (before, rest) in table.match_indices("\"/admin/v1/").map(|(at, _)| table.split_at(at)) {
        let mut texts = rest.split('"').skip(1).step_by(2);
        let path: String = texts.next().unwrap().replace(":[^/:]+}", "}");
        let methods = if before.ends_with("verb(") { "POST" } else { texts.next().unwrap() };
        served.extend(methods.split(", ").map(|method| format!("{} {path}", method.to_lowercase())));
    }
    let described: BTreeSet<String> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| path.starts_with("/admin/"))
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    assert_eq!(served, described);
    assert!(served.len() >= 62, "{}", served.len());
    // Nothing else hears of the admin API: whatever is not in the table is no resource.
    send(app.admin(Method::GET, "/admin/v1/undescribed")).await.refused(StatusCode::NOT_FOUND, "not_found");
}

async fn token(app: &TestApp, scopes: &[&str], expires_at: Option<&str>) -> Value {
    let body = json!({ "name": scopes.join(" "), "scopes": scopes, "expires_at": expires_at });
    app.admin_post("/admin/v1/admin-tokens", body).await
}

async fn without_limits() -> TestApp {
    TestApp::start_with(&[("FAILED_AUTHENTICATIONS_PER_ADDRESS", "1000000")]).await
}

#[tokio::test]
async fn each_route_lets_pass_who_has_its_scope_and_nobody_else() {
    let app = without_limits().await;
    let mut tokens = Vec::new();
    for scope in AdminScope::ALL {
        tokens.push((scope.as_str(), text(&token(&app, &[scope.as_str()], None).await["token"])));
    }
    for Operation { method, path, scope } in operations(&app).await {
        for (own, token) in &tokens {
            let request = app.request(method.clone(), &path).bearer_auth(token);
            let answer = send(request).await;
            if *own == scope {
                let passed = ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status);
                assert!(passed && !answer.status.is_server_error(), "{method} {path} with {own}: {answer:?}");
            } else {
                let problem = answer.refused(StatusCode::FORBIDDEN, "forbidden");
                assert_eq!(problem["scope"], scope.as_str(), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_valid_token_opens_nothing_and_is_always_told_alike() {
    let app = without_limits().await;
    let every: Vec<_> = AdminScope::ALL.iter().map(|scope| scope.as_str()).collect();
    let expiring = text(&token(&app, &every, Some("2026-11-20T13:00:00Z")).await["token"]);
    let revoked = token(&app, &every, None).await;
    let record = format!("/admin/v1/admin-tokens/{}", text(&revoked["id"]));
    changed(&app, Method::DELETE, &record, &record, json!({})).await;
    let last = expiring.len() - 1;
    let mistyped = format!("{}{}", &expiring[..last], if expiring.ends_with('A') { 'B' } else { 'A' });
    app.clock.set("2026-11-20T13:00:00Z".parse().unwrap());
    let credentials = [
        None,
        Some("Bearer ".to_owned()),
        Some("Bearer nonsense".to_owned()),
        Some(format!("Bearer {mistyped}")),
        Some(format!("Basic {expiring}")),
        Some(format!("Bearer {expiring}")),
        Some(format!("Bearer {}", text(&revoked["token"]))),
    ];
    for Operation { method, path, .. } in operations(&app).await {
        for credential in &credentials {
            let mut request = app.request(method.clone(), &path).body("{ no json");
            if let Some(credential) = credential {
                request = request.header("authorization", credential);
            }
            let answer = send(request).await;
            let problem = answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
            assert_eq!(problem["detail"], "The credential is missing, wrong or expired.");
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"admin\"");
        }
    }
}

#[tokio::test]
async fn too_many_failures_from_one_address_have_to_wait() {
    let app = TestApp::start_with(&[("FAILED_AUTHENTICATIONS_PER_ADDRESS", "5")]).await;
    let path = "/admin/v1/customers";
    let mut refused = 0;
    for _ in 0..10 {
        let answer = send(app.request(Method::GET, path).bearer_auth("taa_wrong")).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            answer.refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited");
            assert!(answer.headers.contains_key("retry-after"));
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused}");
    // Even a right token waits: what it is, is not looked at.
    send(app.admin(Method::GET, path)).await.refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited");
}

#[tokio::test]
async fn a_token_is_shown_once_and_gives_only_what_it_has() {
    let app = TestApp::start().await;
    let made = token(&app, &["admin_tokens:write", "fulfillment:read"], None).await;
    let secret = text(&made["token"]);
    assert!(secret.starts_with("taa_"));
    let record = format!("/admin/v1/admin-tokens/{}", text(&made["id"]));
    let read = app.admin_get(&record).await;
    assert_eq!(read["scopes"], json!(["admin_tokens:write", "fulfillment:read"]));
    assert_eq!(read["state"], "active");
    assert!(!read.to_string().contains(&secret[4..]) && read.get("token").is_none());

    let more = json!({ "name": "more", "scopes": ["fulfillment:read", "licenses:revoke"] });
    let request = app.request(Method::POST, "/admin/v1/admin-tokens").bearer_auth(&secret).json(&more);
    send(request).await.refused(StatusCode::FORBIDDEN, "forbidden");
    let same = json!({ "name": "same", "scopes": ["fulfillment:read"] });
    let request = app.request(Method::POST, "/admin/v1/admin-tokens").bearer_auth(&secret).json(&same);
    send(request).await.expect(StatusCode::CREATED);

    assert_eq!(app.admin_get(&record).await["last_used_at"], "2026-11-20T12:00:00Z");
    let revoked = changed(&app, Method::DELETE, &record, &record, json!({})).await;
    assert_eq!(
        (&revoked["state"], &revoked["revoked_at"]),
        (&json!("revoked"), &json!("2026-11-20T12:00:00Z"))
    );
    assert_eq!(app.admin_get(&record).await["state"], "revoked");
}

#[tokio::test]
async fn a_token_with_unknown_scopes_or_a_past_end_is_refused() {
    let app = TestApp::start().await;
    let path = "/admin/v1/admin-tokens";
    let body = json!({ "name": " ", "scopes": ["fulfillment:read", "everything"], "expires_at": "tomorrow" });
    let problem =
        refused_post(&app, path, &body, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
    assert_eq!(
        complaints(&problem),
        [("/name", "blank"), ("/scopes/1", "invalid"), ("/expires_at", "invalid")]
    );
    for (body, complaint) in [
        (json!({ "name": "n", "scopes": [] }), ("/scopes", "out_of_range")),
        (
            json!({ "name": "n", "scopes": ["audit:read"], "expires_at": "2026-11-20T12:00:00Z" }),
            ("/expires_at", "out_of_range"),
        ),
    ] {
        let problem =
            refused_post(&app, path, &body, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
        assert_eq!(complaints(&problem), [complaint]);
    }
}
