//! Changes against syncs that run at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::changed;
use crate::support::app::{TestApp, activate, sell};

async fn tokens(app: &TestApp) -> i64 {
    let mut connection = app.deployment().database.connection().await;
    sqlx::query_scalar("select count(*) from issuances").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_recorded_after_a_suspension_was_answered() {
    let app = TestApp::start().await;
    let other = app.another().await;
    let sold = sell(&app, Some("duo_pro"), 8).await;
    let mut instances = Vec::new();
    for _ in 0..8 {
        instances.push(activate(&app, &sold.activation_code).await);
    }
    let record = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let stop = AtomicBool::new(false);
    let busy = async |number: usize| {
        let replica = if number.is_multiple_of(2) { &app } else { &other };
        let (mut granted, mut refused, mut host) = (0, 0, 0);
        while !stop.load(Ordering::Relaxed) {
            host += 1;
            // Another body, or the same tokens would come back.
            let body = json!({ "version": "17.6.1", "hostname": format!("host-{host}") });
            match instances[number].sync(replica, &body).await.status {
                StatusCode::OK => granted += 1,
                StatusCode::FORBIDDEN => refused += 1,
                other => panic!("{other}"),
            }
        }
        assert!(granted > 0 && refused > 0, "{granted} granted, {refused} refused");
    };
    let administrator = async {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let reason = json!({ "reason": "unpaid" });
            // A sync changes the instance, never the subscription: its tag holds.
            changed(&app, Method::POST, &format!("{record}:suspend"), &record, reason).await;
            let before = tokens(&app).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(tokens(&app).await, before);
            app.admin_post(&format!("{record}:resume"), json!({ "reason": "paid" })).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(administrator, busy(0), busy(1), busy(2), busy(3), busy(4), busy(5), busy(6), busy(7));
}
