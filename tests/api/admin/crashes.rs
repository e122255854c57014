//! What a retry finds after the program was killed at the worst moment: committed, but not answered.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{activation, fresh_uuid, send, text};
use crate::support::database::Database;
use crate::support::postgres_proxy::PostgresProxy;
use crate::support::program::{Deployment, Serving, answer};

fn post(serving: &Serving, token: &str, path: &str, body: &Value) -> RequestBuilder {
    let request = Client::new().request(Method::POST, format!("{}{path}", serving.base_url));
    request.bearer_auth(token).header("idempotency-key", format!("order-1{path}")).json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_dies_between_commit_and_answer_gives_the_first_answer_to_the_retry() {
    let database = Database::unmigrated().await;
    let mut proxy = PostgresProxy::before(&database.url()).await;
    let deployment = Deployment::on(&proxy.url());
    deployment.initialize();
    let token = answer(&deployment.run(&["admin-token", "create", "--name", "orders", "--format", "json"]));
    let token = text(&token["token"]);
    let mut connection = database.connection().await;

    let mut path = "/admin/v1/customers".to_owned();
    let mut body = json!({ "name": "Example GmbH", "external_ref": "C-1" });
    let mut made = Vec::new();
    for table in ["customers", "subscriptions", "licenses"] {
        let serving = deployment.serve();
        proxy.withhold_commit_after("update idempotency_keys set status");
        let request = post(&serving, &token, &path, &body).timeout(Duration::from_secs(60));
        let unanswered = tokio::spawn(request.send());
        proxy.withheld().await;
        // It happened, and nobody knows: not even the program, which is killed now.
        drop(serving);
        assert!(unanswered.await.unwrap().is_err());
        let sql = sqlx::AssertSqlSafe(format!("select id::text from {table}"));
        let recorded: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();

        let serving = deployment.serve();
        let retried = send(post(&serving, &token, &path, &body)).await;
        let record = retried.expect(StatusCode::CREATED);
        assert_eq!(retried.headers["idempotent-replayed"], "true");
        assert_eq!(recorded, [text(&record["id"])], "{table}");
        let again = send(post(&serving, &token, &path, &body)).await;
        assert_eq!((again.status, &again.text), (retried.status, &retried.text));
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, 1, "{table}");
        if table == "customers" {
            path = "/admin/v1/subscriptions".to_owned();
            body = super::new_subscription(&record["id"]);
        } else {
            path = "/admin/v1/licenses".to_owned();
            body = json!({ "subscription_id": record["id"], "kind": "online", "max_instances": 1 });
        }
        made.push((serving, record));
    }
    // The code that was made before the crash, and told only after it, opens the license.
    let (serving, license) = made.pop().unwrap();
    let request = Client::new().post(format!("{}/v1/instances", serving.base_url));
    let activated = send(request.json(&activation(&text(&license["activation_code"]), &fresh_uuid()))).await;
    activated.expect(StatusCode::CREATED);
}
