//! The feed: every change once, in order, however many write at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::complaints;
use crate::support::app::{TestApp, sell, send, text};

#[tokio::test]
async fn events_come_once_and_in_order_while_many_write() {
    let app = Arc::new(TestApp::start().await);
    let other = Arc::new(app.another().await);
    let begin = app.admin_get("/admin/v1/events?limit=1000").await;
    let done = Arc::new(AtomicBool::new(false));

    let reader = {
        let (app, done) = (Arc::clone(&app), Arc::clone(&done));
        let mut cursor = text(&begin["next_cursor"]);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let was_done = done.load(Ordering::SeqCst);
                let answer = app.admin_get(&format!("/admin/v1/events?limit=7&cursor={cursor}")).await;
                let items = answer["items"].as_array().unwrap();
                seen.extend(items.iter().map(|event| (event["sequence"].as_u64().unwrap(), event.clone())));
                cursor = text(&answer["next_cursor"]);
                if was_done && items.is_empty() {
                    return seen;
                }
            }
        })
    };
    let writers = (0..6).map(|writer| {
        let app = Arc::clone(if writer % 2 == 0 { &app } else { &other });
        tokio::spawn(async move {
            let mut made = Vec::new();
            for number in 0..12 {
                let body = json!({ "name": format!("Customer {writer}/{number}") });
                made.push(text(&app.admin_post("/admin/v1/customers", body).await["id"]));
            }
            made
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut made = Vec::new();
    for writer in writers {
        made.extend(writer.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    let seen = reader.await.unwrap();

    let first = begin["next_cursor"].as_str().unwrap().parse::<u64>().unwrap() + 1;
    let expected: Vec<u64> = (first..first + 72).collect();
    assert_eq!(seen.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), expected);
    let mut told: Vec<_> = seen.iter().map(|(_, event)| text(&event["subject_id"])).collect();
    told.sort();
    made.sort();
    assert_eq!(told, made);
}

#[tokio::test]
async fn an_event_tells_the_record_to_those_who_may_read_it() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let customer = format!("subject_kind=customer&subject_id={}", sold.customer_id);
    let told = app.admin_get(&format!("/admin/v1/events?{customer}")).await;
    let [event] = told["items"].as_array().unwrap().as_slice() else { panic!("{told}") };
    let expected = json!({
        "sequence": event["sequence"], "id": event["id"], "type": "customer.create",
        "timestamp": "2026-11-20T12:00:00Z", "subject_kind": "customer", "subject_id": sold.customer_id,
        "data": app.admin_get(&format!("/admin/v1/customers/{}", sold.customer_id)).await,
    });
    assert_eq!(event, &expected);
    // Keys and tokens need other scopes: the feed says that something happened, and the audit what.
    app.admin_post("/admin/v1/admin-tokens", json!({ "name": "n", "scopes": ["audit:read"] })).await;
    for kind in ["signing_key", "admin_token"] {
        let told = app.admin_get(&format!("/admin/v1/events?subject_kind={kind}")).await;
        let items = told["items"].as_array().unwrap();
        assert!(!items.is_empty() && items.iter().all(|event| event["data"] == Value::Null), "{told}");
    }
}

#[tokio::test]
async fn a_cursor_goes_on_behind_any_event_and_waits_at_the_end() {
    let app = TestApp::start().await;
    let all = app.admin_get("/admin/v1/events").await;
    let count = all["items"].as_array().unwrap().len() as u64;
    assert_eq!((&all["has_more"], text(&all["next_cursor"])), (&json!(false), count.to_string()));
    let some = app.admin_get("/admin/v1/events?cursor=2&limit=3").await;
    assert_eq!(some["items"].as_array().unwrap(), &all["items"].as_array().unwrap()[2..5]);
    assert_eq!((&some["has_more"], &some["next_cursor"]), (&json!(true), &json!("5")));
    // A filter that finds nothing goes to the end as well, so that nothing is read twice.
    let none = app.admin_get("/admin/v1/events?cursor=2&type=customer.create").await;
    assert_eq!(none["next_cursor"], all["next_cursor"]);
    let made = app.admin_post("/admin/v1/customers", json!({ "name": "New" })).await;
    let next = app.admin_get(&format!("/admin/v1/events?cursor={}", text(&none["next_cursor"]))).await;
    assert_eq!(next["items"][0]["subject_id"], made["id"]);
    // Ahead of the end there is nothing, and it is not gone back.
    let ahead = app.admin_get("/admin/v1/events?cursor=1000").await;
    assert_eq!((ahead["items"].as_array().unwrap().len(), &ahead["next_cursor"]), (0, &json!("1000")));
    let problem = send(app.admin(Method::GET, "/admin/v1/events?cursor=-1&limit=0&page_token=x")).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let expected = [("?cursor", "invalid"), ("?limit", "out_of_range"), ("?page_token", "unknown_parameter")];
    assert_eq!(complaints(&problem), expected);
}
