//! `POST /v1/sync`: what is granted, told, refused and repeated.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::{KeySet, Verifier};

use crate::support::app::{Instance, Sold, TestApp, activate, beginning, sell, send, text};

fn version() -> Value {
    json!({ "version": "17.6.1" })
}

async fn issued(app: &TestApp, instance: &Instance) -> usize {
    let path = format!("/admin/v1/instances/{}/issuances", instance.uid);
    app.admin_get(&path).await["items"].as_array().unwrap().len()
}

fn instant(value: &Value) -> DateTime<Utc> {
    text(value).parse().unwrap()
}

/// A change that needs the record's current ETag.
async fn change(app: &TestApp, method: Method, path: &str, record: &str, body: Value) -> Value {
    let etag = send(app.admin(Method::GET, record)).await.headers["etag"].clone();
    let answer = send(app.admin(method, path).header("if-match", etag).json(&body)).await;
    assert!(answer.status.is_success(), "{path}: {answer:?}");
    answer.json()
}

async fn started(add_on: Option<&str>) -> (TestApp, Sold, Instance) {
    let app = TestApp::start().await;
    let sold = sell(&app, add_on, 5).await;
    let instance = activate(&app, &sold.activation_code).await;
    (app, sold, instance)
}

#[tokio::test]
async fn a_purchase_becomes_tokens_that_a_backend_verifies_offline() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let synced = instance.sync(&app, &version()).await;
    assert_eq!(synced.headers["cache-control"], "no-store");
    let synced = synced.expect(StatusCode::OK);
    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await;
    let key_set = KeySet::parse(jwks.text.as_bytes()).unwrap();
    let verifier = Verifier::from_key_set(&key_set, crate::support::app::ISSUER, "gitlab-ai-gateway");
    let token = &synced["tokens"][0];
    assert_eq!((&token["backend"], &token["audience"]), (&json!("ai_gateway"), &json!("gitlab-ai-gateway")));
    let claims = verifier.verify(&text(&token["token"]), beginning().into()).unwrap();
    assert!(claims.permits("duo_chat") && !claims.permits("ask_epic"));
    assert_eq!(json!(claims.scopes), token["unit_primitives"]);
    assert_eq!(claims.sub, instance.instance_id);
    assert_eq!(claims.gitlab_instance_uid, instance.uid);
    assert_eq!(claims.gitlab_realm, "self-managed");
    assert_eq!(claims.duo_seat_count.as_deref(), Some("10"));
    assert_eq!((claims.iat - claims.nbf, claims.exp - claims.iat), (5, 8 * 3600));
    assert_eq!(token["expires_at"], "2026-11-20T20:00:00Z");
}

#[tokio::test]
async fn an_answer_tells_when_to_come_again_and_how_many_syncs_may_be_missed() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let synced = instance.sync(&app, &version()).await.expect(StatusCode::OK);
    assert_eq!(synced["instance_uid"], instance.uid);
    assert_eq!(synced["synced_at"], "2026-11-20T12:00:00Z");
    assert_eq!(synced["missable_syncs"], 7);
    // The term's end: from then on only its grace holds.
    assert_eq!(synced["next_change_at"], "2027-11-10T00:00:00Z");
    assert_eq!(synced["key_set"], json!({ "version": 1 }));
    let refresh = instant(&synced["refresh_after"]) - beginning();
    assert!(refresh >= TimeDelta::minutes(54) && refresh < TimeDelta::hours(1), "{refresh}");
    let backends: Vec<_> =
        synced["tokens"].as_array().unwrap().iter().map(|token| text(&token["backend"])).collect();
    assert_eq!(backends, ["ai_gateway", "duo_workflow_service", "observability_backend", "security_gateway"]);
    assert!(synced.get("entitlements").is_none());
}

#[tokio::test]
async fn each_unit_primitive_is_explained_where_it_is_asked_for() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let synced =
        instance.sync(&app, &json!({ "version": "17.6.1", "explain": true })).await.expect(StatusCode::OK);
    let entitlements = synced["entitlements"].as_array().unwrap();
    assert_eq!(entitlements.len(), 37);
    let why = |name: &str| entitlements.iter().find(|one| one["unit_primitive"] == name).unwrap().clone();
    assert_eq!(
        why("duo_chat"),
        json!({
            "unit_primitive": "duo_chat", "granted": true, "code": "add_on:duo_pro",
            "detail": "Part of the add-on duo_pro.", "until": "2027-11-10T00:00:00Z",
        })
    );
    assert_eq!(
        why("ask_epic"),
        json!({
            "unit_primitive": "ask_epic", "granted": false, "code": "add_on_not_purchased",
            "detail": "No active purchase of an add-on that contains ask_epic.",
            "remedy": "Purchase one of: duo_enterprise.", "until": "2027-11-24T00:00:00Z",
        })
    );
    assert_eq!(why("security_scans")["code"], "free_access");
    let granted = entitlements.iter().filter(|one| one["granted"] == true).map(|one| &one["unit_primitive"]);
    let mut granted: Vec<_> = granted.map(text).collect();
    let tokens = synced["tokens"].as_array().unwrap().iter();
    let mut scopes: Vec<_> =
        tokens.flat_map(|token| token["unit_primitives"].as_array().unwrap()).map(text).collect();
    granted.sort();
    scopes.sort();
    assert_eq!(granted, scopes);
}

#[tokio::test]
async fn only_the_backends_that_are_asked_for_get_tokens_and_unknown_names_are_ignored() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let body =
        json!({ "version": "17.6.1", "backends": ["security_gateway", "nobody", "NOT A NAME"], "new": {} });
    let synced = instance.sync(&app, &body).await.expect(StatusCode::OK);
    assert_eq!(synced["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(synced["tokens"][0]["backend"], "security_gateway");
    let none =
        instance.sync(&app, &json!({ "version": "17.6.1", "backends": [] })).await.expect(StatusCode::OK);
    assert_eq!((&none["tokens"], &none["missable_syncs"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn an_identical_sync_gets_the_same_tokens_and_adds_no_row() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let replica = app.another().await;
    let first = instance.sync(&app, &version()).await.expect(StatusCode::OK);
    app.clock.set(beginning() + TimeDelta::seconds(60));
    // Usage is no part of what is asked.
    let body = json!({ "version": "17.6.1", "usage": { "billable_users": 7 } });
    let again = instance.sync(&replica, &body).await.expect(StatusCode::OK);
    assert_eq!(first["tokens"], again["tokens"]);
    assert_eq!(issued(&app, &instance).await, 4);
    app.clock.set(beginning() + TimeDelta::seconds(61));
    let later = instance.sync(&app, &version()).await.expect(StatusCode::OK);
    assert_ne!(first["tokens"], later["tokens"]);
    assert_eq!(issued(&app, &instance).await, 8);
}

#[tokio::test]
async fn an_idempotency_key_keeps_the_tokens_for_ten_minutes() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let sync = |key: &str| {
        let request =
            instance.request(&app, Method::POST, "/v1/sync").header("idempotency-key", key.to_owned());
        send(request.json(&version()))
    };
    let first = sync("a").await.expect(StatusCode::OK);
    app.clock.set(beginning() + TimeDelta::minutes(10));
    assert_eq!(sync("a").await.expect(StatusCode::OK)["tokens"], first["tokens"]);
    let other = sync("b").await.expect(StatusCode::OK);
    assert_ne!(other["tokens"], first["tokens"]);
    app.clock.set(beginning() + TimeDelta::minutes(20) + TimeDelta::seconds(1));
    assert_ne!(sync("b").await.expect(StatusCode::OK)["tokens"], other["tokens"]);
}

#[tokio::test]
async fn parallel_identical_syncs_on_two_replicas_get_one_set_of_tokens() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let replica = app.another().await;
    let body = version();
    let syncs = (0..40).map(|n| instance.sync(if n % 2 == 0 { &app } else { &replica }, &body));
    let answers = futures_util::future::join_all(syncs).await;
    let tokens: Vec<_> =
        answers.iter().map(|answer| answer.expect(StatusCode::OK)["tokens"].clone()).collect();
    assert!(tokens.iter().all(|one| *one == tokens[0]));
    assert_eq!(issued(&app, &instance).await, 4);
}

#[tokio::test]
async fn a_purchase_and_its_end_show_at_the_next_sync() {
    let (app, sold, instance) = started(None).await;
    let names = |synced: &Value| synced["tokens"].to_string();
    assert!(!names(&instance.sync(&app, &version()).await.expect(StatusCode::OK)).contains("duo_chat"));
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    let purchase = json!({
        "add_on": "duo_pro", "quantity": 1, "starts_at": "2026-11-20T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
    });
    let purchase = app.admin_post(&purchases, purchase).await;
    assert!(names(&instance.sync(&app, &version()).await.expect(StatusCode::OK)).contains("duo_chat"));
    let path = format!("{purchases}/{}", text(&purchase["id"]));
    change(&app, Method::DELETE, &path, &path, json!({})).await;
    assert!(!names(&instance.sync(&app, &version()).await.expect(StatusCode::OK)).contains("duo_chat"));
}

#[tokio::test]
async fn what_stands_between_an_instance_and_everything_is_told_with_its_code() {
    let (app, sold, instance) = started(Some("duo_pro")).await;
    let refused = async |code: &str| {
        instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, code);
        // The explanation stays, and says the same of each unit primitive.
        let why = send(instance.request(&app, Method::GET, "/v1/entitlements")).await.expect(StatusCode::OK);
        let entitlements = why["entitlements"].as_array().unwrap();
        assert!(entitlements.iter().all(|one| one["granted"] == false && one["code"] == code), "{why}");
    };
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let block = format!("/admin/v1/instances/{}", instance.uid);
    let reason = json!({ "reason": "unpaid" });

    change(&app, Method::POST, &format!("{block}:block"), &block, reason.clone()).await;
    refused("instance_blocked").await;
    app.admin_post(&format!("{block}:unblock"), reason.clone()).await;
    instance.sync(&app, &version()).await.expect(StatusCode::OK);

    change(&app, Method::POST, &format!("{subscription}:suspend"), &subscription, reason.clone()).await;
    refused("subscription_suspended").await;
    app.admin_post(&format!("{subscription}:resume"), reason.clone()).await;
    instance.sync(&app, &version()).await.expect(StatusCode::OK);

    let back = app.clock.now();
    app.clock.set("2026-11-09T23:59:59Z".parse().unwrap());
    refused("not_started").await;
    app.clock.set("2027-11-23T23:59:59Z".parse().unwrap());
    // Grace still holds what was bought; only the keys of this deployment have ended, which is no refusal.
    instance.sync(&app, &version()).await.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    app.clock.set("2027-11-24T00:00:00Z".parse().unwrap());
    refused("expired").await;
    app.clock.set(back);

    let license = format!("/admin/v1/licenses/{}", sold.license_id);
    change(&app, Method::POST, &format!("{license}:revoke"), &license, reason.clone()).await;
    refused("license_revoked").await;

    let (app, sold, instance) = started(None).await;
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    change(&app, Method::POST, &format!("{subscription}:cancel"), &subscription, reason).await;
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "subscription_canceled");
}

#[tokio::test]
async fn scopes_that_end_before_the_others_go_into_a_token_of_their_own() {
    let (app, sold, instance) = started(None).await;
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    for (add_on, ends_at) in [("duo_pro", "2027-11-10T00:00:00Z"), ("duo_enterprise", "2026-11-20T14:00:00Z")]
    {
        let purchase = json!({ "add_on": add_on, "quantity": 3, "starts_at": "2026-11-20T00:00:00Z", "ends_at": ends_at });
        app.admin_post(&purchases, purchase).await;
    }
    let body = json!({ "version": "17.6.1", "backends": ["ai_gateway"] });
    let synced = instance.sync(&app, &body).await.expect(StatusCode::OK);
    let tokens = synced["tokens"].as_array().unwrap();
    let expiries: Vec<_> = tokens.iter().map(|token| text(&token["expires_at"])).collect();
    assert_eq!(expiries, ["2026-11-20T20:00:00Z", "2026-11-20T14:00:00Z"]);
    let (lasting, ending) = (&tokens[0]["unit_primitives"], &tokens[1]["unit_primitives"]);
    assert!(lasting.as_array().unwrap().contains(&"duo_chat".into()), "{lasting}");
    assert!(ending.as_array().unwrap().contains(&"ask_epic".into()), "{ending}");
    assert_eq!(synced["next_change_at"], "2026-11-20T14:00:00Z");
    assert!(instant(&synced["refresh_after"]) < instant(&synced["next_change_at"]));
    assert_eq!(synced["missable_syncs"], 7);
    let again = instance.sync(&app, &body).await.expect(StatusCode::OK);
    assert_eq!(again["tokens"], synced["tokens"]);
}

#[tokio::test]
async fn the_past_is_explained_as_it_was_recorded_then() {
    let (app, sold, instance) = started(None).await;
    let before = "2026-11-20T13:00:00Z";
    app.clock.set("2026-11-21T12:00:00Z".parse().unwrap());
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    // Back-dated: on the day before no token carried it.
    let purchase = json!({
        "add_on": "duo_pro", "quantity": 1, "starts_at": "2026-11-15T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
    });
    app.admin_post(&purchases, purchase).await;
    let code = async |at: &str| {
        let path = format!("/admin/v1/instances/{}/entitlements?at={at}", instance.uid);
        let told = app.admin_get(&path).await;
        assert_eq!(told["at"], at);
        let entitlements = told["entitlements"].as_array().unwrap();
        text(&entitlements.iter().find(|one| one["unit_primitive"] == "duo_chat").unwrap()["code"])
    };
    assert_eq!(code(before).await, "add_on_not_purchased");
    assert_eq!(code("2026-11-21T12:00:00Z").await, "add_on:duo_pro");
    assert_eq!(code("2027-11-20T00:00:00Z").await, "add_on:duo_pro");
    assert_eq!(code("2027-11-24T00:00:00Z").await, "expired");
    // Before the instance was known there is no "then".
    assert_eq!(code("2026-11-16T00:00:00Z").await, "add_on:duo_pro");
    let wrong =
        app.admin(Method::GET, &format!("/admin/v1/instances/{}/entitlements?at=yesterday", instance.uid));
    let problem = send(wrong).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(problem["errors"][0]["pointer"], "?at");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_told_apart_from_one_that_is_wrong() {
    let (app, _, instance) = started(None).await;
    let post = |body: &str, content_type: &str| {
        let request =
            instance.request(&app, Method::POST, "/v1/sync").header("content-type", content_type.to_owned());
        send(request.body(body.to_owned()))
    };
    let json = "application/json";
    post("{\"version\":", json).await.refused(StatusCode::BAD_REQUEST, "invalid_request");
    post(&"[".repeat(10_000), json).await.refused(StatusCode::BAD_REQUEST, "invalid_request");
    post("{\"version\":\"1.0\"} x", json).await.refused(StatusCode::BAD_REQUEST, "invalid_request");
    post("{\"version\":\"1.0\"}", "text/plain")
        .await
        .refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    let long = format!("{{\"version\":\"{}\"}}", "1".repeat(70_000));
    post(&long, json).await.refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
    for (body, pointer) in [
        ("{}", "/version"),
        ("{\"version\":\"17.6\",\"usage\":{\"a\":[\"\\u0000\"]}}", "/usage"),
        ("{\"version\":17}", "/version"),
        ("{\"version\":\"new\"}", "/version"),
        ("{\"version\":\"17.6\",\"backends\":[1]}", "/backends/0"),
        ("{\"version\":\"17.6\",\"hostname\":\"\"}", "/hostname"),
    ] {
        let problem = post(body, json).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    // The connection and the service go on.
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn unknown_wrong_and_missing_credentials_are_told_alike() {
    let (app, _, instance) = started(None).await;
    let other = activate(&app, &sell(&app, None, 1).await.activation_code).await;
    let mut details = std::collections::BTreeSet::new();
    let sync = |uid: &str, secret: &str| {
        send(app.request(Method::POST, "/v1/sync").basic_auth(uid, Some(secret)).json(&version()))
    };
    for (uid, secret) in [
        (instance.uid.as_str(), other.secret.as_str()),
        (&crate::support::app::fresh_uuid(), &instance.secret),
        ("no-uuid", &instance.secret),
        (&instance.uid, "tai_short"),
        (&instance.uid, ""),
    ] {
        let answer = sync(uid, secret).await;
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        details.insert(text(&answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated")["detail"]));
    }
    let none = send(app.request(Method::POST, "/v1/sync").json(&version())).await;
    details.insert(text(&none.refused(StatusCode::UNAUTHORIZED, "unauthenticated")["detail"]));
    assert_eq!(details.len(), 1);
}

#[tokio::test]
async fn failures_are_limited_per_credential_before_they_reach_the_queue() {
    let (app, sold, instance) = started(None).await;
    let other = activate(&app, &sold.activation_code).await;
    let wrong = Instance { secret: other.secret.clone(), ..instance.clone() };
    let mut refused = None;
    for _ in 0..20 {
        let answer = wrong.sync(&app, &version()).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
        answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    }
    let refused = refused.expect("twenty failures within a minute are too many");
    refused.refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited");
    let wait: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    // Others behind the same address go on.
    other.sync(&app, &version()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_an_instance_reports_is_recorded_and_judged_at_once() {
    let (app, _, instance) = started(Some("duo_pro")).await;
    let old =
        instance.sync(&app, &json!({ "version": "16.7", "explain": true })).await.expect(StatusCode::OK);
    let why = old["entitlements"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["unit_primitive"] == "duo_chat")
        .unwrap();
    assert_eq!(
        (&why["code"], &why["remedy"]),
        (&json!("version_too_old"), &json!("Upgrade to at least 16.9.0.")),
        "{why}"
    );
    let body =
        json!({ "version": "17.8.0", "hostname": "moved.example.com", "usage": { "billable_users": 3 } });
    instance.sync(&app, &body).await.expect(StatusCode::OK);
    let seen = app.admin_get(&format!("/admin/v1/instances/{}", instance.uid)).await;
    assert_eq!((&seen["version"], &seen["hostname"]), (&json!("17.8.0"), &json!("moved.example.com")));
}
