//! The admin API: what order systems, support and operators see and change.

mod audit_events;
mod bad_input;
mod callers;
mod changes;
mod crashes;
mod events;
mod explanations;
mod imports;
mod instances;
mod ledger;
mod lists;
mod plans;
mod races;
mod records;
mod reports;
mod retries;
mod terms;
mod trials;
mod webhooks;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, send};

/// A change made on the record as it is now.
async fn change(app: &TestApp, method: Method, path: &str, record: &str, body: Value) -> Answer {
    let etag = etag(app, record).await;
    send(app.admin(method, path).header("if-match", etag).json(&body)).await
}

/// The same, which must succeed.
async fn changed(app: &TestApp, method: Method, path: &str, record: &str, body: Value) -> Value {
    change(app, method, path, record, body).await.expect(StatusCode::OK)
}

/// The entity tag of a record as it is now.
async fn etag(app: &TestApp, record: &str) -> String {
    let answer = send(app.admin(Method::GET, record)).await;
    answer.expect(StatusCode::OK);
    answer.headers["etag"].to_str().unwrap().to_owned()
}

/// A refused POST.
async fn refused_post(app: &TestApp, path: &str, body: &Value, status: StatusCode, code: &str) -> Value {
    send(app.admin(Method::POST, path).json(body)).await.refused(status, code)
}

/// Where the values are that a 422 complains of, with their codes.
fn complaints(problem: &Value) -> Vec<(&str, &str)> {
    problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
        .collect()
}

/// The unit primitives among these effects, each with its time.
fn effects(list: &Value) -> Vec<(&str, &str)> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|effect| (effect["unit_primitive"].as_str().unwrap(), effect["at"].as_str().unwrap()))
        .collect()
}

/// A subscription to `premium` in its term, of a new customer.
async fn subscription(app: &TestApp) -> Value {
    let customer = app.admin_post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
    let body = new_subscription(&customer["id"]);
    app.admin_post("/admin/v1/subscriptions", body).await
}

fn new_subscription(customer_id: &Value) -> Value {
    json!({
        "customer_id": customer_id, "license_type": "premium", "seats": 10, "trial": false,
        "starts_at": "2026-11-10T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
    })
}
