//! Whoever alters, removes or slips in a row past every trigger is found.

use sqlx::AssertSqlSafe;
use token_authority::audit::checkpoint;
use token_authority::audit::verification::{self, Finding, Verification};
use token_authority::rotation::manifests;

use super::{findings, tamper};
use crate::support::app::{TestApp, beginning, sell};

/// The signed word on the audit as it is now.
async fn sign(app: &TestApp) -> String {
    let mut tx = app.app.database.begin().await.unwrap();
    checkpoint::sign(&mut tx, &**app.app.keystore.key_encryption(), "development", beginning())
        .await
        .unwrap()
        .jws
}

/// What a look at every event shows to whoever holds this checkpoint.
async fn verify(app: &TestApp, checkpoint: &str) -> Verification {
    let mut tx = app.app.database.begin_snapshot().await.unwrap();
    let manifests = manifests::list(&mut tx, "development").await.unwrap();
    let checkpoint = manifests::verify_checkpoint(&manifests, checkpoint).unwrap();
    verification::verify(&mut tx, Some(&checkpoint)).await.unwrap()
}

#[tokio::test]
async fn any_altered_column_of_any_row_is_found() {
    let app = TestApp::start().await;
    sell(&app, None, 1).await;
    let mut connection = app.deployment().database.connection().await;
    let sequence: i64 =
        sqlx::query_scalar("select sequence from events where action = 'subscription.create'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let sequence = u64::try_from(sequence).unwrap();
    let row = format!("where id = (select audit_event_id from events where sequence = {sequence})");
    let keep = format!("create temp table kept as select * from audit_events {row}");
    sqlx::raw_sql(AssertSqlSafe(keep)).execute(&mut connection).await.unwrap();
    for change in [
        "at = at + interval '1 microsecond'",
        "actor = 'nobody'",
        "action = 'subscription.amend'",
        "subject_kind = 'license'",
        "subject_id = 'another'",
        "reason = 'none'",
        "before = '{}'",
        "after = after || '{\"seats\": 11}'",
        "after = null",
        "request_id = 'another'",
    ] {
        tamper(&mut connection, &format!("update audit_events set {change} {row}")).await;
        assert_eq!(findings(&app).await, [Finding::Altered { sequence }], "{change}");
        let back = format!("delete from audit_events {row}; insert into audit_events select * from kept");
        tamper(&mut connection, &back).await;
        assert!(findings(&app).await.is_empty());
    }
    for change in ["actor = 'nobody'", "request_id = 'another'", "subject_id = 'another'"] {
        tamper(&mut connection, &format!("update events set {change} where sequence = {sequence}")).await;
        assert_eq!(findings(&app).await, [Finding::Mislabeled { sequence }], "{change}");
    }
    // The digest, and with it what follows from it.
    tamper(&mut connection, &format!("update events set digest = sha256('') where sequence = {sequence}"))
        .await;
    let expected = [Finding::Altered { sequence }, Finding::Altered { sequence: sequence + 1 }];
    assert_eq!(findings(&app).await, expected);
}

#[tokio::test]
async fn removed_rows_and_events_are_found() {
    let app = TestApp::start().await;
    sell(&app, None, 1).await;
    let mut connection = app.deployment().database.connection().await;
    tamper(
        &mut connection,
        "delete from audit_events where id = (select audit_event_id from events where sequence = 5)",
    )
    .await;
    assert_eq!(findings(&app).await, [Finding::RowRemoved { sequence: 5 }]);
    tamper(&mut connection, "delete from events where sequence between 5 and 7").await;
    let found = findings(&app).await;
    assert_eq!(found[0], Finding::Removed { first: 5, last: 7 });
    // The rows of 6 and 7 are still there, and nothing numbers them.
    assert_eq!(
        found.iter().filter(|finding| matches!(finding, Finding::Inserted { .. })).count(),
        2,
        "{found:?}"
    );
}

#[tokio::test]
async fn a_row_that_was_slipped_in_is_found() {
    let app = TestApp::start().await;
    sell(&app, None, 1).await;
    let mut connection = app.deployment().database.connection().await;
    tamper(
        &mut connection,
        "insert into audit_events (id, at, actor, action, subject_kind, subject_id) \
         values ('01a1f98f-638c-7e41-a2c1-a5602970731c', now(), 'forged', 'key.retired', 'signing_key', 'k')",
    )
    .await;
    let id = "01a1f98f-638c-7e41-a2c1-a5602970731c".parse().unwrap();
    assert_eq!(findings(&app).await, [Finding::Inserted { id }]);
    // With an event in the middle, everything behind it moved: the chain breaks where it was pressed in.
    tamper(
        &mut connection,
        "update events set sequence = sequence + 1000 where sequence >= 5; \
         update events set sequence = sequence - 999 where sequence >= 1005; \
         insert into events (sequence, audit_event_id, at, actor, action, subject_kind, subject_id, digest) \
         select 5, id, at, actor, action, subject_kind, subject_id, sha256('') from audit_events where actor = 'forged'",
    )
    .await;
    let found = findings(&app).await;
    assert_eq!(found[0], Finding::Altered { sequence: 5 }, "{found:?}");
    assert!(found.len() > 5, "each event behind it tells another number than it has: {found:?}");
}

#[tokio::test]
async fn a_checkpoint_shows_a_missing_end_and_a_chain_written_anew() {
    let app = TestApp::start().await;
    sell(&app, None, 1).await;
    let checkpoint = sign(&app).await;
    let whole = verify(&app, &checkpoint).await;
    assert!(whole.findings.is_empty(), "{whole:?}");
    // What comes later does not disturb it.
    sell(&app, None, 1).await;
    assert!(verify(&app, &checkpoint).await.findings.is_empty());

    let signed = whole.end.sequence;
    let mut connection = app.deployment().database.connection().await;
    let cut = signed - 2;
    tamper(
        &mut connection,
        &format!(
            "delete from audit_events where id in (select audit_event_id from events where sequence > {cut}); \
             delete from events where sequence > {cut}"
        ),
    )
    .await;
    assert!(findings(&app).await.is_empty(), "nothing shows without a checkpoint");
    let found = verify(&app, &checkpoint).await.findings;
    assert_eq!(found, [Finding::BehindCheckpoint { end: cut, signed }]);

    // As long as before, and sound in itself, since the triggers made it: but another history.
    sell(&app, None, 1).await;
    assert!(findings(&app).await.is_empty());
    let found = verify(&app, &checkpoint).await.findings;
    assert_eq!(found, [Finding::DiffersFromCheckpoint { sequence: signed }]);
}

#[tokio::test]
async fn a_forged_checkpoint_is_refused() {
    let app = TestApp::start().await;
    let checkpoint = sign(&app).await;
    let mut tx = app.app.database.begin().await.unwrap();
    let manifests = manifests::list(&mut tx, "development").await.unwrap();
    assert!(manifests::verify_checkpoint(&manifests, &checkpoint).is_ok());
    for at in 0..checkpoint.len() {
        let mut bytes = checkpoint.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).unwrap();
        // The last character of a signature holds bits that must be zero: another one is not it either.
        assert!(manifests::verify_checkpoint(&manifests, &forged).is_err(), "character {at}");
    }
}
