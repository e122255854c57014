//! What every change has in common: preconditions, the audit, and bad input that changes nothing.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};

use super::{change, changed, complaints, etag, new_subscription, refused_post, subscription};
use crate::support::app::{TestApp, fresh_uuid, sell, send, text};

/// Every row of every table, as JSON.
pub(super) async fn whole_database(app: &TestApp) -> BTreeMap<String, Vec<String>> {
    let mut connection = app.deployment().database.connection().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables \
         where table_schema = 'public' and table_type = 'BASE TABLE' order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut rows = BTreeMap::new();
    for table in tables {
        let sql = format!("select to_jsonb(t)::text as row from {table} t order by 1");
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        rows.insert(table, found.iter().map(|row| row.get("row")).collect());
    }
    rows
}

/// The tables whose rows differ.
pub(super) async fn tables_changed_since(
    app: &TestApp,
    before: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let now = whole_database(app).await;
    now.into_iter().filter(|(table, rows)| before.get(table) != Some(rows)).map(|(table, _)| table).collect()
}

#[tokio::test]
async fn a_change_is_made_on_the_record_that_was_read_or_not_at_all() {
    let app = TestApp::start().await;
    let one = app.admin_post("/admin/v1/customers", json!({ "name": "One" })).await;
    let other = app.admin_post("/admin/v1/customers", json!({ "name": "Other" })).await;
    let [one, other] = [one, other].map(|made| format!("/admin/v1/customers/{}", text(&made["id"])));
    let body = json!({ "name": "Changed" });
    let missing = send(app.admin(Method::PATCH, &one).json(&body)).await;
    missing.refused(StatusCode::PRECONDITION_REQUIRED, "precondition_required");
    let stale = etag(&app, &one).await;
    let answer = change(&app, Method::PATCH, &one, &one, body.clone()).await;
    assert_eq!(answer.headers["etag"].to_str().unwrap(), etag(&app, &one).await);
    let weak = format!("W/{}", etag(&app, &one).await);
    for wrong in [stale, etag(&app, &other).await, weak, "\"\"".to_owned(), "nonsense".to_owned()] {
        let answer = send(app.admin(Method::PATCH, &one).header("if-match", &wrong).json(&body)).await;
        answer.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    }
    send(app.admin(Method::PATCH, &one).header("if-match", "*").json(&body)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn every_change_that_takes_something_away_needs_if_match() {
    let app = TestApp::start().await;
    let id = fresh_uuid();
    let reason = json!({ "reason": "why" });
    for (method, path, body) in [
        (Method::PATCH, format!("/admin/v1/customers/{id}"), json!({})),
        (Method::POST, format!("/admin/v1/customers/{id}:archive"), json!({})),
        (Method::PATCH, format!("/admin/v1/subscriptions/{id}"), json!({})),
        (Method::POST, format!("/admin/v1/subscriptions/{id}:suspend"), reason.clone()),
        (Method::POST, format!("/admin/v1/subscriptions/{id}:cancel"), reason.clone()),
        (Method::PATCH, format!("/admin/v1/subscriptions/{id}/add-on-purchases/{id}"), json!({})),
        (Method::DELETE, format!("/admin/v1/subscriptions/{id}/add-on-purchases/{id}"), json!({})),
        (Method::PATCH, format!("/admin/v1/licenses/{id}"), json!({})),
        (Method::POST, format!("/admin/v1/licenses/{id}:revoke"), reason.clone()),
        (Method::POST, format!("/admin/v1/licenses/{id}:reissue"), json!({})),
        (Method::POST, format!("/admin/v1/instances/{id}:block"), reason.clone()),
        (Method::POST, format!("/admin/v1/instances/{id}:release"), json!({})),
        (Method::PATCH, "/admin/v1/backends/ai_gateway".to_owned(), json!({})),
        (Method::DELETE, format!("/admin/v1/admin-tokens/{id}"), json!({})),
        (Method::PATCH, format!("/admin/v1/webhooks/{id}"), json!({})),
        (Method::DELETE, format!("/admin/v1/webhooks/{id}"), json!({})),
    ] {
        let answer = send(app.admin(method, &path).json(&body)).await;
        answer.refused(StatusCode::PRECONDITION_REQUIRED, "precondition_required");
    }
}

#[tokio::test]
async fn each_change_leaves_one_audit_row_with_who_what_when_and_why() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let record = format!("/admin/v1/licenses/{}", sold.license_id);
    let etag = etag(&app, &record).await;
    let before = app.admin_get(&record).await;
    let request = app.admin(Method::POST, &format!("{record}:revoke")).header("if-match", etag);
    let request = request.header("x-request-id", "order-4711").json(&json!({ "reason": "refunded" }));
    send(request).await.expect(StatusCode::OK);
    let mut connection = app.deployment().database.connection().await;
    let rows: Vec<Value> = sqlx::query_scalar(
        "select to_jsonb(a) - 'id' from audit_events a where action = 'license.revoke' and subject_id = $1",
    )
    .bind(&sold.license_id)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let actor = row["actor"].as_str().unwrap();
    assert!(actor.starts_with("admin_token:") && actor.ends_with(" test"), "{actor}");
    let expected = json!({
        "at": "2026-11-20T12:00:00+00:00", "actor": actor, "action": "license.revoke", "subject_kind": "license",
        "subject_id": sold.license_id, "reason": "refunded", "before": before,
        "after": app.admin_get(&record).await, "request_id": "order-4711",
    });
    assert_eq!(row, &expected);
    let actions: Vec<String> =
        sqlx::query_scalar("select action from audit_events where actor like 'admin_token:%' order by 1")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(actions, ["customer.create", "license.create", "license.revoke", "subscription.create"]);
    let kept: String = sqlx::query_scalar(
        "select coalesce(string_agg(to_jsonb(a)::text, ''), '') || \
                (select coalesce(string_agg(to_jsonb(r)::text, ''), '') from record_revisions r) from audit_events a",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    for word in [&sold.activation_code[4..], "activation_code_digest", "token_digest", "tac_", "taa_"] {
        assert!(!kept.contains(word), "the audit holds {word}");
    }
}

#[tokio::test]
async fn bad_bodies_are_told_with_their_places_and_change_nothing() {
    let app = TestApp::start().await;
    let path = "/admin/v1/customers";
    // The token's first use is noted.
    app.admin_get(path).await;
    let before = whole_database(&app).await;
    let deep = format!("{{\"name\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        ("{", StatusCode::BAD_REQUEST, "invalid_request"),
        ("", StatusCode::BAD_REQUEST, "invalid_request"),
        ("{} {}", StatusCode::BAD_REQUEST, "invalid_request"),
        ("[\"Positional\", null, null]", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        ("\"text\"", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        ("null", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        ("{\"name\": 7}", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        ("{\"name\": \"a\", \"name\": \"b\"}", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        ("{\"name\": \"a\\u0000b\"}", StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
        (&deep, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters"),
    ];
    for (body, status, code) in cases {
        let request = app.admin(Method::POST, path).header("content-type", "application/json");
        let problem = send(request.body(body.to_owned())).await.refused(status, code);
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{problem}");
        }
    }
    let text = app.admin(Method::POST, path).header("content-type", "text/plain").body("{\"name\":\"a\"}");
    send(text).await.refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    let large = json!({ "name": "a".repeat(100_000) });
    send(app.admin(Method::POST, path).json(&large))
        .await
        .refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large");

    let all_at_once = json!({ "name": "n".repeat(10_000), "email": "nobody", "external_ref": "\t" });
    let problem =
        refused_post(&app, path, &all_at_once, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
    assert_eq!(
        complaints(&problem),
        [("/name", "too_long"), ("/email", "invalid"), ("/external_ref", "blank")]
    );
    let unknown = json!({ "name": "a", "nmae": "b" });
    let problem =
        refused_post(&app, path, &unknown, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/nmae", "unknown_member")]);
    let problem =
        refused_post(&app, path, &json!({}), StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/name", "missing")]);
    let changed: [&str; 0] = [];
    assert_eq!(tables_changed_since(&app, &before).await, changed);
}

#[tokio::test]
async fn what_no_catalog_or_record_knows_is_refused_at_its_place() {
    let app = TestApp::start().await;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let mut body = new_subscription(&json!(fresh_uuid()));
    body["license_type"] = json!("ultimat");
    body["ends_at"] = body["starts_at"].clone();
    let problem = refused_post(&app, "/admin/v1/subscriptions", &body, status, "invalid_parameters").await;
    let expected = [("/customer_id", "unknown"), ("/license_type", "unknown"), ("/ends_at", "out_of_range")];
    assert_eq!(complaints(&problem), expected);
    assert!(problem.to_string().contains("did you mean ultimate?"), "{problem}");

    let body = json!({
        "customer_id": "7", "license_type": "Premium!", "seats": -1, "starts_at": "2026-02-30", "time_zone": "Mars",
    });
    let problem = refused_post(&app, "/admin/v1/subscriptions", &body, status, "invalid_parameters").await;
    let expected = [
        ("/customer_id", "invalid"),
        ("/license_type", "invalid"),
        ("/starts_at", "invalid"),
        ("/ends_at", "missing"),
        ("/seats", "out_of_range"),
        ("/time_zone", "invalid"),
    ];
    assert_eq!(complaints(&problem), expected);

    let path = format!("/admin/v1/subscriptions/{}/add-on-purchases", text(&subscription(&app).await["id"]));
    let body =
        json!({ "add_on": "duo_por", "quantity": 0, "starts_at": "2026-11-20", "ends_at": "2026-11-20" });
    let problem = refused_post(&app, &path, &body, status, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/quantity", "out_of_range")]);
    let body =
        json!({ "add_on": "duo_por", "quantity": 1, "starts_at": "2026-11-20", "ends_at": "2026-11-20" });
    let problem = refused_post(&app, &path, &body, status, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/add_on", "unknown"), ("/ends_at", "out_of_range")]);

    let body = json!({ "subscription_id": fresh_uuid(), "kind": "online", "max_instances": 1 });
    let problem = refused_post(&app, "/admin/v1/licenses", &body, status, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/subscription_id", "unknown")]);
    let body = json!({ "name": "ai_gatewy", "alg": "EdDSA", "trust": "embedded", "min_live": 1 });
    let problem = refused_post(&app, "/admin/v1/backends", &body, status, "invalid_parameters").await;
    assert_eq!(complaints(&problem), [("/name", "unknown")]);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names_and_null_removes() {
    let app = TestApp::start().await;
    let body = json!({ "name": "Example GmbH", "email": "it@example.com", "external_ref": "C-1" });
    let made = app.admin_post("/admin/v1/customers", body).await;
    let record = format!("/admin/v1/customers/{}", text(&made["id"]));
    let patched = changed(&app, Method::PATCH, &record, &record, json!({ "email": null })).await;
    assert_eq!(patched["email"], Value::Null);
    assert_eq!((&patched["name"], &patched["external_ref"]), (&made["name"], &made["external_ref"]));
    let null = change(&app, Method::PATCH, &record, &record, json!({ "name": null })).await;
    let problem = null.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(complaints(&problem), [("/name", "wrong_type")]);
    let etag = etag(&app, &record).await;
    let request = app.admin(Method::PATCH, &record).header("if-match", etag);
    let request =
        request.header("content-type", "application/merge-patch+json").body("{\"name\":\"Renamed\"}");
    assert_eq!(send(request).await.expect(StatusCode::OK)["name"], "Renamed");
}

#[tokio::test]
async fn paths_methods_and_parameters_that_are_none_are_told() {
    let app = TestApp::start().await;
    for path in [
        "/admin/v1/customers/7",
        "/admin/v1/customers/01a1f98f638c7e41a2c1a5602970731c",
        "/admin/v1/customers/01a1f98f-638c-7e41-a2c1-a5602970731c",
        "/admin/v1/customers/01a1f98f-638c-7e41-a2c1-a5602970731c:destroy",
        "/admin/v1/nothing",
        "/admin/v1/instances/7/entitlements",
        "/admin/v1/backends/Not%20A%20Name",
    ] {
        send(app.admin(Method::GET, path)).await.refused(StatusCode::NOT_FOUND, "not_found");
    }
    let answer = send(app.admin(Method::PUT, "/admin/v1/customers").body("{}")).await;
    answer.refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "GET, HEAD, POST");
    let answer =
        send(app.admin(Method::POST, "/admin/v1/customers?validate=true").json(&json!({ "name": "a" })))
            .await;
    let problem = answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(complaints(&problem), [("?validate", "unknown_parameter")]);
}
