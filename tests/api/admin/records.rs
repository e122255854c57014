//! Customers, subscriptions, purchases and licenses: what may be done with each, and what it does to instances.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{change, changed, complaints, effects, new_subscription, refused_post};
use crate::support::app::{TestApp, activate, activation, fresh_uuid, sell, send, text};

const NOW: &str = "2026-11-20T12:00:00Z";

fn version() -> Value {
    json!({ "version": "17.6.1" })
}

#[tokio::test]
async fn a_customer_is_recorded_read_and_archived() {
    let app = TestApp::start().await;
    let body = json!({ "name": "Пример 株式会社 🦀", "email": "it@example.com", "external_ref": "C-1" });
    let answer = send(app.admin(Method::POST, "/admin/v1/customers").json(&body)).await;
    let mut made = answer.expect(StatusCode::CREATED);
    let record = format!("/admin/v1/customers/{}", text(&made["id"]));
    assert_eq!(answer.headers["location"].to_str().unwrap(), record);
    assert_eq!(made["effects"], json!({ "gained": [], "lost": [] }));
    made.as_object_mut().unwrap().remove("effects");
    assert_eq!(
        made,
        json!({
            "id": made["id"], "name": "Пример 株式会社 🦀", "email": "it@example.com", "external_ref": "C-1",
            "archived_at": null, "created_at": NOW, "updated_at": NOW,
        })
    );
    assert_eq!(app.admin_get(&record).await, made);

    let archived = changed(&app, Method::POST, &format!("{record}:archive"), &record, json!({})).await;
    assert_eq!(archived["archived_at"], NOW);
    let again = change(&app, Method::POST, &format!("{record}:archive"), &record, json!({})).await;
    again.refused(StatusCode::CONFLICT, "conflict");
    let body = new_subscription(&made["id"]);
    refused_post(&app, "/admin/v1/subscriptions", &body, StatusCode::CONFLICT, "conflict").await;
}

#[tokio::test]
async fn a_suspension_acts_at_the_next_sync_and_is_remembered_with_its_reason() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    app.clock.set("2026-11-20T12:00:01Z".parse().unwrap());
    let path = format!("{record}:suspend");
    let suspended = changed(&app, Method::POST, &path, &record, json!({ "reason": "unpaid" })).await;
    assert_eq!((&suspended["state"], &suspended["condition"]), (&json!("suspended"), &json!("suspended")));
    let lost = effects(&suspended["effects"]["lost"]);
    assert!(lost.contains(&("duo_chat", "2026-11-20T12:00:01Z")), "{lost:?}");
    let refused = instance.sync(&app, &version()).await;
    refused.refused(StatusCode::FORBIDDEN, "subscription_suspended");
    let again = change(&app, Method::POST, &path, &record, json!({ "reason": "unpaid" })).await;
    again.refused(StatusCode::CONFLICT, "conflict");

    app.clock.set("2026-11-20T12:00:02Z".parse().unwrap());
    let resumed = app.admin_post(&format!("{record}:resume"), json!({ "reason": "paid" })).await;
    assert_eq!(effects(&resumed["effects"]["gained"]).len(), lost.len());
    assert_eq!(
        resumed["conditions"],
        json!([
            { "condition": "active", "since": NOW, "reason": null },
            { "condition": "suspended", "since": "2026-11-20T12:00:01Z", "reason": "unpaid" },
            { "condition": "active", "since": "2026-11-20T12:00:02Z", "reason": "paid" },
        ])
    );
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_cancellation_is_final() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let purchases = format!("{record}/add-on-purchases");
    let purchase = text(&app.admin_get(&purchases).await["items"][0]["id"]);
    let purchase = format!("{purchases}/{purchase}");
    let reason = json!({ "reason": "refunded" });
    let canceled = changed(&app, Method::POST, &format!("{record}:cancel"), &record, reason.clone()).await;
    assert_eq!(canceled["state"], "canceled");
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "subscription_canceled");
    let renewal = json!({ "ends_at": "2030-01-01", "reason": "back" });
    let license = json!({ "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 1 });
    let add_on =
        json!({ "add_on": "duo_core", "quantity": 1, "starts_at": "2026-11-20", "ends_at": "2027-11-10" });
    for (path, record, body) in [
        (format!("{record}:resume"), &record, reason.clone()),
        (format!("{record}:suspend"), &record, reason.clone()),
        (format!("{record}:cancel"), &record, reason),
        (format!("{record}:renew"), &record, renewal),
        (purchases.clone(), &record, add_on),
        ("/admin/v1/licenses".to_owned(), &record, license),
    ] {
        let refused = change(&app, Method::POST, &path, record, body).await;
        refused.refused(StatusCode::CONFLICT, "conflict");
    }
    let patch = change(&app, Method::PATCH, &record, &record, json!({ "seats": 2 })).await;
    patch.refused(StatusCode::CONFLICT, "conflict");
    let patch = change(&app, Method::PATCH, &purchase, &purchase, json!({ "quantity": 2 })).await;
    patch.refused(StatusCode::CONFLICT, "conflict");
}

#[tokio::test]
async fn a_purchase_is_effective_at_the_next_sync_and_gone_when_it_is_ended() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let grants = async |app: &TestApp| {
        let synced = instance.sync(app, &version()).await.expect(StatusCode::OK);
        synced["tokens"].to_string().contains("\"duo_chat\"")
    };
    assert!(!grants(&app).await);
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    let body =
        json!({ "add_on": "duo_pro", "quantity": 5, "starts_at": "2026-11-20", "ends_at": "2027-01-01" });
    let made = app.admin_post(&purchases, body).await;
    let gained = effects(&made["effects"]["gained"]);
    assert!(gained.contains(&("duo_chat", NOW)), "{gained:?}");
    let one = made["effects"]["gained"]
        .as_array()
        .unwrap()
        .iter()
        .find(|effect| effect["unit_primitive"] == "duo_chat");
    assert_eq!(
        one.unwrap(),
        &json!({ "instance_uid": instance.uid, "unit_primitive": "duo_chat", "at": NOW, "until": "2027-01-01T00:00:00Z" })
    );
    assert!(grants(&app).await);

    let record = format!("{purchases}/{}", text(&made["id"]));
    let later = json!({ "starts_at": "2026-12-01" });
    let moved = changed(&app, Method::PATCH, &record, &record, later).await;
    let lost = moved["effects"]["lost"].as_array().unwrap();
    assert!(
        lost.iter().all(|effect| effect["at"] == NOW && effect["until"] == "2026-12-01T00:00:00Z"),
        "{lost:?}"
    );
    assert!(!grants(&app).await);
    app.clock.set("2026-12-01T00:00:00Z".parse().unwrap());
    assert!(grants(&app).await);

    let ended = changed(&app, Method::DELETE, &record, &record, json!({})).await;
    assert_eq!(ended["ended_at"], "2026-12-01T00:00:00Z");
    assert!(effects(&ended["effects"]["lost"]).contains(&("duo_chat", "2026-12-01T00:00:00Z")));
    assert!(!grants(&app).await);
    assert_eq!(app.admin_get(&record).await["ended_at"], "2026-12-01T00:00:00Z");
    for (method, body) in [(Method::DELETE, json!({})), (Method::PATCH, json!({ "quantity": 9 }))] {
        change(&app, method, &record, &record, body).await.refused(StatusCode::CONFLICT, "conflict");
    }
}

#[tokio::test]
async fn a_purchase_is_found_under_its_own_subscription_only() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let other = sell(&app, None, 1).await;
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    let id = text(&app.admin_get(&purchases).await["items"][0]["id"]);
    app.admin_get(&format!("{purchases}/{id}")).await;
    let elsewhere = format!("/admin/v1/subscriptions/{}/add-on-purchases/{id}", other.subscription_id);
    send(app.admin(Method::GET, &elsewhere)).await.refused(StatusCode::NOT_FOUND, "not_found");
    let missing = format!("/admin/v1/subscriptions/{}/add-on-purchases", fresh_uuid());
    send(app.admin(Method::GET, &missing)).await.refused(StatusCode::NOT_FOUND, "not_found");
}

#[tokio::test]
async fn a_revoked_license_opens_nothing_and_stays_revoked() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 2).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/licenses/{}", sold.license_id);
    let path = format!("{record}:revoke");
    let revoked = changed(&app, Method::POST, &path, &record, json!({ "reason": "fraud" })).await;
    assert_eq!(
        (&revoked["state"], &revoked["revoked_at"], &revoked["revoked_reason"]),
        (&json!("revoked"), &json!(NOW), &json!("fraud"))
    );
    assert!(!revoked["effects"]["lost"].as_array().unwrap().is_empty());
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "license_revoked");
    let newcomer = activation(&sold.activation_code, &fresh_uuid());
    let refused = send(app.request(Method::POST, "/v1/instances").json(&newcomer)).await;
    refused.refused(StatusCode::FORBIDDEN, "license_revoked");
    for (path, body) in [(path, json!({ "reason": "again" })), (format!("{record}:reissue"), json!({}))] {
        let again = change(&app, Method::POST, &path, &record, body).await;
        again.refused(StatusCode::CONFLICT, "conflict");
    }
}

#[tokio::test]
async fn another_activation_code_replaces_the_one_before_and_no_instance_notices() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 2).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/licenses/{}", sold.license_id);
    let reissued = changed(&app, Method::POST, &format!("{record}:reissue"), &record, json!({})).await;
    let code = text(&reissued["activation_code"]);
    assert!(code.starts_with("tac_") && code != sold.activation_code);
    assert!(app.admin_get(&record).await.get("activation_code").is_none());
    let old = activation(&sold.activation_code, &fresh_uuid());
    let refused = send(app.request(Method::POST, "/v1/instances").json(&old)).await;
    refused.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
    activate(&app, &code).await;
}

#[tokio::test]
async fn a_license_gets_more_places_by_a_patch() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    activate(&app, &sold.activation_code).await;
    let newcomer = activation(&sold.activation_code, &fresh_uuid());
    let refused = send(app.request(Method::POST, "/v1/instances").json(&newcomer)).await;
    refused.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    let record = format!("/admin/v1/licenses/{}", sold.license_id);
    let patched = changed(&app, Method::PATCH, &record, &record, json!({ "max_instances": 2 })).await;
    assert_eq!(patched["max_instances"], 2);
    activate(&app, &sold.activation_code).await;
}

#[tokio::test]
async fn a_backend_is_registered_under_its_catalog_name_and_given_a_token() {
    let app = TestApp::start().await;
    let body = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 2 });
    let made = app.admin_post("/admin/v1/backends", body.clone()).await;
    assert_eq!((&made["name"], &made["has_token"]), (&json!("ai_gateway"), &json!(false)));
    let problem = refused_post(&app, "/admin/v1/backends", &body, StatusCode::CONFLICT, "conflict").await;
    assert_eq!(problem["existing"], "ai_gateway");
    let record = "/admin/v1/backends/ai_gateway";
    // It would get no tokens at all.
    for refused in [
        change(&app, Method::PATCH, record, record, json!({ "alg": "RS256" })).await,
        send(app.admin(Method::POST, "/admin/v1/backends").json(
            &json!({ "name": "security_gateway", "alg": "RS256", "trust": "embedded", "min_live": 2 }),
        ))
        .await,
    ] {
        let problem = refused.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(complaints(&problem), [("/alg", "no_active_key")]);
    }
    let patched =
        changed(&app, Method::PATCH, record, record, json!({ "trust": "discovery", "min_live": 0 })).await;
    assert_eq!((&patched["trust"], &patched["min_live"]), (&json!("discovery"), &json!(0)));
    let rotated = app.admin_post("/admin/v1/backends/ai_gateway:rotate-token", json!({})).await;
    assert!(text(&rotated["token"]).starts_with("tab_"));
    let read = app.admin_get(record).await;
    assert_eq!((&read["has_token"], read.get("token")), (&json!(true), None));
    assert_eq!(app.admin_get("/admin/v1/backends").await["items"], json!([read]));
}
