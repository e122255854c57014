//! What an instance's administrator switches off, on again, and learns of what the instance sends.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, Instance, TestApp, activate, fresh_uuid, sell, send, text};

const ACCESS: &str = "/v1/instances/me/access";

async fn started() -> (TestApp, Instance) {
    let app = TestApp::start().await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    (app, instance)
}

async fn switch(app: &TestApp, instance: &Instance, body: &Value) -> Answer {
    send(instance.request(app, Method::PUT, ACCESS).json(body)).await
}

/// What a sync gives: each backend with its unit primitives, and the explanation.
async fn sync(app: &TestApp, instance: &Instance) -> (Vec<(String, Vec<String>)>, Value) {
    let synced = instance.sync(app, &json!({ "version": "17.6.1", "explain": true })).await;
    let synced = synced.expect(StatusCode::OK);
    let tokens = synced["tokens"].as_array().unwrap().iter().map(|token| {
        let scopes = token["unit_primitives"].as_array().unwrap().iter().map(text).collect();
        (text(&token["backend"]), scopes)
    });
    (tokens.collect(), synced["entitlements"].clone())
}

fn explained<'a>(entitlements: &'a Value, name: &str) -> &'a Value {
    entitlements.as_array().unwrap().iter().find(|one| one["unit_primitive"] == name).unwrap()
}

#[tokio::test]
async fn what_is_switched_off_is_in_no_token_from_the_next_sync_on_and_comes_back() {
    let (app, instance) = started().await;
    let (before, _) = sync(&app, &instance).await;
    let asked = send(instance.request(&app, Method::GET, ACCESS)).await.expect(StatusCode::OK);
    assert_eq!(asked, json!({ "disabled_unit_primitives": [], "disabled_backends": [] }));

    // 1. One unit primitive: only that is gone, and the explanation says who did it and what to do.
    let off = json!({ "disabled_unit_primitives": ["duo_chat"], "disabled_backends": [] });
    assert_eq!(switch(&app, &instance, &off).await.expect(StatusCode::OK), off);
    assert_eq!(send(instance.request(&app, Method::GET, ACCESS)).await.json(), off);
    let (tokens, why) = sync(&app, &instance).await;
    let mut expected = before.clone();
    expected.iter_mut().for_each(|(_, scopes)| scopes.retain(|scope| scope != "duo_chat"));
    assert_eq!(tokens, expected);
    let chat = explained(&why, "duo_chat");
    assert_eq!((&chat["granted"], &chat["code"]), (&json!(false), &json!("disabled_by_instance")));
    assert!(!text(&chat["remedy"]).is_empty(), "{chat}");
    let alone = send(instance.request(&app, Method::GET, "/v1/entitlements")).await.expect(StatusCode::OK);
    assert_eq!(explained(&alone["entitlements"], "duo_chat")["code"], "disabled_by_instance");

    // 2. A whole backend: no token for it. What another change switched off is on again.
    let off = json!({ "disabled_backends": ["ai_gateway"] });
    switch(&app, &instance, &off).await.expect(StatusCode::OK);
    let (tokens, why) = sync(&app, &instance).await;
    let expected: Vec<_> = before.iter().filter(|(backend, _)| backend != "ai_gateway").cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(tokens, expected);
    for name in ["duo_chat", "complete_code"] {
        assert_eq!(explained(&why, name)["code"], "disabled_by_instance", "{name}");
    }

    // 3. On again: what was there is there, and nothing more.
    switch(&app, &instance, &json!({})).await.expect(StatusCode::OK);
    assert_eq!(sync(&app, &instance).await.0, before);
    let audit = app.admin_get("/admin/v1/audit-events?action=instance.switch_off").await;
    let after: Vec<_> = audit["items"].as_array().unwrap().iter().map(|one| &one["after"]).collect();
    assert_eq!(after.len(), 3, "{audit}");
}

#[tokio::test]
async fn switching_never_widens_what_was_bought() {
    let (app, instance) = started().await;
    let (before, _) = sync(&app, &instance).await;
    // Off and on again what was never granted: it stays not granted, for the reason that it had.
    let off =
        json!({ "disabled_unit_primitives": ["ask_epic", "explain_vulnerability"], "disabled_backends": [] });
    switch(&app, &instance, &off).await.expect(StatusCode::OK);
    let (tokens, why) = sync(&app, &instance).await;
    assert_eq!(tokens, before);
    assert_eq!(explained(&why, "ask_epic")["code"], "disabled_by_instance");
    switch(&app, &instance, &json!({})).await.expect(StatusCode::OK);
    let (tokens, why) = sync(&app, &instance).await;
    assert_eq!(tokens, before);
    assert_eq!(explained(&why, "ask_epic")["code"], "add_on_not_purchased");
}

#[tokio::test]
async fn a_typo_switches_nothing_and_nobody_switches_for_another() {
    let (app, instance) = started().await;
    let other = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    let wrong = json!({ "disabled_unit_primitives": ["duo_chat", "duo_caht"], "disabled_backends": ["ai"] });
    let problem = switch(&app, &instance, &wrong).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|one| &one["pointer"]).collect();
    assert_eq!(pointers, [&json!("/disabled_unit_primitives/1"), &json!("/disabled_backends/0")]);
    let stranger = Instance { uid: fresh_uuid(), ..instance.clone() };
    switch(&app, &stranger, &json!({})).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    let crossed = Instance { secret: other.secret.clone(), ..instance.clone() };
    switch(&app, &crossed, &json!({ "disabled_backends": ["ai_gateway"] }))
        .await
        .refused(StatusCode::UNAUTHORIZED, "unauthenticated");

    // One instance's choice is its own.
    switch(&app, &instance, &json!({ "disabled_backends": ["ai_gateway"] })).await.expect(StatusCode::OK);
    let (tokens, _) = sync(&app, &other).await;
    assert!(tokens.iter().any(|(backend, _)| backend == "ai_gateway"), "{tokens:?}");
}

#[tokio::test]
async fn an_administrator_sees_each_field_that_the_instance_sends_and_what_for() {
    let (app, instance) = started().await;
    let usage = json!({ "billable_users": 7 });
    let body = json!({ "version": "17.6.2", "hostname": "new.example.com", "usage": usage });
    instance.sync(&app, &body).await.expect(StatusCode::OK);
    let told = send(instance.request(&app, Method::GET, "/v1/instances/me/reported")).await;
    let told = told.expect(StatusCode::OK);
    let fields = told["items"].as_array().unwrap_or_else(|| panic!("{told}"));
    for (name, held) in [
        ("version", json!("17.6.2")),
        ("hostname", json!("new.example.com")),
        ("instance_id", json!(instance.instance_id)),
        ("usage", usage),
    ] {
        let field = fields.iter().find(|field| field["field"] == name);
        let field = field.unwrap_or_else(|| panic!("{name} is missing: {told}"));
        assert_eq!(field["value"], held, "{field}");
        assert!(!text(&field["purpose"]).is_empty() && !text(&field["kept"]).is_empty(), "{field}");
    }
    // Each member that a sync or an activation reads is listed: nothing is taken in silence.
    let described = send(app.request(Method::GET, "/openapi.json")).await.json();
    for schema in ["SyncBody", "ActivationBody"] {
        let members = described["components"]["schemas"][schema]["properties"].as_object().unwrap();
        for member in members.keys() {
            let is_listed = fields.iter().any(|field| field["field"] == json!(member));
            assert!(
                is_listed || NOT_ABOUT_THE_INSTANCE.contains(&member.as_str()),
                "{schema}: {member}: {told}"
            );
        }
    }
}

/// Credentials are proofs, and no reports.
const NOT_ABOUT_THE_INSTANCE: &[&str] = &["activation_code", "proof"];
