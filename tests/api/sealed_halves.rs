//! Private halves that somebody moved or replaced in the database: nothing is signed with them, and nothing is lost.

use reqwest::StatusCode;
use serde_json::json;
use token_authority::domain::key_ring::{Algorithm, Purpose};
use token_authority::keystore::generate_key;
use token_authority::keystore::sealing::Binding;

use crate::support::app::{TestApp, activate, sell};

#[tokio::test]
async fn halves_swapped_between_rows_sign_nothing_until_they_are_swapped_back() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    swap(&app).await;
    // A replica that has not opened them yet.
    let replica = app.another().await;
    let version = json!({ "version": "17.6.1" });
    let refused = instance.sync(&replica, &version).await;
    refused.refused(StatusCode::INTERNAL_SERVER_ERROR, "internal");
    let recorded: i64 = sqlx::query_scalar("select count(*) from issuances")
        .fetch_one(&mut *app.database().await)
        .await
        .unwrap();
    assert_eq!(recorded, 0, "what cannot be signed is not recorded");

    swap(&app).await;
    instance.sync(&replica, &version).await.expect(StatusCode::OK);
}

/// Sealed for this very row, under the right key-encryption key, and yet another key's.
#[tokio::test]
async fn a_half_that_does_not_match_its_kid_signs_nothing() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let kek = &*app.deployment().kek;
    let kid: String = sqlx::query_scalar(ACTIVE).fetch_one(&mut *app.database().await).await.unwrap();
    let other = generate_key(kek, "development", Purpose::AccessTokens, Algorithm::EdDsa).unwrap().key;
    let binding = |name, row_version| Binding {
        environment: "development",
        purpose: Purpose::AccessTokens.name(),
        name,
        row_version,
    };
    let other_kid = other.kid.to_string();
    let seed = kek.open(&other.private_half, &binding(&other_kid, 1)).unwrap();
    let sealed = kek.seal(&seed, &binding(&kid, 1)).unwrap();
    let sql = "update signing_keys set sealed = $2 where kid = $1";
    let mut connection = app.database().await;
    let refused =
        sqlx::query(sql).bind(&kid).bind(&sealed.bytes).execute(&mut *connection).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().constraint(), Some("signing_keys_sealing"));
    sqlx::query("set session_replication_role = replica").execute(&mut *connection).await.unwrap();
    sqlx::query(sql).bind(&kid).bind(&sealed.bytes).execute(&mut *connection).await.unwrap();
    sqlx::query("set session_replication_role = origin").execute(&mut *connection).await.unwrap();
    drop(connection);

    let replica = app.another().await;
    let refused = instance.sync(&replica, &json!({ "version": "17.6.1" })).await;
    refused.refused(StatusCode::INTERNAL_SERVER_ERROR, "internal");
}

const ACTIVE: &str = "select kid from signing_keys where purpose = 'access_tokens' and state = 'active'";

/// Exchanges the halves of the key that signs and of its standby, past the triggers.
async fn swap(app: &TestApp) {
    let sql = "set session_replication_role = replica; \
         update signing_keys k set sealed = o.sealed from signing_keys o \
         where k.purpose = 'access_tokens' and o.purpose = k.purpose and o.kid <> k.kid; \
         set session_replication_role = origin";
    sqlx::raw_sql(sql).execute(&mut *app.database().await).await.unwrap();
}
