//! Instances as support sees them: blocked, released, explained.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{change, changed, complaints, effects};
use crate::support::app::{TestApp, activate, activation, fresh_uuid, sell, send, text};

fn version() -> Value {
    json!({ "version": "17.6.1" })
}

#[tokio::test]
async fn a_blocked_instance_gets_no_token_until_it_is_unblocked() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/instances/{}", instance.uid);
    let path = format!("{record}:block");
    let blocked = changed(&app, Method::POST, &path, &record, json!({ "reason": "stolen" })).await;
    assert_eq!((&blocked["state"], &blocked["state_reason"]), (&json!("blocked"), &json!("stolen")));
    let lost = effects(&blocked["effects"]["lost"]).len();
    assert!(lost > 0);
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "instance_blocked");
    let again = change(&app, Method::POST, &path, &record, json!({ "reason": "stolen" })).await;
    again.refused(StatusCode::CONFLICT, "conflict");
    // It keeps its place.
    let newcomer = activation(&sold.activation_code, &fresh_uuid());
    let refused = send(app.request(Method::POST, "/v1/instances").json(&newcomer)).await;
    refused.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    let explained = app.admin_get(&format!("{record}/entitlements")).await;
    assert_eq!(explained["entitlements"][0]["code"], "instance_blocked");

    let unblocked = app.admin_post(&format!("{record}:unblock"), json!({ "reason": "found" })).await;
    assert_eq!((&unblocked["state"], &unblocked["state_reason"]), (&json!("active"), &Value::Null));
    assert_eq!(effects(&unblocked["effects"]["gained"]).len(), lost);
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
    let again = send(app.admin(Method::POST, &format!("{record}:unblock"))).await;
    again.refused(StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn a_blocked_instance_cannot_be_rid_of_the_block_by_itself() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/instances/{}", instance.uid);
    changed(&app, Method::POST, &format!("{record}:block"), &record, json!({ "reason": "stolen" })).await;
    let release = send(instance.request(&app, Method::DELETE, "/v1/instances/me")).await;
    release.refused(StatusCode::FORBIDDEN, "instance_blocked");
    let again = activation(&sold.activation_code, &instance.instance_id);
    let again = send(app.request(Method::POST, "/v1/instances").json(&again)).await;
    again.refused(StatusCode::FORBIDDEN, "instance_blocked");
    assert_eq!(app.admin_get(&record).await["state"], "blocked");
}

#[tokio::test]
async fn who_held_a_secret_before_a_release_has_none_when_the_instance_comes_again() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/instances/{}", instance.uid);
    changed(&app, Method::POST, &format!("{record}:release"), &record, json!({ "reason": "copied" })).await;
    let again = activation(&sold.activation_code, &instance.instance_id);
    let again = send(app.request(Method::POST, "/v1/instances").json(&again)).await.expect(StatusCode::OK);
    instance.sync(&app, &version()).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    let request = app.request(Method::POST, "/v1/sync").json(&version());
    let request = request.basic_auth(&instance.uid, Some(text(&again["instance_secret"])));
    send(request).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_released_instance_gives_its_place_back_when_its_last_token_expires() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
    let record = format!("/admin/v1/instances/{}", instance.uid);
    let released = changed(&app, Method::POST, &format!("{record}:release"), &record, json!({})).await;
    assert_eq!(
        (&released["state"], &released["place_held_until"]),
        (&json!("released"), &json!("2026-11-20T20:00:00Z"))
    );
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "instance_released");
    let newcomer = activation(&sold.activation_code, &fresh_uuid());
    let refused = send(app.request(Method::POST, "/v1/instances").json(&newcomer)).await;
    refused.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    app.clock.set("2026-11-20T20:00:00Z".parse().unwrap());
    activate(&app, &sold.activation_code).await;
    for verb in ["release", "block"] {
        let body = json!({ "reason": "why" });
        let again = change(&app, Method::POST, &format!("{record}:{verb}"), &record, body).await;
        again.refused(StatusCode::CONFLICT, "conflict");
    }
}

#[tokio::test]
async fn an_instance_shows_all_that_is_known_of_it_and_no_secret() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let shown = app.admin_get(&format!("/admin/v1/instances/{}", instance.uid)).await;
    assert_eq!(
        shown,
        json!({
            "instance_uid": instance.uid, "license_id": sold.license_id, "subscription_id": sold.subscription_id,
            "instance_id": instance.instance_id, "hostname": "gitlab.example.com", "version": "17.6.1",
            "deployment": "self_managed", "kind": "production", "state": "active",
            "state_since": "2026-11-20T12:00:00Z", "state_reason": null, "place_held_until": null,
            "authenticates_by": "secret", "reactivation_allowed": false, "identity_contested_at": null,
            "disabled_unit_primitives": [], "disabled_backends": [], "reported_usage": null,
            "created_at": "2026-11-20T12:00:00Z", "updated_at": "2026-11-20T12:00:00Z",
        })
    );
    let allow =
        send(app.admin(Method::POST, &format!("/admin/v1/instances/{}:allow-reactivation", instance.uid)))
            .await;
    allow.refused(StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn the_past_is_explained_as_it_was_recorded_then() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let at = async |instant: &str| {
        let path = format!("/admin/v1/instances/{}/entitlements?at={instant}", instance.uid);
        let explained = app.admin_get(&path).await;
        let entries = explained["entitlements"].as_array().unwrap();
        let chat = entries.iter().find(|entry| entry["unit_primitive"] == "duo_chat").unwrap();
        (chat["granted"].as_bool().unwrap(), text(&chat["code"]))
    };
    app.clock.set("2026-11-20T13:00:00Z".parse().unwrap());
    let reason = json!({ "reason": "unpaid" });
    changed(&app, Method::POST, &format!("{subscription}:suspend"), &subscription, reason).await;
    app.clock.set("2026-11-20T14:00:00Z".parse().unwrap());
    app.admin_post(&format!("{subscription}:resume"), json!({ "reason": "paid" })).await;
    app.clock.set("2026-11-20T15:00:00Z".parse().unwrap());
    let granted = (true, "add_on:duo_pro".to_owned());
    assert_eq!(at("2026-11-20T12:30:00Z").await, granted);
    assert_eq!(at("2026-11-20T13:30:00Z").await, (false, "subscription_suspended".to_owned()));
    assert_eq!(at("2026-11-20T14:30:00Z").await, granted);
    assert_eq!(at("2027-11-23T23:59:59Z").await, granted);
    assert_eq!(at("2027-11-24T00:00:00Z").await, (false, "expired".to_owned()));

    let path = format!("/admin/v1/instances/{}/entitlements", instance.uid);
    for (query, complaint) in
        [("at=yesterday", ("?at", "invalid")), ("when=now", ("?when", "unknown_parameter"))]
    {
        let problem = send(app.admin(Method::GET, &format!("{path}?{query}"))).await;
        let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(complaints(&problem), [complaint]);
    }
    let unknown = format!("/admin/v1/instances/{}/entitlements", fresh_uuid());
    send(app.admin(Method::GET, &unknown)).await.refused(StatusCode::NOT_FOUND, "not_found");
}

#[tokio::test]
async fn every_token_that_left_is_listed_latest_first() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let mut jtis = 0;
    for now in ["2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z"] {
        app.clock.set(now.parse().unwrap());
        let synced = instance.sync(&app, &version()).await.expect(StatusCode::OK);
        jtis += synced["tokens"].as_array().unwrap().len();
    }
    let path = format!("/admin/v1/instances/{}/issuances", instance.uid);
    let mut seen = Vec::new();
    let mut next = Some(format!("{path}?limit=3"));
    while let Some(page) = next {
        let page = app.admin_get(&page).await;
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        next = page["next_page_token"].as_str().map(|token| format!("{path}?limit=3&page_token={token}"));
    }
    assert_eq!(seen.len(), jtis);
    assert!(seen.is_sorted_by(|one, other| text(&one["jti"]) > text(&other["jti"])));
    assert_eq!(seen[0]["issued_at"], "2026-11-20T13:00:00Z");
    let gateway = seen.iter().find(|token| token["backend"] == "ai_gateway").unwrap();
    assert_eq!((&gateway["seats"], &gateway["audience"]), (&json!(10), &json!("gitlab-ai-gateway")));
    assert!(gateway["unit_primitives"].as_array().unwrap().contains(&json!("duo_chat")));
}
