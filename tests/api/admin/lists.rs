//! Pages by key, and the filters of lists.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{changed, complaints, new_subscription};
use crate::support::app::{TestApp, activate, sell, send, text};

/// The ids on a page, which are sorted by them.
fn ids(page: &Value, member: &str) -> Vec<String> {
    let ids: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| text(&item[member])).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    ids
}

#[tokio::test]
async fn pages_show_each_record_once_while_others_are_added() {
    let app = TestApp::start().await;
    let mut made = BTreeSet::new();
    for number in 0..7 {
        let body = json!({ "name": format!("Customer {number}") });
        made.insert(text(&app.admin_post("/admin/v1/customers", body).await["id"]));
    }
    let mut seen = Vec::new();
    let mut path = "/admin/v1/customers?limit=3".to_owned();
    loop {
        let page = app.admin_get(&path).await;
        seen.extend(ids(&page, "id"));
        app.admin_post("/admin/v1/customers", json!({ "name": "Late" })).await;
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("/admin/v1/customers?limit=3&page_token={token}");
        assert!(seen.len() < 50, "it never ends");
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len());
    assert!(made.is_subset(&distinct));
}

#[tokio::test]
async fn a_page_token_holds_for_its_list_and_filters_and_cannot_be_edited() {
    let app = TestApp::start().await;
    for number in 0..3 {
        app.admin_post("/admin/v1/customers", json!({ "name": format!("Customer {number}") })).await;
    }
    let page = app.admin_get("/admin/v1/customers?limit=1&archived=false").await;
    let token = text(&page["next_page_token"]);
    app.admin_get(&format!("/admin/v1/customers?archived=false&page_token={token}&limit=2")).await;
    let mut edited = token.clone().into_bytes();
    edited[20] = if edited[20] == b'A' { b'B' } else { b'A' };
    let edited = String::from_utf8(edited).unwrap();
    for path in [
        format!("/admin/v1/customers?page_token={token}"),
        format!("/admin/v1/customers?archived=true&page_token={token}"),
        format!("/admin/v1/licenses?archived=false&page_token={token}").replace("archived=false&", ""),
        format!("/admin/v1/customers?archived=false&page_token={edited}"),
        "/admin/v1/customers?archived=false&page_token=".to_owned(),
        "/admin/v1/customers?archived=false&page_token=AAAA".to_owned(),
    ] {
        let problem = send(app.admin(Method::GET, &path)).await;
        let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(complaints(&problem), [("?page_token", "invalid")], "{path}");
    }
}

#[tokio::test]
async fn wrong_unknown_and_repeated_parameters_are_refused_all_at_once() {
    let app = TestApp::start().await;
    let path = "/admin/v1/subscriptions?limit=0&customer_id=7&condition=happy&expires_before=soon&expired=1&seats=2&limit=3";
    let problem = send(app.admin(Method::GET, path)).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let expected = [
        ("?customer_id", "invalid"),
        ("?condition", "invalid"),
        ("?expires_before", "invalid"),
        ("?limit", "out_of_range"),
        ("?expired", "unknown_parameter"),
        ("?seats", "unknown_parameter"),
        ("?limit", "repeated"),
    ];
    assert_eq!(complaints(&problem), expected);
}

#[tokio::test]
async fn filters_are_joined_by_and() {
    let app = TestApp::start().await;
    let one = app.admin_post("/admin/v1/customers", json!({ "name": "One", "external_ref": "C/1 +" })).await;
    let other = app.admin_post("/admin/v1/customers", json!({ "name": "Other" })).await;
    let found = app.admin_get("/admin/v1/customers?external_ref=C%2F1%20%2B").await;
    assert_eq!(ids(&found, "id"), [text(&one["id"])]);

    let mut subscriptions = Vec::new();
    for (customer, plan, ends_at) in
        [(&one, "premium", "2027-01-01"), (&one, "ultimate", "2028-01-01"), (&other, "premium", "2027-01-01")]
    {
        let mut body = new_subscription(&customer["id"]);
        body["license_type"] = json!(plan);
        body["ends_at"] = json!(ends_at);
        subscriptions.push(text(&app.admin_post("/admin/v1/subscriptions", body).await["id"]));
    }
    let suspended = format!("/admin/v1/subscriptions/{}", subscriptions[2]);
    let reason = json!({ "reason": "unpaid" });
    changed(&app, Method::POST, &format!("{suspended}:suspend"), &suspended, reason).await;
    let customer = format!("customer_id={}", text(&one["id"]));
    for (filter, expected) in [
        (customer.clone(), vec![0, 1]),
        (format!("{customer}&license_type=premium"), vec![0]),
        ("expires_before=2027-06-01T00:00:00Z".to_owned(), vec![0, 2]),
        ("expires_before=2027-06-01T00:00:00Z&condition=suspended".to_owned(), vec![2]),
        (format!("{customer}&condition=suspended"), vec![]),
        ("state=suspended".to_owned(), vec![2]),
        (format!("{customer}&state=active"), vec![0, 1]),
        ("state=not_started".to_owned(), vec![]),
    ] {
        let found = app.admin_get(&format!("/admin/v1/subscriptions?{filter}")).await;
        // Made in one millisecond, they are in no order of their own.
        let mut expected: Vec<_> =
            expected.into_iter().map(|index: usize| subscriptions[index].clone()).collect();
        expected.sort();
        assert_eq!(ids(&found, "id"), expected, "{filter}");
    }
}

#[tokio::test]
async fn licenses_instances_and_purchases_are_found_by_what_they_belong_to() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 5).await;
    sell(&app, Some("duo_core"), 5).await;
    let first = activate(&app, &sold.activation_code).await;
    let second = activate(&app, &sold.activation_code).await;
    let blocked = format!("/admin/v1/instances/{}", second.uid);
    changed(&app, Method::POST, &format!("{blocked}:block"), &blocked, json!({ "reason": "why" })).await;
    let subscription = &sold.subscription_id;
    for (path, member, expected) in [
        (format!("/admin/v1/licenses?subscription_id={subscription}"), "id", vec![&sold.license_id]),
        (format!("/admin/v1/licenses?subscription_id={subscription}&state=revoked"), "id", vec![]),
        (
            format!("/admin/v1/instances?license_id={}", sold.license_id),
            "instance_uid",
            vec![&first.uid, &second.uid],
        ),
        (
            format!("/admin/v1/instances?subscription_id={subscription}&state=blocked"),
            "instance_uid",
            vec![&second.uid],
        ),
        (format!("/admin/v1/instances?instance_id={}", first.instance_id), "instance_uid", vec![&first.uid]),
        (
            format!("/admin/v1/instances?customer_id={}", sold.customer_id),
            "instance_uid",
            vec![&first.uid, &second.uid],
        ),
        (
            format!("/admin/v1/instances?customer_id={}&state=active&kind=production", sold.customer_id),
            "instance_uid",
            vec![&first.uid],
        ),
        ("/admin/v1/instances?kind=staging".to_owned(), "instance_uid", vec![]),
        ("/admin/v1/instances?contested=true".to_owned(), "instance_uid", vec![]),
        (format!("/admin/v1/subscriptions/{subscription}/add-on-purchases?add_on=duo_core"), "id", vec![]),
    ] {
        let found = app.admin_get(&path).await;
        let mut expected: Vec<_> = expected.into_iter().cloned().collect();
        expected.sort();
        assert_eq!(ids(&found, member), expected, "{path}");
        assert_eq!(found["next_page_token"], Value::Null);
    }
}
