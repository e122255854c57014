//! Numbers are given in the order of the commits, without gaps.

use sqlx::Connection;
use sqlx::PgConnection;
use token_authority::domain::ids::AuditEventId;
use token_authority::storage::audit_events::{self, NewAuditEvent};
use token_authority::storage::events;

use super::findings;
use crate::support::app::{TestApp, beginning, sell};

async fn remember(connection: &mut PgConnection, subject: &str) {
    let event = NewAuditEvent {
        id: AuditEventId::generate(beginning()),
        at: beginning(),
        actor: "test",
        action: "test.happened",
        subject_kind: "test",
        subject_id: subject,
        reason: None,
        before: None,
        after: None,
        request_id: None,
    };
    audit_events::insert(connection, &event).await.unwrap();
}

/// The subjects of the test's own events, in their order.
async fn order(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select subject_id from events where subject_kind = 'test' order by sequence")
        .fetch_all(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_transaction_that_commits_late_comes_late_and_loses_nothing() {
    let app = TestApp::start().await;
    let [mut early, mut late, mut reader] = [
        app.deployment().database.connection().await,
        app.deployment().database.connection().await,
        app.deployment().database.connection().await,
    ];
    let mut long = late.begin().await.unwrap();
    remember(&mut long, "begun first").await;
    let mut short = early.begin().await.unwrap();
    remember(&mut short, "begun second").await;
    short.commit().await.unwrap();
    assert_eq!(order(&mut reader).await, ["begun second"]);
    let seen = events::find_end(&mut reader).await.unwrap().sequence;
    remember(&mut long, "begun first, once more").await;
    long.commit().await.unwrap();
    assert_eq!(order(&mut reader).await, ["begun second", "begun first", "begun first, once more"]);
    let later = events::list_entries(&mut reader, seen, 10).await.unwrap();
    assert_eq!(later.len(), 2, "whoever had read up to {seen} reads on without a loss");
    assert!(findings(&app).await.is_empty());
}

#[tokio::test]
async fn what_is_taken_back_leaves_no_gap() {
    let app = TestApp::start().await;
    let mut connection = app.deployment().database.connection().await;
    let before = events::find_end(&mut connection).await.unwrap().sequence;
    let mut tx = connection.begin().await.unwrap();
    remember(&mut tx, "taken back").await;
    // Numbered now, before the end.
    sqlx::query("set constraints all immediate").execute(&mut *tx).await.unwrap();
    assert_eq!(events::find_end(&mut tx).await.unwrap().sequence, before + 1);
    tx.rollback().await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    remember(&mut tx, "kept").await;
    tx.commit().await.unwrap();
    assert_eq!(events::find_end(&mut connection).await.unwrap().sequence, before + 1);
}

#[tokio::test]
async fn each_audit_row_has_its_event_whoever_wrote_it() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    crate::support::app::activate(&app, &sold.activation_code).await;
    let mut connection = app.deployment().database.connection().await;
    let (rows, numbered, last): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from audit_events), (select count(*) from events), (select max(sequence) from events)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(
        rows > 12 && rows == numbered && numbered == last,
        "{rows} rows, {numbered} events, the last is {last}"
    );
    // Those of keys, which were there before anyone asked over HTTP, are among them.
    let keys: i64 = sqlx::query_scalar("select count(*) from events where action like 'key.%'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(keys >= 15, "{keys}");
    assert!(findings(&app).await.is_empty());
}

#[tokio::test]
async fn an_event_says_what_its_audit_row_says_whatever_a_hand_writes() {
    let app = TestApp::start().await;
    let mut connection = app.deployment().database.connection().await;
    let mut tx = connection.begin().await.unwrap();
    remember(&mut tx, "true").await;
    let written: (String, i64) = sqlx::query_as(
        "insert into events (sequence, audit_event_id, at, actor, action, subject_kind, subject_id, digest) \
         select 1, id, $1, 'nobody', 'nothing', 'none', 'false', decode(repeat('00', 32), 'hex') \
         from audit_events where subject_id = 'true' returning subject_id, sequence",
    )
    .bind(beginning())
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    assert_eq!(written.0, "true");
    assert!(written.1 > 1);
}
