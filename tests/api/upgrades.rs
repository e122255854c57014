//! One release follows another while instances sync: on the same database, replica by replica, without a gap.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::deployment::{Activated, Client};
use crate::support::load::{Load, Patience, Tally};
use crate::support::program::{Deployment, Serving, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_one_by_one_under_load_and_no_sync_needs_more_than_one_retry() {
    let deployment = Deployment::initialized().await;
    let scene = Scene::of(&deployment, ours()).await;
    // What the next release's expand migrations do, while this release serves: one of the tables that syncs
    // use in each, since a transaction that holds one and waits for another may meet a sync that does the same.
    let later = [
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9001, 'of the next release', true, '', 0); \
         create table of_the_next_release (id bigint primary key)",
        "alter table instances add column of_the_next_release text",
        "alter table issuances add column of_the_next_release text",
    ];
    let mut connection = deployment.connection().await;
    for migration in later {
        sqlx::raw_sql(migration).execute(&mut connection).await.unwrap();
    }
    let tally = scene.replace_all(&deployment, ours()).await;
    assert_without_gap(&tally);
    assert!(deployment.run(&["migrate", "--check"]).status.success(), "the older program has nothing to do");
}

/// With the program of another release: build it elsewhere, and name it in `TOKEN_AUTHORITY_PREVIOUS_PROGRAM`.
#[ignore = "needs a program of the previous release: docs/development.md says how"]
#[tokio::test(flavor = "multi_thread")]
async fn the_previous_release_is_replaced_by_this_one_under_load() {
    let previous = PathBuf::from(
        std::env::var_os("TOKEN_AUTHORITY_PREVIOUS_PROGRAM")
            .expect("TOKEN_AUTHORITY_PREVIOUS_PROGRAM is not set"),
    );
    let deployment = Deployment::prepare().await;
    for command in ["migrate", "init"] {
        let output = deployment.run_with(&previous, &[command]);
        assert!(output.status.success(), "{}", complaint(&output));
    }
    let scene = Scene::of(&deployment, &previous).await;
    // Expand, under the old program; then deploy.
    let output = deployment.run(&["migrate", "--format", "json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    println!("applied {}", String::from_utf8_lossy(&output.stdout).trim());
    let tally = scene.replace_all(&deployment, ours()).await;
    assert_without_gap(&tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_took_something_away_is_refused_by_the_programs_that_need_it() {
    let deployment = Deployment::initialized().await;
    let serving = deployment.serve();
    let client = Client::new(&serving);
    assert_eq!(client.get("/health/ready").await.0, 200);
    let contract = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                        values (9001, 'expands', true, '', 0), (9002, 'contracts', true, '', 0); \
                    update schema_floor set version = 9001";
    sqlx::raw_sql(contract).execute(&mut deployment.connection().await).await.unwrap();

    let (status, ready) = client.get("/health/ready").await;
    assert_eq!(status, 503);
    assert!(ready.to_string().contains("programs that know migration 9001"), "{ready}");
    for command in [&["serve"][..], &["migrate"], &["migrate", "--check"], &["keys", "list"]] {
        let refused = deployment.run(command);
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        assert!(complaint(&refused).contains("migration 9001; run such a one"), "{}", complaint(&refused));
    }
}

/// Migrations that take something away from older programs say so, in the same file.
#[test]
fn migrations_that_contract_raise_the_floor() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let version: u32 = path.file_name().unwrap().to_str().unwrap()[..4].parse().unwrap();
        if version <= FIRST_WITH_A_FLOOR {
            continue;
        }
        looked_at += 1;
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        let statements =
            text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join(" ");
        let taken = CONTRACTS
            .iter()
            .find(|words| statements.contains(**words) && !statements.contains("execute format('drop table"));
        if let Some(words) = taken {
            assert!(
                statements.contains("update schema_floor"),
                "{} says `{words}`: programs that need it must be told by `update schema_floor`",
                path.display()
            );
        }
    }
    assert!(looked_at > 0);
}

const FIRST_WITH_A_FLOOR: u32 = 36;
const CONTRACTS: [&str; 5] = ["drop table", "drop column", "rename column", "rename to", "set not null"];

/// Two replicas of one program, and instances that sync through both.
struct Scene {
    replicas: Vec<Serving>,
    load: Load,
}

impl Scene {
    async fn of(deployment: &Deployment, program: &Path) -> Self {
        let replicas = vec![deployment.serve_with(program, "old-1"), deployment.serve_with(program, "old-2")];
        let token =
            deployment.run_with(program, &["--format", "json", "admin-token", "create", "--name", "tests"]);
        let token: Value = serde_json::from_slice(&token.stdout).unwrap();
        let client = Client::new(&replicas[0]);
        let mut instances: Vec<Activated> = Vec::new();
        for _ in 0..INSTANCES {
            instances.push(client.activate(token["token"].as_str().unwrap()).await);
        }
        let targets = [replicas[0].base_url.as_str(), &replicas[1].base_url];
        let load = Load::start(&instances, &targets, Patience::OneRetry);
        load.answer_more(SYNCS).await;
        Self { replicas, load }
    }

    /// Stops one replica after the other, each once its successor is ready.
    async fn replace_all(self, deployment: &Deployment, program: &Path) -> Tally {
        let Self { replicas, load } = self;
        load.answer_more(SYNCS).await;
        let mut urls: Vec<String> = replicas.iter().map(|replica| replica.base_url.clone()).collect();
        let mut successors = Vec::new();
        for (index, mut replica) in replicas.into_iter().enumerate() {
            let name = format!("new-{index}");
            let successor = deployment.serve_with(program, &name);
            assert_eq!(Client::new(&successor).get("/health/ready").await.0, 200);
            urls.push(successor.base_url.clone());
            load.balance(&urls.iter().map(String::as_str).collect::<Vec<_>>());
            load.answer_more(SYNCS).await;

            // The balancer hears of it only by the connections that are refused.
            replica.terminate();
            let (exit, replica) =
                tokio::task::spawn_blocking(move || (replica.wait(), replica)).await.unwrap();
            assert_eq!(exit, Some(0), "{}", replica.log_text());
            urls.retain(|url| *url != replica.base_url);
            load.balance(&urls.iter().map(String::as_str).collect::<Vec<_>>());
            load.answer_more(SYNCS).await;
            successors.push(successor);
        }
        load.finish().await
    }
}

fn assert_without_gap(tally: &Tally) {
    println!(
        "{} syncs answered, {} of them at the second attempt, the slowest after {:?}",
        tally.answered, tally.retried, tally.longest
    );
    assert!(tally.failures.is_empty(), "{} failed twice: {:?}", tally.failures.len(), tally.failures.first());
    assert!(tally.answered > 6 * SYNCS);
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_token-authority"))
}

const INSTANCES: usize = 6;
const SYNCS: usize = 40;
