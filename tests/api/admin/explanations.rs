//! "Why": what an instance may use at any instant, past as it was recorded then, and future as it is recorded now.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::changed;
use crate::support::app::{Instance, Sold, TestApp, activate, sell, send, text};

/// A subscription to `premium` with an instance, and a clock that the story moves.
struct Story {
    app: TestApp,
    sold: Sold,
    instance: Instance,
}

impl Story {
    async fn begin() -> Self {
        let app = TestApp::start().await;
        let sold = sell(&app, None, 1).await;
        let instance = activate(&app, &sold.activation_code).await;
        Self { app, sold, instance }
    }

    fn now(&self, now: &str) {
        self.app.clock.set(now.parse().unwrap());
    }

    fn subscription(&self) -> String {
        format!("/admin/v1/subscriptions/{}", self.sold.subscription_id)
    }

    async fn buy(&self, add_on: &str, starts_at: &str, ends_at: &str) -> String {
        let path = format!("{}/add-on-purchases", self.subscription());
        let body = json!({ "add_on": add_on, "quantity": 1, "starts_at": starts_at, "ends_at": ends_at });
        format!("{path}/{}", text(&self.app.admin_post(&path, body).await["id"]))
    }

    /// Whether the unit primitive is granted at an instant, and why.
    async fn why(&self, unit_primitive: &str, at: &str) -> (bool, String) {
        let entry = self.entry(unit_primitive, at).await;
        (entry["granted"].as_bool().unwrap(), text(&entry["code"]))
    }

    async fn entry(&self, unit_primitive: &str, at: &str) -> Value {
        let path = format!("/admin/v1/instances/{}/entitlements?at={at}", self.instance.uid);
        let explained = self.app.admin_get(&path).await;
        assert_eq!(explained["at"], at);
        // Whoever is asked, the administrator or the instance itself, it is one answer.
        let path = format!("/v1/entitlements?at={at}");
        let own = send(self.instance.request(&self.app, Method::GET, &path)).await.expect(StatusCode::OK);
        assert_eq!(own, explained);
        let entries = explained["entitlements"].as_array().unwrap();
        entries.iter().find(|entry| entry["unit_primitive"] == unit_primitive).unwrap().clone()
    }
}

fn yes(add_on: &str) -> (bool, String) {
    (true, format!("add_on:{add_on}"))
}

fn no(code: &str) -> (bool, String) {
    (false, code.to_owned())
}

#[tokio::test]
async fn a_back_dated_purchase_changes_no_past_that_was_recorded() {
    let story = Story::begin().await;
    story.now("2026-12-10T00:00:00Z");
    assert_eq!(story.why("duo_chat", "2026-12-05T00:00:00Z").await, no("add_on_not_purchased"));
    // Sold on the tenth for all of December, and amended on the twelfth.
    let purchase = story.buy("duo_pro", "2026-12-01", "2027-01-01").await;
    story.now("2026-12-12T00:00:00Z");
    changed(&story.app, Method::PATCH, &purchase, &purchase, json!({ "add_on": "duo_core" })).await;
    story.now("2026-12-20T00:00:00Z");
    assert_eq!(story.why("duo_chat", "2026-12-05T00:00:00Z").await, no("add_on_not_purchased"));
    assert_eq!(story.why("duo_chat", "2026-12-09T23:59:59Z").await, no("add_on_not_purchased"));
    assert_eq!(story.why("duo_chat", "2026-12-10T00:00:00Z").await, yes("duo_pro"));
    assert_eq!(story.why("duo_chat", "2026-12-12T00:00:00Z").await, yes("duo_core"));
    assert_eq!(story.why("duo_chat", "2026-12-20T00:00:00Z").await, yes("duo_core"));
    assert_eq!(story.why("duo_chat", "2026-12-31T23:59:59Z").await, yes("duo_core"));
    assert_eq!(story.why("duo_chat", "2027-01-01T00:00:00Z").await, no("add_on_not_purchased"));
}

#[tokio::test]
async fn of_overlapping_purchases_the_one_that_lasts_grants_and_a_gap_is_a_gap() {
    let story = Story::begin().await;
    story.buy("duo_core", "2026-12-01", "2027-02-01").await;
    story.buy("duo_pro", "2027-01-01", "2027-03-01").await;
    let late = story.buy("duo_enterprise", "2027-04-01", "2027-05-01").await;
    for (at, expected) in [
        ("2026-11-30T23:59:59Z", no("add_on_not_purchased")),
        ("2026-12-01T00:00:00Z", yes("duo_core")),
        ("2026-12-31T23:59:59Z", yes("duo_core")),
        ("2027-01-01T00:00:00Z", yes("duo_pro")),
        ("2027-02-28T23:59:59Z", yes("duo_pro")),
        ("2027-03-01T00:00:00Z", no("add_on_not_purchased")),
        ("2027-04-01T00:00:00Z", yes("duo_enterprise")),
        ("2027-05-01T00:00:00Z", no("add_on_not_purchased")),
    ] {
        assert_eq!(story.why("duo_chat", at).await, expected, "{at}");
    }
    // Until when it stays so, and for this cause.
    assert_eq!(story.entry("duo_chat", "2026-12-15T00:00:00Z").await["until"], "2027-01-01T00:00:00Z");
    assert_eq!(story.entry("duo_chat", "2027-01-15T00:00:00Z").await["until"], "2027-03-01T00:00:00Z");
    // The future is that of what is recorded now.
    changed(&story.app, Method::DELETE, &late, &late, json!({})).await;
    assert_eq!(story.why("duo_chat", "2027-04-01T00:00:00Z").await, no("add_on_not_purchased"));
}

#[tokio::test]
async fn a_renewal_and_a_suspension_hold_from_when_they_were_made() {
    let story = Story::begin().await;
    story.buy("duo_pro", "2026-11-10", "2029-11-10").await;
    let subscription = story.subscription();
    // The term ends on 2027-11-10, its grace two weeks later.
    assert_eq!(story.why("duo_chat", "2027-11-24T00:00:00Z").await, no("expired"));
    story.now("2027-11-30T00:00:00Z");
    let renewal = json!({ "ends_at": "2028-11-10", "reason": "paid late" });
    story.app.admin_post(&format!("{subscription}:renew"), renewal).await;
    story.now("2028-01-01T00:00:00Z");
    // For six days it had expired, and had it been asked then, it would have said so.
    assert_eq!(story.why("duo_chat", "2027-11-23T23:59:59Z").await, yes("duo_pro"));
    assert_eq!(story.why("duo_chat", "2027-11-24T00:00:00Z").await, no("expired"));
    assert_eq!(story.why("duo_chat", "2027-11-29T23:59:59Z").await, no("expired"));
    assert_eq!(story.why("duo_chat", "2027-11-30T00:00:00Z").await, yes("duo_pro"));
    let reason = json!({ "reason": "unpaid" });
    changed(&story.app, Method::POST, &format!("{subscription}:suspend"), &subscription, reason).await;
    // As long as nobody resumes it, it stays suspended; then only that time was lost.
    assert_eq!(story.why("duo_chat", "2028-06-01T00:00:00Z").await, no("subscription_suspended"));
    story.now("2028-02-01T00:00:00Z");
    story.app.admin_post(&format!("{subscription}:resume"), json!({ "reason": "paid" })).await;
    assert_eq!(story.why("duo_chat", "2028-01-15T00:00:00Z").await, no("subscription_suspended"));
    assert_eq!(story.why("duo_chat", "2028-06-01T00:00:00Z").await, yes("duo_pro"));
    assert_eq!(story.why("duo_chat", "2028-11-23T23:59:59Z").await, yes("duo_pro"));
    assert_eq!(story.entry("duo_chat", "2028-11-23T23:59:59Z").await["in_grace"], true);
    assert_eq!(story.why("duo_chat", "2028-11-24T00:00:00Z").await, no("expired"));
}

#[tokio::test]
async fn days_of_a_contract_begin_and_end_where_it_was_made() {
    let app = TestApp::start().await;
    for (zone, begins, last, ends) in [
        ("Pacific/Auckland", "2026-11-30T11:00:00Z", "2027-03-31T10:59:59Z", "2027-03-31T11:00:00Z"),
        ("America/New_York", "2026-12-01T05:00:00Z", "2027-04-01T03:59:59Z", "2027-04-01T04:00:00Z"),
    ] {
        let customer = app.admin_post("/admin/v1/customers", json!({ "name": zone })).await;
        let mut body = super::new_subscription(&customer["id"]);
        body["time_zone"] = json!(zone);
        let subscription = text(&app.admin_post("/admin/v1/subscriptions", body).await["id"]);
        let license = json!({ "subscription_id": subscription, "kind": "online", "max_instances": 1 });
        let license = app.admin_post("/admin/v1/licenses", license).await;
        let instance = activate(&app, &text(&license["activation_code"])).await;
        let path = format!("/admin/v1/subscriptions/{subscription}/add-on-purchases");
        let purchase =
            json!({ "add_on": "duo_pro", "quantity": 1, "starts_at": "2026-12-01", "ends_at": "2027-04-01" });
        app.admin_post(&path, purchase).await;
        for (at, granted) in [(begins, true), (last, true), (ends, false)] {
            let path = format!("/admin/v1/instances/{}/entitlements?at={at}", instance.uid);
            let explained = app.admin_get(&path).await;
            let entries = explained["entitlements"].as_array().unwrap();
            let chat = entries.iter().find(|entry| entry["unit_primitive"] == "duo_chat").unwrap();
            assert_eq!(chat["granted"], granted, "{zone} {at}");
        }
    }
}

#[tokio::test]
async fn a_contract_without_an_end_is_told_in_four_digits() {
    let story = Story::begin().await;
    let subscription = story.subscription();
    let path = format!("{subscription}:renew");
    let renewed = json!({ "ends_at": "9999-12-31", "reason": "for good" });
    let renewed = story.app.admin_post(&path, renewed).await;
    assert_eq!(renewed["ends_at"], "9999-12-31T00:00:00Z");
    story.buy("duo_pro", "2026-11-10", "9999-12-31").await;
    let entry = story.entry("duo_chat", "2026-12-01T00:00:00Z").await;
    assert_eq!(entry["until"], "9999-12-31T00:00:00Z");
    let entry = story.entry("duo_chat", "9999-12-31T12:00:00Z").await;
    assert_eq!((&entry["granted"], &entry["in_grace"]), (&json!(true), &json!(true)));
    assert_eq!(entry["until"], "9999-12-31T23:59:59.999999Z");
    // A later one cannot be written.
    let beyond = json!({ "ends_at": "9999-12-31T23:59:59-12:00", "reason": "for more" });
    let problem = send(story.app.admin(Method::POST, &path).json(&beyond)).await;
    problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
}
