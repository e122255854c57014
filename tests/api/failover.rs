//! The database moves to another server: the first one's host is gone without a word, its follower is promoted, and the
//! address leads there. Nothing is restarted, and no token is lost.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::deployment::{Activated, Client, admin_token};
use crate::support::durable::durable_cluster;
use crate::support::follower::ClusterFolder;
use crate::support::load::{Load, Patience};
use crate::support::moving_address::MovingAddress;
use crate::support::program::Deployment;

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_another_address_is_survived_without_a_restart_and_without_a_lost_token() {
    // 1. A server, and one that follows it; each commit waits for both.
    let first = durable_cluster().await;
    let first_url = first.url().expose_secret().to_owned();
    let folder = ClusterFolder::new();
    tokio::task::block_in_place(|| folder.copy(&first_url, true));
    let second = folder.start().await;
    let mut connection = PgConnection::connect(&first_url).await.unwrap();
    for setting in ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"] {
        sqlx::query(setting).execute(&mut connection).await.unwrap();
    }

    // 2. Two replicas by an address that leads to the first.
    let address = MovingAddress::to(socket(&first_url)).await;
    let deployment = Deployment::on(&address.url().into());
    deployment.initialize();
    let admin = admin_token(&deployment);
    let program = Path::new(env!("CARGO_BIN_EXE_token-authority"));
    let replicas = ["one", "two"].map(|name| deployment.serve_with(program, name));
    let client = Client::new(&replicas[0]);
    let mut instances: Vec<Activated> = Vec::new();
    for _ in 0..4 {
        instances.push(client.activate(&admin).await);
    }
    let targets = [replicas[0].base_url.as_str(), &replicas[1].base_url];
    let load = Load::start(&instances, &targets, Patience::For(PATIENCE));
    load.answer_more(100).await;

    // 3. Every connection falls silent; the first server ends where nobody sees it.
    address.move_to(socket(&second.url("postgres")));
    first.crash().await;
    let mut promoted = PgConnection::connect(&second.url("postgres")).await.unwrap();
    sqlx::query("select pg_promote()").execute(&mut promoted).await.unwrap();
    load.answer_more(100).await;
    // What does not sync goes on as well: the pool had nothing but silent connections.
    let begun = std::time::Instant::now();
    loop {
        let listed = client.http.get(client.url("/admin/v1/customers")).bearer_auth(&admin).timeout(PATIENCE);
        let ready = client.get("/health/ready");
        if listed.send().await.is_ok_and(|answer| answer.status() == 200) && ready.await.0 == 200 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the pool does not recover");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // 4. Whoever was given a token has its record.
    let tally = load.finish().await;
    println!("{} syncs, the slowest after {:?}", tally.answered, tally.longest);
    assert!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    let given: HashSet<Uuid> = tally.tokens.iter().map(|token| jti(token)).collect();
    let given: Vec<Uuid> = given.into_iter().collect();
    let recorded = sqlx::query_scalar("select count(*) from issuances where jti = any($1)").bind(&given);
    let recorded: i64 = recorded.fetch_one(&mut promoted).await.unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), given.len());
    for mut replica in replicas {
        replica.terminate();
        assert_eq!(replica.wait(), Some(0), "{}", replica.log_text());
    }
    promoted.close().await.unwrap();
    tokio::task::spawn_blocking(move || second.stop()).await.unwrap().unwrap();
}

fn socket(url: &str) -> PathBuf {
    let options: PgConnectOptions = url.parse().unwrap();
    options.get_socket().unwrap().join(".s.PGSQL.5432")
}

fn jti(token: &str) -> Uuid {
    let payload = BASE64_URL.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    claims["jti"].as_str().unwrap().parse().unwrap()
}

/// Longer than the silence is noticed in, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
