//! The high-water mark of the database's clock: a clock that jumped back stops minting, and loses nothing.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::app::{TestApp, activate, sell, send};

#[tokio::test]
async fn a_clock_that_jumps_back_stops_minting_until_it_is_set_right() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let version = json!({ "version": "17.6.1" });
    let before = instance.sync(&app, &version).await.expect(StatusCode::OK);

    // To the database it looks as if its clock had been an hour further.
    mark(&app, "interval '1 hour'").await;
    let refused = instance.sync(&app, &version).await;
    refused.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    let ready = send(app.request(Method::GET, "/health/ready")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let checks = ready.json()["checks"].clone();
    let clock = checks.as_array().unwrap().iter().find(|check| check["name"] == "clock").unwrap().clone();
    assert!(clock["detail"].as_str().unwrap().contains("jumped back by 3"), "{clock}");

    // A correction of less than five seconds is none.
    mark(&app, "interval '2 seconds'").await;
    let after = instance.sync(&app, &version).await.expect(StatusCode::OK);
    assert_eq!(after["tokens"], before["tokens"], "nothing was lost: the retry gets what there was");
}

#[tokio::test]
async fn the_mark_never_falls() {
    let app = TestApp::start().await;
    mark(&app, "interval '1 minute'").await;
    let mut connection = app.database().await;
    let lowered = sqlx::query("update clock_marks set high_water = high_water - interval '1 second'")
        .execute(&mut *connection)
        .await
        .unwrap_err();
    assert_eq!(lowered.as_database_error().unwrap().constraint(), Some("clock_marks_grow"));
}

/// Puts the mark this far ahead of the clock, past the trigger that lets it only grow.
async fn mark(app: &TestApp, ahead: &'static str) {
    let sql = format!(
        "set session_replication_role = replica; \
         insert into clock_marks (environment, high_water) values ('development', clock_timestamp() + {ahead}) \
         on conflict (environment) do update set high_water = excluded.high_water; \
         set session_replication_role = origin"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *app.database().await).await.unwrap();
}
