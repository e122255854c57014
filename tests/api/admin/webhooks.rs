//! Webhooks, delivered to a receiver that listens for real.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority::webhooks::delivery::Ended;
use token_authority::webhooks::retries::GIVEN_UP_AFTER;

use super::{changed, complaints, refused_post};
use crate::support::app::{TestApp, beginning, send, text};
use crate::support::certificates::Authority;
use crate::support::receiver::Receiver;

const LOCAL: (&str, &str) = ("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.1");
const WEBHOOKS: &str = "/admin/v1/webhooks";

async fn customer(app: &TestApp, name: &str) -> String {
    text(&app.admin_post("/admin/v1/customers", json!({ "name": name })).await["id"])
}

/// Delivers to one endpoint, if there is one that waits.
async fn deliver(app: &TestApp) -> Option<Ended> {
    let deliverer = app.app.deliverer();
    let leased = deliverer.lease().await.unwrap()?;
    Some(deliverer.deliver(leased).await.unwrap())
}

fn record(webhook: &Value) -> String {
    format!("{WEBHOOKS}/{}", text(&webhook["id"]))
}

fn subjects(receiver: &Receiver) -> Vec<String> {
    receiver.received().iter().map(|delivery| text(&delivery.json()["subject_id"])).collect()
}

#[tokio::test]
async fn a_delivery_is_signed_and_tells_what_the_feed_tells() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let webhook = app.admin_post(WEBHOOKS, json!({ "url": receiver.url(), "description": "orders" })).await;
    let secret = text(&webhook["secret"]);
    assert!(secret.starts_with("whsec_"));
    assert_eq!((&webhook["state"], &webhook["event_types"]), (&json!("enabled"), &json!([])));
    let made = customer(&app, "Ünïcode GmbH").await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));

    // Its own creation comes first: it was made at the place of the feed before that.
    let received = receiver.received();
    assert_eq!(received.len(), 2, "{received:?}");
    let delivery = &received[1];
    let feed = app.admin_get(&format!("/admin/v1/events?subject_id={made}")).await;
    assert_eq!(delivery.json(), feed["items"][0]);
    assert_eq!(delivery.header("webhook-id"), text(&feed["items"][0]["id"]));
    assert_eq!(delivery.header("webhook-timestamp"), beginning().timestamp().to_string());
    assert_eq!(delivery.header("content-type"), "application/json");
    assert_eq!(delivery.header("webhook-signature"), delivery.expected_signature(&secret));
    let view = app.admin_get(&record(&webhook)).await;
    assert_eq!(view["cursor"], feed["next_cursor"]);
    assert_eq!(view["delivery"]["last_status"], 204);
    // Nothing is left to do, and nothing comes twice.
    assert_eq!(deliver(&app).await, None);
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_sealed() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let body = json!({ "url": "http://127.0.0.1:9/hooks" });
    let trial = app.admin_post(&format!("{WEBHOOKS}?validate_only=true"), body.clone()).await;
    assert!(trial.get("secret").is_none());
    let request = app.admin(Method::POST, WEBHOOKS).header("idempotency-key", "once").json(&body);
    let first = send(request.try_clone().unwrap()).await.expect(StatusCode::CREATED);
    let again = send(request).await.expect(StatusCode::CREATED);
    assert_eq!(first, again);
    let secret = text(&first["secret"]);
    let read = app.admin_get(&record(&first)).await;
    assert!(read.get("secret").is_none());
    let mut connection = app.deployment().database.connection().await;
    let kept: String = sqlx::query_scalar(
        "select (select string_agg(w::text, '') from webhooks w) || (select string_agg(to_jsonb(a)::text, '') from audit_events a) \
                || (select string_agg(i::text, '') from idempotency_keys i)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(!kept.contains(&secret["whsec_".len()..]) && !kept.contains("whsec_"));
    // Deleted, it is remembered without it.
    let gone = changed(&app, Method::DELETE, &record(&first), &record(&first), json!({})).await;
    assert_eq!(gone["state"], "deleted");
    let sealed: Option<Vec<u8>> =
        sqlx::query_scalar("select sealed_secret from webhooks").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sealed, None);
    let patch = app
        .admin(Method::PATCH, &record(&first))
        .header("if-match", "*")
        .json(&json!({ "state": "enabled" }));
    send(patch).await.refused(StatusCode::CONFLICT, "conflict");
    let listed = app.admin_get(&format!("{WEBHOOKS}?state=deleted")).await;
    assert_eq!(listed["items"][0]["id"], first["id"]);
}

#[tokio::test]
async fn two_replicas_deliver_each_event_once_and_in_order_to_each_endpoint() {
    let app = Arc::new(TestApp::start_with(&[LOCAL]).await);
    let other = Arc::new(app.another_with(&[LOCAL]).await);
    let receivers = [Receiver::start(), Receiver::start(), Receiver::start()];
    for receiver in &receivers {
        let body = json!({ "url": receiver.url(), "event_types": ["customer.*"] });
        app.admin_post(WEBHOOKS, body).await;
    }
    let replicas: Vec<_> = [&app, &other]
        .into_iter()
        .flat_map(|replica| {
            [
                tokio::spawn(token_authority::app::hold_background(Arc::clone(&replica.app))),
                tokio::spawn(token_authority::app::deliver_webhooks(Arc::clone(&replica.app))),
            ]
        })
        .collect();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let app = Arc::clone(if writer % 2 == 0 { &app } else { &other });
            tokio::spawn(async move {
                for number in 0..10 {
                    customer(&app, &format!("Customer {writer}/{number}")).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let feed = app.admin_get("/admin/v1/events?type=customer.create&limit=1000").await;
    let expected: Vec<u64> =
        feed["items"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(expected.len(), 40);
    let started = Instant::now();
    while receivers.iter().any(|receiver| receiver.received().len() < 40) && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for replica in replicas {
        replica.abort();
    }
    for receiver in &receivers {
        let sequences: Vec<u64> = receiver
            .received()
            .iter()
            .map(|delivery| delivery.json()["sequence"].as_u64().unwrap())
            .collect();
        assert_eq!(sequences, expected);
    }
}

/// Longer than forty deliveries take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_fails_is_sent_again_later_and_later_and_nothing_overtakes_it() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"] });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    let first = customer(&app, "First").await;
    let second = customer(&app, "Second").await;
    receiver.answer_with(&[500, 503, 302, 404, 500]);
    let mut delays = Vec::new();
    for (attempt, status) in (1..).zip([500, 503, 302, 404, 500]) {
        assert_eq!(deliver(&app).await, Some(Ended::Failed));
        let view = app.admin_get(&record(&webhook)).await;
        let delivery = &view["delivery"];
        assert_eq!((&delivery["attempts"], &delivery["last_status"]), (&json!(attempt), &json!(status)));
        assert_eq!(delivery["failing_since"], "2026-11-20T12:00:00Z");
        assert!(text(&delivery["last_error"]).starts_with("answered "), "{delivery}");
        let next: DateTime<Utc> = text(&delivery["next_attempt_at"]).parse().unwrap();
        app.clock.set(next - TimeDelta::milliseconds(1));
        assert_eq!(deliver(&app).await, None, "it is not due yet");
        delays.push(next - text(&delivery["last_attempt_at"]).parse::<DateTime<Utc>>().unwrap());
        app.clock.set(next);
    }
    assert!(delays.is_sorted() && delays[4] > TimeDelta::minutes(15), "{delays:?}");
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver), [vec![first; 6], vec![second]].concat());
    let ids: BTreeSet<_> =
        receiver.received()[..6].iter().map(|delivery| delivery.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "each attempt carries the same id");
    let view = app.admin_get(&record(&webhook)).await;
    assert_eq!(
        (&view["delivery"]["attempts"], &view["delivery"]["failing_since"]),
        (&json!(0), &Value::Null)
    );
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_and_goes_on_where_it_stopped() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"] });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    let first = customer(&app, "First").await;
    receiver.answer_with(&[410]);
    assert_eq!(deliver(&app).await, Some(Ended::Disabled));
    let view = app.admin_get(&record(&webhook)).await;
    assert_eq!(
        (&view["state"], &view["state_reason"]),
        (&json!("disabled"), &json!("The endpoint answered 410 Gone."))
    );
    let audited = app.admin_get("/admin/v1/audit-events?limit=1").await["items"][0].clone();
    assert_eq!(
        (&audited["action"], &audited["actor"]),
        (&json!("webhook.disable"), &json!("webhook_delivery"))
    );
    let second = customer(&app, "Second").await;
    assert_eq!(deliver(&app).await, None);

    let enabled =
        changed(&app, Method::PATCH, &record(&webhook), &record(&webhook), json!({ "state": "enabled" }))
            .await;
    assert_eq!((&enabled["state"], &enabled["state_reason"]), (&json!("enabled"), &Value::Null));
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver), [first.clone(), first, second]);
}

#[tokio::test]
async fn an_endpoint_that_fails_for_a_day_is_disabled_and_loses_nothing() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"] });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    let made = customer(&app, "First").await;
    receiver.answer_with(&[500; 40]);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match deliver(&app).await {
            Some(Ended::Failed) => {
                let view = app.admin_get(&record(&webhook)).await;
                app.clock.set(text(&view["delivery"]["next_attempt_at"]).parse().unwrap());
            }
            ended => {
                assert_eq!(ended, Some(Ended::Disabled));
                break;
            }
        }
    }
    let took = app.clock.now() - beginning();
    assert!(took >= GIVEN_UP_AFTER && took < GIVEN_UP_AFTER + TimeDelta::hours(5), "{took}");
    assert!((10..20).contains(&attempts), "{attempts}");
    let view = app.admin_get(&record(&webhook)).await;
    assert!(text(&view["state_reason"]).contains("answered 500"), "{view}");
    receiver.answer_with(&[]);
    changed(&app, Method::PATCH, &record(&webhook), &record(&webhook), json!({ "state": "enabled" })).await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver).last(), Some(&made));
}

#[tokio::test]
async fn events_are_delivered_again_from_any_cursor() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let first = customer(&app, "First").await;
    let cursor = text(&app.admin_get("/admin/v1/events?limit=1000").await["next_cursor"]);
    let second = customer(&app, "Second").await;
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"], "cursor": cursor });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver), std::slice::from_ref(&second));
    let replay = format!("{}:replay", record(&webhook));
    app.admin_post(&replay, json!({ "cursor": "0" })).await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver), [second.clone(), first, second.clone()]);
    let signatures: Vec<_> =
        receiver.received().iter().map(|delivery| delivery.header("webhook-id")).collect();
    assert_eq!(signatures[0], signatures[2], "an event keeps its id, by which a receiver knows it again");
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    for cursor in [json!("1000000"), json!("-1"), json!("x"), json!(""), Value::Null] {
        let problem =
            refused_post(&app, &replay, &json!({ "cursor": cursor }), status, "invalid_parameters").await;
        assert_eq!(complaints(&problem)[0].0, "/cursor");
    }
}

#[tokio::test]
async fn what_a_dead_replica_had_taken_is_delivered_by_another() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let other = app.another_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"] });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    let made = customer(&app, "First").await;
    let lost = app.app.deliverer().lease().await.unwrap().unwrap();
    assert_eq!(deliver(&other).await, None, "someone else delivers");
    app.clock.set(beginning() + TimeDelta::minutes(2));
    assert_eq!(deliver(&other).await, Some(Ended::CaughtUp));
    assert_eq!(subjects(&receiver), std::slice::from_ref(&made));
    // The one that was thought dead finds that it has lost its place, and cannot move it back.
    let before = app.admin_get(&record(&webhook)).await;
    assert_eq!(app.app.deliverer().deliver(lost).await.unwrap(), Ended::Lost);
    assert_eq!(app.admin_get(&record(&webhook)).await, before);
}

#[tokio::test]
async fn nothing_is_delivered_into_the_operators_own_network() {
    let app = TestApp::start().await;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    for url in [
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0x7f000001/",
        "https://0/",
        "http://1.1.1.1/",
        "http://example.com/",
    ] {
        let problem =
            refused_post(&app, WEBHOOKS, &json!({ "url": url }), status, "invalid_parameters").await;
        assert_eq!(complaints(&problem), [("/url", "address_refused")], "{url}");
    }
    for url in ["ftp://example.com", "example.com", "https://user:secret@example.com/"] {
        let problem =
            refused_post(&app, WEBHOOKS, &json!({ "url": url }), status, "invalid_parameters").await;
        assert_eq!(complaints(&problem), [("/url", "invalid")], "{url}");
    }
    // A name is judged by its addresses when it is used.
    let receiver = Receiver::start();
    let url = format!("https://localhost:{}/", receiver.port());
    let webhook = app.admin_post(WEBHOOKS, json!({ "url": url })).await;
    assert_eq!(deliver(&app).await, Some(Ended::Failed));
    let view = app.admin_get(&record(&webhook)).await;
    assert!(text(&view["delivery"]["last_error"]).contains("not on the public internet"), "{view}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn by_https_only_an_endpoint_that_a_known_authority_vouches_for_is_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let file = authority.file().display().to_string();
    let app = TestApp::start_with(&[LOCAL, ("WEBHOOK_CA_FILE", &file)]).await;
    let known = Receiver::start_secure(&authority.issue(&["127.0.0.1"]));
    let other_name = Receiver::start_secure(&authority.issue(&["orders.example.com"]));
    let unknown = Receiver::start_secure(&stranger.issue(&["127.0.0.1"]));
    let mut outcomes = Vec::new();
    let mut webhook = Value::Null;
    for receiver in [&unknown, &other_name, &known] {
        webhook = app.admin_post(WEBHOOKS, json!({ "url": receiver.url(), "cursor": "0" })).await;
        outcomes.push(deliver(&app).await);
    }
    assert_eq!(outcomes, [Some(Ended::Failed), Some(Ended::Failed), Some(Ended::CaughtUp)]);
    assert!(unknown.received().is_empty() && other_name.received().is_empty());
    let received = known.received();
    let last = received.last().unwrap();
    assert_eq!(last.header("webhook-signature"), last.expected_signature(&text(&webhook["secret"])));
    let listed = app.admin_get(WEBHOOKS).await;
    for (receiver, reason) in [(&unknown, "UnknownIssuer"), (&other_name, "not valid for")] {
        let webhook =
            listed["items"].as_array().unwrap().iter().find(|webhook| webhook["url"] == receiver.url());
        let told = text(&webhook.unwrap()["delivery"]["last_error"]);
        assert!(told.contains(reason), "{told}");
    }
}

#[tokio::test]
async fn a_new_secret_signs_beside_the_old_one_until_that_ends() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let receiver = Receiver::start();
    let body = json!({ "url": receiver.url(), "event_types": ["customer.create"] });
    let webhook = app.admin_post(WEBHOOKS, body).await;
    let rotate = format!("{}:rotate-secret", record(&webhook));
    let first = text(&webhook["secret"]);
    let request = app.admin(Method::POST, &rotate).header("idempotency-key", "rotate");
    let rotated = send(request.try_clone().unwrap()).await.expect(StatusCode::OK);
    assert_eq!(rotated["previous_secret_ends_at"], "2026-11-21T12:00:00Z");
    let again = send(request).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.json(), rotated, "a retry learns the same secret");
    let second = text(&rotated["secret"]);
    assert!(second.starts_with("whsec_") && second != first);

    customer(&app, "Both").await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    let both = receiver.received().pop().unwrap();
    let expected = [both.expected_signature(&second), both.expected_signature(&first)].join(" ");
    assert_eq!(both.header("webhook-signature"), expected);
    assert!(app.admin_get(&record(&webhook)).await.get("secret").is_none());

    app.clock.set("2026-11-21T12:00:00Z".parse().unwrap());
    customer(&app, "One").await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    let one = receiver.received().pop().unwrap();
    assert_eq!(one.header("webhook-signature"), one.expected_signature(&second));
    assert_eq!(app.admin_get(&record(&webhook)).await["previous_secret_ends_at"], Value::Null);

    // One that leaked signs nothing any more, at once.
    let third = text(&app.admin_post(&rotate, json!({ "overlap_seconds": 0 })).await["secret"]);
    customer(&app, "Leaked").await;
    assert_eq!(deliver(&app).await, Some(Ended::CaughtUp));
    let last = receiver.received().pop().unwrap();
    assert_eq!(last.header("webhook-signature"), last.expected_signature(&third));
    let mut connection = app.deployment().database.connection().await;
    let kept: (bool, i32) =
        sqlx::query_as("select previous_secret is not null, sealed_version from webhooks")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(kept, (false, 3));
    for overlap in [json!(-1), json!(604_801)] {
        let body = json!({ "overlap_seconds": overlap });
        let problem =
            refused_post(&app, &rotate, &body, StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters").await;
        assert_eq!(complaints(&problem), [("/overlap_seconds", "out_of_range")]);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let [receiver, elsewhere] = [Receiver::start(), Receiver::start()];
    receiver.redirect_to(&elsewhere.url());
    app.admin_post(WEBHOOKS, json!({ "url": receiver.url() })).await;
    assert_eq!(deliver(&app).await, Some(Ended::Failed));
    assert_eq!((receiver.received().len(), elsewhere.connections()), (1, 0));
}

#[tokio::test]
async fn bad_webhooks_are_told_with_their_places() {
    let app = TestApp::start_with(&[LOCAL]).await;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let body = json!({ "url": 7, "event_types": [], "url2": 1 });
    refused_post(&app, WEBHOOKS, &body, status, "invalid_parameters").await;
    let body =
        json!({ "event_types": ["license.revoke", "license", "*"], "description": "", "cursor": "ten" });
    let problem = refused_post(&app, WEBHOOKS, &body, status, "invalid_parameters").await;
    let expected = [
        ("/url", "missing"),
        ("/description", "blank"),
        ("/event_types/1", "invalid"),
        ("/event_types/2", "invalid"),
        ("/cursor", "invalid"),
    ];
    assert_eq!(complaints(&problem), expected);
    let made = app.admin_post(WEBHOOKS, json!({ "url": "http://127.0.0.1:9/" })).await;
    let patch = app.admin(Method::PATCH, &record(&made)).header("if-match", "*");
    let problem = send(patch.json(&json!({ "state": "deleted", "url": null }))).await;
    let problem = problem.refused(status, "invalid_parameters");
    assert_eq!(complaints(&problem), [("/url", "wrong_type"), ("/state", "invalid")]);
}
