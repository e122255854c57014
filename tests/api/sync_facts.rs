//! The row of facts that a sync reads: it says what the records say, whoever wrote them and however.

use reqwest::StatusCode;
use serde_json::json;
use sqlx::Connection;

use crate::support::app::{TestApp, activate, sell};

/// Each instance has its facts, and they are what its records say now.
pub(crate) async fn assert_kept(app: &TestApp) {
    let (kept, instances): (i64, i64) = sqlx::query_as(
        "select (select count(*) from sync_facts f join computed_sync_facts c on c.instance_uid = f.instance_uid \
                 where f.facts = c.facts and f.number = c.number), (select count(*) from instances)",
    )
    .fetch_one(&mut *app.database().await)
    .await
    .unwrap();
    assert_eq!(kept, instances);
}

/// A hand with psql changes what was bought: the next sync knows.
#[tokio::test]
async fn what_is_changed_in_the_records_is_in_the_facts_and_nothing_else_can_be() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let mut connection = app.database().await;
    let by_hand = [
        "update add_on_purchases set quantity = quantity + 1, revision = revision + 1",
        "update subscriptions set ends_at = ends_at + interval '1 day', revision = revision + 1",
        "update instances set version = '18.9.0', revision = revision + 1",
        "update instance_credentials set last_used_at = now()",
        "update licenses set revoked_at = '2026-11-01T00:00:00Z', revoked_reason = 'by hand', revision = revision + 1",
    ];
    for change in by_hand {
        let before: String =
            sqlx::query_scalar("select facts from sync_facts").fetch_one(&mut *connection).await.unwrap();
        sqlx::query(change).execute(&mut *connection).await.unwrap();
        let after: String =
            sqlx::query_scalar("select facts from sync_facts").fetch_one(&mut *connection).await.unwrap();
        assert_ne!(before, after, "{change}");
        assert_kept(&app).await;
    }
    instance
        .sync(&app, &json!({ "version": "18.9.0" }))
        .await
        .refused(StatusCode::FORBIDDEN, "license_revoked");

    // Facts that were made up are not written, and none goes away.
    let forged = "update sync_facts set number = 0, facts = replace(facts, 'revoked_at', 'forgotten')";
    assert_eq!(sqlx::query(forged).execute(&mut *connection).await.unwrap().rows_affected(), 1);
    assert_kept(&app).await;
    for refused in ["delete from sync_facts", "truncate sync_facts"] {
        sqlx::query(refused).execute(&mut *connection).await.unwrap_err();
    }
}

/// Two transactions that do not see each other change records of one instance: the later one's facts have both.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_do_not_see_each_other_are_both_in_the_facts() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    activate(&app, &sold.activation_code).await;
    let (mut one, mut other) = (app.database().await, app.database().await);
    let mut first = one.begin().await.unwrap();
    sqlx::query("update subscriptions set trial = not trial, revision = revision + 1")
        .execute(&mut *first)
        .await
        .unwrap();
    let second = tokio::spawn(async move {
        sqlx::query(
            "update licenses set revoked_at = now(), revoked_reason = 'meanwhile', revision = revision + 1",
        )
        .execute(&mut *other)
        .await
        .unwrap();
    });
    // It waits for the first one's facts.
    while !is_waiting(&app).await {
        tokio::task::yield_now().await;
    }
    first.commit().await.unwrap();
    second.await.unwrap();
    assert_kept(&app).await;
}

async fn is_waiting(app: &TestApp) -> bool {
    let sql = "select exists (select from pg_stat_activity \
               where datname = current_database() and wait_event_type = 'Lock')";
    sqlx::query_scalar(sql).fetch_one(&mut *app.database().await).await.unwrap()
}
