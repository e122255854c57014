//! Reports: who will be without tokens before they are expected to come again.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{changed, complaints};
use crate::support::app::{Instance, TestApp, activate, beginning, sell, send, text};

/// Syncs at each of these times, in minutes from the beginning.
async fn sync_at(app: &TestApp, instance: &Instance, minutes: &[i64]) {
    for minute in minutes {
        app.clock.set(at(*minute));
        instance.sync(app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    }
}

fn at(minutes: i64) -> DateTime<Utc> {
    beginning() + TimeDelta::minutes(minutes)
}

async fn at_risk(app: &TestApp, query: &str) -> Vec<String> {
    let report = app.admin_get(&format!("/admin/v1/reports/at-risk{query}")).await;
    report["items"].as_array().unwrap().iter().map(|item| text(&item["instance_uid"])).collect()
}

#[tokio::test]
async fn an_instance_is_at_risk_by_its_own_rhythm() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 9).await;
    let mut instances = Vec::new();
    for _ in 0..5 {
        instances.push(activate(&app, &sold.activation_code).await);
    }
    let [hourly, slow, once, never, lost] = instances.try_into().unwrap_or_else(|_| unreachable!());
    // Tokens live for eight hours. One comes each ten, one each hour, one came once.
    sync_at(&app, &lost, &[0, 60, 120]).await;
    sync_at(&app, &slow, &[0, 600, 1200]).await;
    sync_at(&app, &hourly, &[1080, 1140, 1200]).await;
    sync_at(&app, &once, &[1201]).await;
    app.clock.set(at(1205));

    let report = app.admin_get("/admin/v1/reports/at-risk?within=24h").await;
    let expected = json!({
        "instance_uid": slow.uid, "customer_id": sold.customer_id, "subscription_id": sold.subscription_id,
        "license_id": sold.license_id, "hostname": "gitlab.example.com", "version": "17.6.1",
        "tokens_die_at": "2026-11-21T16:00:00Z", "last_sync_at": "2026-11-21T08:00:00Z",
        "sync_interval_seconds": 36_000, "overdue": false, "expected_sync_at": "2026-11-21T18:00:00Z",
    });
    assert_eq!(report, json!({ "items": [expected], "next_page_token": null }));
    // What is further ahead is not asked about; a day is what is asked about where nothing is said.
    assert!(at_risk(&app, "?within=7h").await.is_empty());
    assert_eq!(at_risk(&app, "?within=8h").await, [slow.uid.as_str()]);
    assert_eq!(at_risk(&app, "").await, [slow.uid.as_str()]);

    // Silent for four hours, the hourly ones may stay so for four more, and their tokens die after eight.
    app.clock.set(at(1200 + 239));
    assert_eq!(at_risk(&app, "?within=1d").await, [slow.uid.as_str()]);
    app.clock.set(at(1200 + 242));
    let late = app.admin_get("/admin/v1/reports/at-risk").await;
    let late: Vec<_> = late["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (text(&item["instance_uid"]), item["overdue"].clone()))
        .collect();
    let mut expected = vec![
        (hourly.uid.clone(), json!(true)),
        (once.uid.clone(), json!(true)),
        (slow.uid.clone(), json!(false)),
    ];
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(late, expected);
    assert!(![never.uid, lost.uid].iter().any(|uid| late.iter().any(|(late, _)| late == uid)));

    // Whoever is back is not at risk any more.
    sync_at(&app, &hourly, &[1443]).await;
    assert!(!at_risk(&app, "").await.contains(&hourly.uid));
    // A sync does not help whom it would refuse.
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    changed(
        &app,
        Method::POST,
        &format!("{subscription}:suspend"),
        &subscription,
        json!({ "reason": "unpaid" }),
    )
    .await;
    assert!(at_risk(&app, "").await.is_empty());
}

#[tokio::test]
async fn a_report_is_read_page_by_page() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 60).await;
    let mut expected = Vec::new();
    for number in 0..50 {
        app.clock.set(at(0));
        let instance = activate(&app, &sold.activation_code).await;
        if number % 10 == 7 {
            sync_at(&app, &instance, &[0, 600]).await;
            expected.push(instance.uid);
        }
    }
    app.clock.set(at(605));
    expected.sort();
    let mut seen = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let report = app.admin_get(&format!("/admin/v1/reports/at-risk?limit=1&within=2d{token}")).await;
        let items = report["items"].as_array().unwrap();
        assert!(items.len() <= 1);
        seen.extend(items.iter().map(|item| text(&item["instance_uid"])));
        pages += 1;
        assert!(pages < 60, "it never ends");
        let Some(next) = report["next_page_token"].as_str() else { break };
        token = format!("&page_token={next}");
    }
    assert_eq!(seen, expected);
    for (query, complaint) in [
        ("?within=soon", ("?within", "invalid")),
        ("?within=0h", ("?within", "invalid")),
        ("?within=400d", ("?within", "invalid")),
        ("?withn=1h", ("?withn", "unknown_parameter")),
    ] {
        let problem = send(app.admin(Method::GET, &format!("/admin/v1/reports/at-risk{query}"))).await;
        let problem: Value = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(complaints(&problem), [complaint]);
    }
}
