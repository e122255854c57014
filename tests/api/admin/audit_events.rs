//! The audit as it is read over HTTP, and the one row and one event of each change.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::{AuditCheckpoint, SignedManifest, SignedRoot};

use super::trials::{Change, changes};
use super::{complaints, etag};
use crate::support::app::{TestApp, activate, sell, send, text};

#[tokio::test]
async fn who_changed_what_is_told_latest_first() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let record = format!("/admin/v1/licenses/{}", sold.license_id);
    let before = app.admin_get(&record).await;
    let request =
        app.admin(Method::POST, &format!("{record}:revoke")).header("if-match", etag(&app, &record).await);
    let request = request.header("x-request-id", "order-4711").json(&json!({ "reason": "refunded" }));
    send(request).await.expect(StatusCode::OK);

    let page = app.admin_get("/admin/v1/audit-events?limit=1").await;
    let latest = &page["items"][0];
    let actor = text(&latest["actor"]);
    assert!(actor.starts_with("admin_token:") && actor.ends_with(" test"), "{actor}");
    let expected = json!({
        "sequence": latest["sequence"], "id": latest["id"], "digest": latest["digest"],
        "at": "2026-11-20T12:00:00Z", "actor": actor, "action": "license.revoke", "subject_kind": "license",
        "subject_id": sold.license_id, "reason": "refunded", "before": before,
        "after": app.admin_get(&record).await, "request_id": "order-4711",
    });
    assert_eq!(latest, &expected);

    // Page by page down to the first, without a gap.
    let mut sequences = vec![latest["sequence"].as_u64().unwrap()];
    let mut token = text(&page["next_page_token"]);
    loop {
        let page = app.admin_get(&format!("/admin/v1/audit-events?limit=4&page_token={token}")).await;
        sequences
            .extend(page["items"].as_array().unwrap().iter().map(|item| item["sequence"].as_u64().unwrap()));
        let Some(next) = page["next_page_token"].as_str() else { break };
        token = next.to_owned();
    }
    let expected: Vec<u64> = (1..=sequences[0]).rev().collect();
    assert_eq!(sequences, expected);
}

#[tokio::test]
async fn the_audit_is_filtered_by_whatever_one_looks_for() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    activate(&app, &sold.activation_code).await;
    app.clock.set("2026-11-20T13:00:00Z".parse().unwrap());
    let request = app.admin(Method::POST, "/admin/v1/customers").header("x-request-id", "order-1");
    send(request.json(&json!({ "name": "Later" }))).await.expect(StatusCode::CREATED);
    let actions = async |filter: &str| -> Vec<String> {
        let page = app.admin_get(&format!("/admin/v1/audit-events?{filter}")).await;
        page["items"].as_array().unwrap().iter().map(|item| text(&item["action"])).collect()
    };
    assert_eq!(actions("request_id=order-1").await, ["customer.create"]);
    assert_eq!(actions("since=2026-11-20T13:00:00Z").await, ["customer.create"]);
    assert_eq!(actions("action=license.create").await, ["license.create"]);
    assert_eq!(actions("until=2026-11-20T13:00:00Z&action=customer.create").await, ["customer.create"]);
    let license = format!("subject_kind=license&subject_id={}", sold.license_id);
    assert_eq!(actions(&license).await, ["license.create"]);
    assert_eq!(actions(&format!("{license}&action=license.revoke")).await, [""; 0]);
    assert!(actions("actor=test").await.iter().all(|action| action.starts_with("key")));
    let problem = send(app.admin(Method::GET, "/admin/v1/audit-events?since=soon&kind=license")).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(complaints(&problem), [("?since", "invalid"), ("?kind", "unknown_parameter")]);
}

#[tokio::test]
async fn a_checkpoint_is_proved_by_what_is_published_alone() {
    let app = TestApp::start().await;
    sell(&app, None, 1).await;
    let answer = app.admin_get("/admin/v1/audit-events/checkpoint").await;
    let latest = app.admin_get("/admin/v1/audit-events?limit=1").await["items"][0].clone();
    assert_eq!((&answer["sequence"], &answer["digest"]), (&latest["sequence"], &latest["digest"]));
    assert_eq!(answer["created"], "2026-11-20T12:00:00Z");

    let keys = app.deployment().keys.path().join("development");
    let root = SignedRoot::parse(&std::fs::read(keys.join("root/1.root.json")).unwrap()).unwrap();
    let root = root.verify_pinned(root.digest()).unwrap();
    let published = app.admin_get("/v1/key-sets/latest").await;
    let manifest = SignedManifest::parse(published["manifest"].to_string().as_bytes()).unwrap();
    let manifest = manifest.verify(&root).unwrap();
    let checkpoint = AuditCheckpoint::verify(&text(&answer["checkpoint"]), &manifest).unwrap();
    assert_eq!(checkpoint.sequence, answer["sequence"].as_u64().unwrap());
    assert_eq!(checkpoint.digest.to_string(), text(&answer["digest"]));
    // Asking changes nothing: it is no change.
    assert_eq!(app.admin_get("/admin/v1/audit-events?limit=1").await["items"][0], latest);
}

#[tokio::test]
async fn each_change_leaves_exactly_one_audit_row_and_one_event_and_a_refused_one_leaves_none() {
    let app = TestApp::start().await;
    for Change { operation, method, path, record, body } in changes(&app).await {
        let cursor = text(&feed(&app, "limit=1000").await["next_cursor"]);
        // First as it must not be made, then as it may be.
        let wrong = app.admin(method.clone(), &path).header("if-match", "*").json(&json!({ "nonsense": 1 }));
        send(wrong).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        let mut request = app.admin(method.clone(), &path).json(&body);
        if let Some(record) = &record {
            let stale = app.admin(method.clone(), &path).header("if-match", "\"stale\"").json(&body);
            send(stale).await.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
            request = request.header("if-match", etag(&app, record).await);
        }
        let answer = send(request).await;
        assert!(answer.status.is_success(), "{operation}: {answer:?}");
        let told = feed(&app, &format!("cursor={cursor}")).await;
        let [event] = told["items"].as_array().unwrap().as_slice() else { panic!("{operation}: {told}") };
        let (kind, what) = operation.split_once("s_").unwrap();
        assert_eq!(text(&event["type"]), format!("{kind}.{what}"));
        let audited = app.admin_get("/admin/v1/audit-events?limit=1").await["items"][0].clone();
        for (of_event, of_row) in [("sequence", "sequence"), ("id", "id"), ("type", "action")] {
            assert_eq!(event[of_event], audited[of_row], "{operation}");
        }
    }
}

async fn feed(app: &TestApp, query: &str) -> Value {
    app.admin_get(&format!("/admin/v1/events?{query}")).await
}
