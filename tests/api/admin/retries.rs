//! Exactly once: retries, twins, and references of other systems.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{change, etag, refused_post};
use crate::support::app::{Answer, TestApp, sell, send, text};

async fn post(app: &TestApp, path: &str, key: &str, body: &Value) -> Answer {
    send(app.admin(Method::POST, path).header("idempotency-key", key).json(body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

async fn count(app: &TestApp, table: &'static str) -> i64 {
    let mut connection = app.deployment().database.connection().await;
    let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_even_with_a_secret_that_is_kept_nowhere() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let body = json!({ "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 2 });
    let first = post(&app, "/admin/v1/licenses", "order-1", &body).await;
    first.expect(StatusCode::CREATED);
    assert!(!is_replayed(&first));
    app.clock.set("2026-11-21T11:59:59Z".parse().unwrap());
    let again = post(&app.another().await, "/admin/v1/licenses", "order-1", &body).await;
    assert!(is_replayed(&again));
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    for header in ["etag", "location", "content-type", "cache-control"] {
        assert_eq!(again.headers[header], first.headers[header]);
    }
    assert_eq!(count(&app, "licenses").await, 2);
    let code = text(&first.json()["activation_code"]);
    let mut connection = app.deployment().database.connection().await;
    let stored: Vec<u8> =
        sqlx::query_scalar("select sealed_body from idempotency_keys where key = 'order-1'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(!stored.windows(code.len()).any(|window| window == code.as_bytes()));

    // A day later the key is forgotten.
    app.clock.set("2026-11-21T12:00:00Z".parse().unwrap());
    let later = post(&app, "/admin/v1/licenses", "order-1", &body).await;
    assert!(!is_replayed(&later));
    assert_eq!(count(&app, "licenses").await, 3);
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_token_on_one_route() {
    let app = TestApp::start().await;
    let body = json!({ "name": "Example GmbH" });
    let path = "/admin/v1/customers";
    post(&app, path, "k", &body).await.expect(StatusCode::CREATED);
    let other_body = post(&app, path, "k", &json!({ "name": "Other" })).await;
    other_body.refused(StatusCode::CONFLICT, "idempotency_key_reused");
    let other_query = post(&app, &format!("{path}?validate_only=false"), "k", &body).await;
    other_query.refused(StatusCode::CONFLICT, "idempotency_key_reused");
    let token = json!({ "name": "other", "scopes": ["fulfillment:write"] });
    // The same key on another route is another key.
    let token = post(&app, "/admin/v1/admin-tokens", "k", &token).await.expect(StatusCode::CREATED);
    let request = app.request(Method::POST, path).bearer_auth(text(&token["token"]));
    let other_caller = send(request.header("idempotency-key", "k").json(&body)).await;
    other_caller.expect(StatusCode::CREATED);
    assert!(!is_replayed(&other_caller));
    for key in ["", &"k".repeat(256)] {
        post(&app, path, key, &body).await.refused(StatusCode::BAD_REQUEST, "invalid_request");
    }
}

#[tokio::test]
async fn a_refusal_is_not_kept_so_that_the_retry_is_judged_anew() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let resume = format!("{record}:resume");
    let body = json!({ "reason": "paid" });
    post(&app, &resume, "k", &body).await.refused(StatusCode::CONFLICT, "conflict");
    let suspended =
        change(&app, Method::POST, &format!("{record}:suspend"), &record, json!({ "reason": "unpaid" }))
            .await;
    suspended.expect(StatusCode::OK);
    post(&app, &resume, "k", &body).await.expect(StatusCode::OK);
    assert!(is_replayed(&post(&app, &resume, "k", &body).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_twins_make_one_record_and_get_one_answer() {
    let app = TestApp::start().await;
    let other = app.another().await;
    let body = json!({ "name": "Example GmbH", "external_ref": "C-1" });
    let twins = (0..50).map(|number| {
        let app = if number % 2 == 0 { &app } else { &other };
        post(app, "/admin/v1/customers", "order-1", &body)
    });
    let answers = at_once(twins).await;
    let texts: BTreeSet<_> = answers.iter().map(|answer| (answer.status, answer.text.clone())).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(answers[0].status, StatusCode::CREATED);
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    assert_eq!(count(&app, "customers").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_one_external_ref_one_has_it_and_the_others_learn_whose_it_is() {
    let app = TestApp::start().await;
    let body = json!({ "name": "Example GmbH", "external_ref": "C-1" });
    let answers =
        at_once((0..20).map(|_| send(app.admin(Method::POST, "/admin/v1/customers").json(&body)))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
    assert_eq!(made.len(), 1);
    let id = made[0].json()["id"].clone();
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        assert_eq!(answer.refused(StatusCode::CONFLICT, "conflict")["existing"], id);
    }
}

#[tokio::test]
async fn a_reference_is_unique_for_each_kind_of_record() {
    let app = TestApp::start().await;
    let customer = app.admin_post("/admin/v1/customers", json!({ "name": "One", "external_ref": "X" })).await;
    let mut body = super::new_subscription(&customer["id"]);
    body["external_ref"] = json!("X");
    let subscription = app.admin_post("/admin/v1/subscriptions", body.clone()).await;
    let problem =
        refused_post(&app, "/admin/v1/subscriptions", &body, StatusCode::CONFLICT, "conflict").await;
    assert_eq!(problem["existing"], subscription["id"]);
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", text(&subscription["id"]));
    let body = json!({
        "add_on": "duo_pro", "quantity": 1, "starts_at": "2026-11-20", "ends_at": "2027-11-10", "external_ref": "X",
    });
    let purchase = app.admin_post(&purchases, body.clone()).await;
    let problem = refused_post(&app, &purchases, &body, StatusCode::CONFLICT, "conflict").await;
    assert_eq!(problem["existing"], purchase["id"]);
    let body = json!({ "subscription_id": subscription["id"], "kind": "online", "max_instances": 1, "external_ref": "X" });
    let license = app.admin_post("/admin/v1/licenses", body.clone()).await;
    let problem = refused_post(&app, "/admin/v1/licenses", &body, StatusCode::CONFLICT, "conflict").await;
    assert_eq!(problem["existing"], license["id"]);

    let other = app.admin_post("/admin/v1/customers", json!({ "name": "Other" })).await;
    let record = format!("/admin/v1/customers/{}", text(&other["id"]));
    let taken = change(&app, Method::PATCH, &record, &record, json!({ "external_ref": "X" })).await;
    assert_eq!(taken.refused(StatusCode::CONFLICT, "conflict")["existing"], customer["id"]);
    // Its own is no other's.
    let record = format!("/admin/v1/customers/{}", text(&customer["id"]));
    change(&app, Method::PATCH, &record, &record, json!({ "external_ref": "X" }))
        .await
        .expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_administrators_who_change_one_record_one_wins() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let etag = etag(&app, &record).await;
    let requests = (1..=10).map(|seats| {
        let request = app.admin(Method::PATCH, &record).header("if-match", &etag);
        send(request.json(&json!({ "seats": seats })))
    });
    let answers = at_once(requests).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == StatusCode::OK).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(app.admin_get(&record).await["seats"], won[0].json()["seats"]);
    for lost in answers.iter().filter(|answer| answer.status != StatusCode::OK) {
        lost.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    }
}

/// Runs all of them at once.
async fn at_once<F>(requests: impl Iterator<Item = F>) -> Vec<Answer>
where
    F: Future<Output = Answer>,
{
    let mut waiting: Vec<_> = requests.map(Box::pin).collect();
    let mut answers: Vec<Option<Answer>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (request, answer) in waiting.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = request.as_mut().poll(context)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}
