//! The work that one replica does for all: done by one, taken over when it is killed, handed over when it stops.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgConnection;

use crate::deployment::{Client, admin_token};
use crate::support::program::{Deployment, Serving};
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_works_for_all_until_it_is_killed_and_another_takes_over_within_seconds() {
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");
    let admin = admin_token(&deployment);
    let mut replicas: Vec<Serving> = ["one", "two", "three"].map(|name| serve(&deployment, name)).into();
    let worker = eventually("somebody does the work", async || worker(&replicas).await).await;

    // 1. It delivers events, and nobody else does.
    let receiver = Receiver::start();
    let others = (0..replicas.len()).filter(|index| *index != worker).collect::<Vec<_>>();
    let client = Client::new(&replicas[others[0]]);
    let webhook = json!({ "url": receiver.url(), "event_types": ["customer.*"] });
    post(&client, &admin, "webhooks", webhook).await;
    customer(&client, &admin).await;
    eventually("the first event is delivered", async || (receiver.received().len() == 1).then_some(())).await;

    // 2. Killed in the middle of its work, with an endpoint in hand and a month of the ledger not made.
    let mut connection = deployment.connection().await;
    let killed = name_of(&mut connection).await;
    replicas.remove(worker).kill();
    sqlx::query(
        "update webhook_positions set lease = gen_random_uuid(), leased_until = now() + interval '1 minute'",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let month = drop_last_month(&mut connection).await;
    customer(&client, &admin).await;
    let begun = Instant::now();
    eventually("the second event is delivered", async || (receiver.received().len() == 2).then_some(()))
        .await;
    let until_delivered = begun.elapsed();
    eventually("the month is made", async || {
        is_there(&mut deployment.connection().await, &month).await.then_some(())
    })
    .await;
    println!("the work went on {until_delivered:?} after the kill");
    // A minute is what the endpoint's own lease had left.
    assert!(until_delivered < Duration::from_secs(40), "{until_delivered:?}");
    assert_ne!(name_of(&mut connection).await, killed);
    let heir = eventually("one does the work", async || self::worker(&replicas).await).await;

    // 3. Stopped in good order, it waits for no lease to run out.
    let mut heir = replicas.remove(heir);
    heir.terminate();
    let (exit, heir) = tokio::task::spawn_blocking(move || (heir.wait(), heir)).await.unwrap();
    assert_eq!(exit, Some(0));
    assert!(heir.log_text().contains("is handed over"), "{}", heir.log_text());
    eventually("the last one does the work", async || worker_is_one(&replicas).await).await;
}

fn serve(deployment: &Deployment, name: &str) -> Serving {
    deployment.serve_with(std::path::Path::new(env!("CARGO_BIN_EXE_token-authority")), name)
}

async fn worker_is_one(replicas: &[Serving]) -> Option<()> {
    worker(replicas).await.map(|_| ())
}

/// The one whose metrics say that it does the work; `None` while nobody does. Never two.
async fn worker(replicas: &[Serving]) -> Option<usize> {
    let mut found = Vec::new();
    for (index, replica) in replicas.iter().enumerate() {
        let metrics = reqwest::get(&replica.metrics_url).await.unwrap().text().await.unwrap();
        if metrics.lines().any(|line| line == "token_authority_background_work 1") {
            found.push(index);
        }
    }
    assert!(found.len() < 2, "{found:?} do it");
    found.pop()
}

/// Who holds the lease, by the database.
async fn name_of(connection: &mut PgConnection) -> String {
    let holder = "select holder_name from background_leases where until > clock_timestamp()";
    sqlx::query_scalar(holder).fetch_one(connection).await.unwrap()
}

async fn drop_last_month(connection: &mut PgConnection) -> String {
    let last: String = sqlx::query_scalar(
        "select max(inhrelid::regclass::text) from pg_inherits \
         where inhparent = 'issuances'::regclass and inhrelid::regclass::text ~ '_\\d'",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("drop table {last}"))).execute(connection).await.unwrap();
    last
}

async fn is_there(connection: &mut PgConnection, table: &str) -> bool {
    let there = sqlx::query_scalar("select to_regclass($1) is not null");
    there.bind(table).fetch_one(connection).await.unwrap()
}

async fn customer(client: &Client, admin: &str) {
    post(client, admin, "customers", json!({ "name": "A customer" })).await;
}

async fn post(client: &Client, admin: &str, path: &str, body: serde_json::Value) {
    let request = client.http.post(client.url(&format!("/admin/v1/{path}"))).bearer_auth(admin).json(&body);
    let answered = request.send().await.unwrap();
    assert_eq!(answered.status(), 201, "{}", answered.text().await.unwrap());
}

async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
