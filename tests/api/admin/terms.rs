//! Terms as contracts word them: dates, time zones, renewals.

use reqwest::{Method, StatusCode};
use serde_json::json;
use token_authority::domain::subscription::SubscriptionState;

use super::{change, changed, complaints, effects, new_subscription};
use crate::support::app::{TestApp, activate, sell, text};

#[tokio::test]
async fn dates_are_days_where_the_contract_holds_and_shown_as_both() {
    let app = TestApp::start().await;
    let customer = app.admin_post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
    for (zone, starts_at, ends_at) in [
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z"),
        ("America/Los_Angeles", "2026-03-29T07:00:00Z", "2026-10-25T07:00:00Z"),
        ("Pacific/Kiritimati", "2026-03-28T10:00:00Z", "2026-10-24T10:00:00Z"),
        // Clocks go forward at midnight: the day begins at one.
        ("Africa/Cairo", "2026-03-28T22:00:00Z", "2026-10-24T21:00:00Z"),
    ] {
        let mut body = new_subscription(&customer["id"]);
        body["time_zone"] = json!(zone);
        body["starts_at"] = json!("2026-03-29");
        body["ends_at"] = json!("2026-10-25");
        let made = app.admin_post("/admin/v1/subscriptions", body).await;
        assert_eq!(
            (&made["starts_on"], &made["ends_on"]),
            (&json!("2026-03-29"), &json!("2026-10-25")),
            "{zone}"
        );
        assert_eq!((&made["starts_at"], &made["ends_at"]), (&json!(starts_at), &json!(ends_at)), "{zone}");
        assert_eq!(made["time_zone"], zone);
        // A purchase in dates follows the subscription's zone.
        let path = format!("/admin/v1/subscriptions/{}/add-on-purchases", text(&made["id"]));
        let body =
            json!({ "add_on": "duo_pro", "quantity": 1, "starts_at": "2026-03-29", "ends_at": "2026-10-25" });
        let purchase = app.admin_post(&path, body).await;
        assert_eq!(
            (&purchase["starts_at"], &purchase["ends_at"]),
            (&json!(starts_at), &json!(ends_at)),
            "{zone}"
        );
    }
}

#[tokio::test]
async fn a_patched_end_keeps_the_start_as_the_contract_words_it() {
    let app = TestApp::start().await;
    let customer = app.admin_post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
    let mut body = new_subscription(&customer["id"]);
    body["time_zone"] = json!("Europe/Berlin");
    body["starts_at"] = json!("2026-11-01");
    body["ends_at"] = json!("2027-11-01");
    let made = app.admin_post("/admin/v1/subscriptions", body).await;
    let record = format!("/admin/v1/subscriptions/{}", text(&made["id"]));
    let patched =
        changed(&app, Method::PATCH, &record, &record, json!({ "ends_at": "2027-06-01T00:00:00+02:00" }))
            .await;
    assert_eq!((&patched["starts_on"], patched.get("ends_on")), (&json!("2026-11-01"), None));
    assert_eq!(patched["ends_at"], "2027-05-31T22:00:00Z");
    let wrong = change(&app, Method::PATCH, &record, &record, json!({ "ends_at": "2026-11-01" })).await;
    let problem = wrong.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(complaints(&problem), [("/ends_at", "out_of_range")]);
}

#[tokio::test]
async fn a_subscription_tells_what_its_term_and_condition_come_to() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    for (now, state) in [
        ("2026-11-09T23:59:59Z", "not_started"),
        ("2026-11-10T00:00:00Z", "active"),
        ("2027-11-10T00:00:00Z", "in_grace"),
        ("2027-11-24T00:00:00Z", "expired"),
    ] {
        app.clock.set(now.parse().unwrap());
        assert_eq!(app.admin_get(&record).await["state"], state, "{now}");
        assert_eq!(listed_under(&app).await, [state], "{now}");
    }
    changed(&app, Method::PATCH, &record, &record, json!({ "trial": true })).await;
    app.clock.set("2027-11-10T00:00:00Z".parse().unwrap());
    assert_eq!(app.admin_get(&record).await["state"], "expired");
    assert_eq!(listed_under(&app).await, ["expired"]);
    changed(&app, Method::POST, &format!("{record}:suspend"), &record, json!({ "reason": "unpaid" })).await;
    assert_eq!(listed_under(&app).await, ["suspended"]);
    changed(&app, Method::POST, &format!("{record}:cancel"), &record, json!({ "reason": "unpaid" })).await;
    assert_eq!(listed_under(&app).await, ["canceled"]);
}

/// The states whose list shows the only subscription.
async fn listed_under(app: &TestApp) -> Vec<&'static str> {
    let mut under = Vec::new();
    for state in SubscriptionState::ALL {
        let listed = app.admin_get(&format!("/admin/v1/subscriptions?state={state}")).await;
        if listed["items"] != json!([]) {
            under.push(state.as_str());
        }
    }
    under
}

#[tokio::test]
async fn a_renewal_tells_from_when_on_it_makes_a_difference() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let path = format!("{record}:renew");
    let body = json!({ "ends_at": "2028-11-10", "reason": "renewed" });
    let renewed = changed(&app, Method::POST, &path, &record, body).await;
    assert_eq!(
        (&renewed["ends_at"], &renewed["ends_on"]),
        (&json!("2028-11-10T00:00:00Z"), &json!("2028-11-10"))
    );
    // Until the grace of the term before ends, nothing changes.
    let gained = effects(&renewed["effects"]["gained"]);
    assert!(!gained.is_empty() && gained.iter().all(|(_, at)| *at == "2027-11-24T00:00:00Z"), "{gained:?}");
    assert_eq!(renewed["effects"]["lost"], json!([]));
    let body = json!({ "ends_at": "2028-11-10", "reason": "again" });
    let problem = change(&app, Method::POST, &path, &record, body).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(complaints(&problem), [("/ends_at", "out_of_range")]);
}
