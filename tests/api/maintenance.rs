//! `maintain`: the ledger's months are there ahead of time, and forgotten as a whole when their time is over.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::deployment::{Client, admin_token};
use crate::support::program::{Deployment, answer, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn months_are_made_ahead_and_forgotten_with_a_row_in_the_audit() {
    let mut deployment = Deployment::initialized().await;
    let mut connection = deployment.connection().await;
    let made = answer(&deployment.run(&["maintain", "--format", "json"]));
    assert_eq!(made["partitions_made"], 4, "{made}");
    let again = answer(&deployment.run(&["maintain", "--format", "json"]));
    assert_eq!((&again["partitions_made"], &again["forgotten"]), (&json!(0), &json!([])));

    // Seven months of the past, one token in each.
    for months in 1..=7 {
        let at = format!("now() - interval '{months} months'");
        let sql = format!(
            "select make_issuance_partitions({at}, 0); \
             insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, scope_set, key_number, \
                                    catalog_number, ends_with_grant) \
             values (first_jti_of({at}), 1, {at}, {at} + interval '8 hours', '\\x00000000000000000000000000000000', \
                     1, 1, 1, false)"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    let before = tokens(&mut connection).await;
    assert_eq!(before, 7);
    let days: i32 = sqlx::query_scalar(
        "select extract(day from date_trunc('day', now()) - (date_trunc('month', now()) - interval '3 months'))::integer",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    // The last four months are within the retention, wholly or by a day.
    deployment.set("TOKEN_AUTHORITY_LEDGER_RETENTION_DAYS", &(days + 2).to_string());
    let forgotten = answer(&deployment.run(&["maintain", "--format", "json"]));
    let names: Vec<&str> = forgotten["forgotten"]
        .as_array()
        .unwrap()
        .iter()
        .map(|month| month["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{forgotten}");
    assert_eq!(tokens(&mut connection).await, before - 3);

    let serving = deployment.serve();
    let client = Client::new(&serving);
    let admin = admin_token(&deployment);
    let url = client.url("/admin/v1/audit-events?action=ledger.forget_month");
    let page: Value = client.http.get(url).bearer_auth(&admin).send().await.unwrap().json().await.unwrap();
    let audited = page["items"].as_array().unwrap();
    let mut subjects: Vec<String> = audited.iter().map(|row| row.to_string()).collect();
    subjects.retain(|row| names.iter().any(|name| row.contains(name)) && row.contains("command_line:"));
    assert_eq!(subjects.len(), 3, "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_week_is_kept_whoever_asks_and_whoever_reads_for_long_is_not_waited_for() {
    let mut deployment = Deployment::initialized().await;
    let mut connection = deployment.connection().await;
    let asked =
        sqlx::query("select drop_issuance_partitions(now() - interval '6 days')").execute(&mut connection);
    let refused = asked.await.unwrap_err().to_string();
    assert!(refused.contains("the last seven days"), "{refused}");
    deployment.set("TOKEN_AUTHORITY_LEDGER_RETENTION_DAYS", "34");
    let refused = deployment.run(&["maintain"]);
    assert!(complaint(&refused).contains("35 at least"), "{}", complaint(&refused));
    deployment.set("TOKEN_AUTHORITY_LEDGER_RETENTION_DAYS", "40");

    let old = "select make_issuance_partitions(now() - interval '4 months', 0)";
    sqlx::query(old).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("begin; select count(*) from issuances").execute(&mut connection).await.unwrap();
    let postponed = deployment.run(&["maintain", "--format", "json"]);
    assert_eq!(postponed.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&postponed.stdout).unwrap();
    assert_eq!(told["is_postponed"], true, "{told}");
    sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    let done = answer(&deployment.run(&["maintain", "--format", "json"]));
    assert_eq!(done["forgotten"].as_array().unwrap().len(), 1, "{done}");
}

async fn tokens(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from issuances").fetch_one(connection).await.unwrap()
}
