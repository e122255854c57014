//! Bad input of every kind: a refusal that points at it, and nothing has changed.

use reqwest::header::{CONTENT_TYPE, IF_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::changes::{tables_changed_since, whole_database};
use super::{complaints, etag};
use crate::support::app::{TestApp, activate, sell, send, text};

/// What is sent, and where the refusal points.
struct Case {
    method: Method,
    path: String,
    body: String,
    pointers: Vec<(&'static str, &'static str)>,
}

fn case(method: Method, path: &str, body: &Value, pointers: &[(&'static str, &'static str)]) -> Case {
    Case { method, path: path.to_owned(), body: body.to_string(), pointers: pointers.to_vec() }
}

/// A body that is right but for this.
fn but(right: &Value, member: &str, value: Value) -> Value {
    let mut wrong = right.clone();
    wrong[member] = value;
    wrong
}

#[tokio::test]
async fn bad_input_is_pointed_at_and_changes_nothing() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let purchases = format!("{subscription}/add-on-purchases");
    let instance = format!("/admin/v1/instances/{}", instance.uid);
    let (post, patch) = (Method::POST, Method::PATCH);
    let customers = "/admin/v1/customers";
    let customer = json!({ "name": "Example GmbH", "email": "it@example.com", "external_ref": "C-1" });
    let subscriptions = "/admin/v1/subscriptions";
    let term = super::new_subscription(&json!(sold.customer_id));
    let purchase =
        json!({ "add_on": "duo_core", "quantity": 1, "starts_at": "2026-11-20", "ends_at": "2027-11-10" });
    let licenses = "/admin/v1/licenses";
    let license = json!({ "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 1 });
    let backend = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 1 });
    let token = json!({ "name": "other", "scopes": ["audit:read"] });
    let deep =
        |open: &str, close: &str| format!("{{\"name\":{}1{}}}", open.repeat(10_000), close.repeat(10_000));
    let long = "n".repeat(10_000);
    let unicode = "\u{202e}\u{0}\u{fffe}";
    let mut cases = vec![
        // Unknown members, alone and beside others.
        case(post.clone(), customers, &but(&customer, "nmae", json!(1)), &[("/nmae", "unknown_member")]),
        case(post.clone(), subscriptions, &but(&term, "seat", json!(1)), &[("/seat", "unknown_member")]),
        case(post.clone(), &purchases, &but(&purchase, "seats", json!(1)), &[("/seats", "unknown_member")]),
        case(
            post.clone(),
            licenses,
            &but(&license, "activation_code", json!("x")),
            &[("/activation_code", "unknown_member")],
        ),
        case(
            post.clone(),
            "/admin/v1/backends",
            &but(&backend, "token", json!("x")),
            &[("/token", "unknown_member")],
        ),
        case(
            post.clone(),
            "/admin/v1/admin-tokens",
            &but(&token, "scope", json!("x")),
            &[("/scope", "unknown_member")],
        ),
        case(
            post.clone(),
            &format!("{instance}:block"),
            &json!({ "reason": "x", "force": true }),
            &[("/force", "unknown_member")],
        ),
        case(
            post.clone(),
            &format!("{instance}:allow-reactivation"),
            &json!({ "reason": "x" }),
            &[("/reason", "unknown_member")],
        ),
        // Wrong types, all of them at once.
        case(
            post.clone(),
            customers,
            &json!({ "name": 7, "email": ["it@example.com"], "external_ref": { "a": 1 }, "vip": true }),
            &[
                ("/email", "wrong_type"),
                ("/external_ref", "wrong_type"),
                ("/name", "wrong_type"),
                ("/vip", "unknown_member"),
            ],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&but(&term, "seats", json!("ten")), "trial", json!("no")),
            &[("/seats", "wrong_type"), ("/trial", "wrong_type")],
        ),
        case(
            post.clone(),
            &purchases,
            &but(&purchase, "quantity", json!(1.5)),
            &[("/quantity", "wrong_type")],
        ),
        case(
            post.clone(),
            licenses,
            &but(&license, "max_instances", json!(1e30)),
            &[("/max_instances", "wrong_type")],
        ),
        case(patch.clone(), &subscription, &json!({ "seats": null }), &[("/seats", "wrong_type")]),
        case(
            post.clone(),
            "/admin/v1/admin-tokens",
            &but(&token, "scopes", json!("audit:read")),
            &[("/scopes", "wrong_type")],
        ),
        case(post.clone(), customers, &json!(["Example GmbH"]), &[("", "wrong_type")]),
        // Terms that are none.
        case(
            post.clone(),
            subscriptions,
            &but(&term, "ends_at", json!("2026-11-09T00:00:00Z")),
            &[("/ends_at", "out_of_range")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "ends_at", term["starts_at"].clone()),
            &[("/ends_at", "out_of_range")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "starts_at", json!("2026-02-30")),
            &[("/starts_at", "invalid")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "ends_at", json!("10000-01-01")),
            &[("/ends_at", "invalid")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "time_zone", json!("Mars/Olympus")),
            &[("/time_zone", "invalid")],
        ),
        case(
            post.clone(),
            &purchases,
            &but(&purchase, "ends_at", json!("2026-11-20")),
            &[("/ends_at", "out_of_range")],
        ),
        case(
            patch.clone(),
            &subscription,
            &json!({ "ends_at": "2020-01-01" }),
            &[("/ends_at", "out_of_range")],
        ),
        case(
            post.clone(),
            &format!("{subscription}:renew"),
            &json!({ "ends_at": "2026-12-01", "reason": "x" }),
            &[("/ends_at", "out_of_range")],
        ),
        // Numbers of seats that nobody can sit on.
        case(post.clone(), subscriptions, &but(&term, "seats", json!(-1)), &[("/seats", "out_of_range")]),
        case(post.clone(), subscriptions, &but(&term, "seats", json!(0)), &[("/seats", "out_of_range")]),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "seats", json!(i64::from(i32::MAX) + 1)),
            &[("/seats", "out_of_range")],
        ),
        case(
            post.clone(),
            &purchases,
            &but(&purchase, "quantity", json!(-5)),
            &[("/quantity", "out_of_range")],
        ),
        case(
            post.clone(),
            licenses,
            &but(&license, "max_instances", json!(0)),
            &[("/max_instances", "out_of_range")],
        ),
        case(
            post.clone(),
            "/admin/v1/backends",
            &but(&backend, "min_live", json!(-1)),
            &[("/min_live", "out_of_range")],
        ),
        // What nobody knows.
        case(
            post.clone(),
            &purchases,
            &but(&purchase, "add_on", json!("duo_prp")),
            &[("/add_on", "unknown")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "license_type", json!("gold")),
            &[("/license_type", "unknown")],
        ),
        case(
            post.clone(),
            subscriptions,
            &but(&term, "customer_id", json!(sold.license_id)),
            &[("/customer_id", "unknown")],
        ),
        case(
            post.clone(),
            licenses,
            &but(&license, "subscription_id", json!(sold.customer_id)),
            &[("/subscription_id", "unknown")],
        ),
        case(post.clone(), licenses, &but(&license, "kind", json!("onlime")), &[("/kind", "invalid")]),
        case(
            post.clone(),
            "/admin/v1/backends",
            &but(&backend, "name", json!("ai_gatewya")),
            &[("/name", "unknown")],
        ),
        // Names.
        case(post.clone(), customers, &but(&customer, "name", json!(long)), &[("/name", "too_long")]),
        case(
            post.clone(),
            customers,
            &but(&customer, "name", json!("株".repeat(256))),
            &[("/name", "too_long")],
        ),
        case(
            post.clone(),
            customers,
            &but(&customer, "name", json!("\u{3000} \u{2003}")),
            &[("/name", "blank")],
        ),
        case(post.clone(), customers, &but(&customer, "name", json!(unicode)), &[("/name", "invalid")]),
        case(
            post.clone(),
            customers,
            &but(&customer, "external_ref", json!(long)),
            &[("/external_ref", "too_long")],
        ),
        case(
            post.clone(),
            customers,
            &but(&customer, "email", json!(format!("{long}@example.com"))),
            &[("/email", "too_long")],
        ),
        case(
            post.clone(),
            &format!("{subscription}:suspend"),
            &json!({ "reason": long }),
            &[("/reason", "too_long")],
        ),
        case(
            post.clone(),
            "/admin/v1/admin-tokens",
            &but(&token, "name", json!(long)),
            &[("/name", "too_long")],
        ),
    ];
    // Nested ten thousand deep: in a member, in one that nobody knows, and as a whole.
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let body = deep(open, close);
        let unknown = body.replacen("name", "nmae", 1);
        let whole = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let whole_is = if open == "[" { ("", "wrong_type") } else { ("/a", "unknown_member") };
        for (body, pointer) in
            [(body, ("/name", "wrong_type")), (unknown, ("/nmae", "unknown_member")), (whole, whole_is)]
        {
            cases.push(Case {
                method: post.clone(),
                path: customers.to_owned(),
                body,
                pointers: vec![pointer],
            });
        }
    }
    let tag = etag(&app, &subscription).await;
    let before = whole_database(&app).await;
    for Case { method, path, body, pointers } in cases {
        let request =
            app.admin(method.clone(), &path).header(CONTENT_TYPE, "application/json").header(IF_MATCH, &tag);
        let answer = send(request.body(body.clone())).await;
        let problem = answer.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        let mut told = complaints(&problem);
        told.sort_unstable();
        assert_eq!(told, pointers, "{method} {path} {body:.200}");
    }

    // Tags of other records, tokens of pages edited by hand, ids that are none.
    let tag_of_customer = etag(&app, &format!("{customers}/{}", sold.customer_id)).await;
    for wrong in [tag_of_customer.as_str(), "\"1\"", "1", "", "\"1-0000000000000000\""] {
        let request =
            app.admin(Method::PATCH, &subscription).header(IF_MATCH, wrong).json(&json!({ "seats": 5 }));
        send(request).await.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    }
    for path in [
        format!("{customers}?page_token=eyJhZnRlciI6MX0"),
        format!("{customers}?page_token=%F0%9F%A6%80"),
        format!("{customers}?page_token={}", "A".repeat(5_000)),
    ] {
        let problem = send(app.admin(Method::GET, &path)).await;
        let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(complaints(&problem), [("?page_token", "invalid")]);
    }
    for id in ["1", "00000000-0000-0000-0000-00000000000g", "%00", "%ff", &long[..1_000]] {
        let answer = send(app.admin(Method::GET, &format!("{customers}/{id}"))).await;
        answer.refused(StatusCode::NOT_FOUND, "not_found");
    }
    let changed: [&str; 0] = [];
    assert_eq!(tables_changed_since(&app, &before).await, changed);
    // What is only unusual is taken as it is.
    let unusual =
        json!({ "name": "Ünïcödé 株式会社 🦀 \u{202e}abc", "external_ref": "ref/with?everything=&#%" });
    let made = app.admin_post(customers, unusual.clone()).await;
    assert_eq!((&made["name"], &made["external_ref"]), (&unusual["name"], &unusual["external_ref"]));
    assert_eq!(text(&made["id"]).len(), 36);
}
