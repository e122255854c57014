//! Law 5: the record comes first. Whatever is killed, every token that anybody got is in the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::{join, join_all};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::Replicas;
use super::refusals::Credentials;
use crate::support::app::{Instance, activate, activation, fresh_uuid, sell, send, text};
use crate::support::durable::durable_cluster;
use crate::support::program::{Deployment, Serving};

/// What happens to two replicas, each step in the middle of syncs.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The database ends the connections of the lanes.
    CutConnections,
    None,
    /// The database refuses at the commit, when everything is written and signed.
    RefuseCommit,
    /// The database refuses the rows.
    RefuseRows,
}

#[test]
fn a_token_leaves_only_when_its_record_is_durable() {
    let replicas = Replicas::start();
    replicas.runtime.block_on(async {
        let mut connection = replicas.apps[0].database().await;
        sqlx::raw_sql(REFUSALS).execute(&mut *connection).await.unwrap();
    });
    let blow =
        prop::sample::select(&[Blow::CutConnections, Blow::None, Blow::RefuseCommit, Blow::RefuseRows][..]);
    let sequences = prop::collection::vec((blow, 1..6_usize), 1..5);
    replicas.run(sequences, async |replicas, sequence| {
        let app = &replicas.apps[0];
        let sold = sell(app, None, 2).await;
        let instances =
            [activate(app, &sold.activation_code).await, activate(app, &sold.activation_code).await];
        let mut left = BTreeSet::new();
        for (version, (blow, syncs)) in sequence.into_iter().enumerate() {
            let asked: Vec<_> = (0..syncs).map(|n| format!("18.{version}.{n}")).collect();
            let sync = async |n: usize| {
                instances[n % 2].sync(&replicas.apps[n / 2 % 2], &json!({ "version": asked[n] })).await
            };
            let mut connection = app.deployment().database.connection().await;
            let refuse = async |connection: &mut PgConnection, what: &str| {
                let sql = "update refusals set what = $1";
                sqlx::query(sql).bind(what).execute(connection).await.unwrap();
            };
            let answers = match blow {
                Blow::CutConnections => {
                    let cut = async {
                        for _ in 0..syncs {
                            sqlx::query(CUT).execute(&mut connection).await.unwrap();
                        }
                    };
                    join(cut, join_all((0..syncs).map(sync))).await.1
                }
                Blow::None => join_all((0..syncs).map(sync)).await,
                Blow::RefuseCommit | Blow::RefuseRows => {
                    let what = if matches!(blow, Blow::RefuseCommit) { "commit" } else { "rows" };
                    refuse(&mut connection, what).await;
                    let answers = join_all((0..syncs).map(sync)).await;
                    refuse(&mut connection, "nothing").await;
                    for answer in &answers {
                        answer.refused(StatusCode::INTERNAL_SERVER_ERROR, "internal");
                    }
                    answers
                }
            };
            for answer in answers {
                match answer.status {
                    StatusCode::OK => left.extend(jtis(&answer.json())),
                    // Twice cut in a row: the caller is told to come again.
                    StatusCode::SERVICE_UNAVAILABLE if matches!(blow, Blow::CutConnections) => {}
                    StatusCode::INTERNAL_SERVER_ERROR
                        if !matches!(blow, Blow::None | Blow::CutConnections) => {}
                    _ => panic!("{blow:?}: {answer:?}"),
                }
            }
            assert_eq!(missing(&mut connection, &left).await, Vec::<String>::new(), "after {blow:?}");
            connection.close().await.unwrap();
        }
        // Nothing that broke stays broken.
        for instance in &instances {
            instance.sync(app, &json!({ "version": "19.0.0" })).await.expect(StatusCode::OK);
        }
    });
}

/// A table that says what is refused, asked for each row of the ledger and again at the commit.
const REFUSALS: &str = "
    create table refusals (what text not null);
    insert into refusals values ('nothing');
    create function refuse() returns trigger language plpgsql as $$
    begin
        if exists (select from refusals where what = tg_argv[0]) then
            raise exception 'refused by the test';
        end if;
        return new;
    end $$;
    create trigger refuse_rows before insert on issuances for each row execute function refuse('rows');
    create constraint trigger refuse_commit after insert on issuances deferrable initially deferred
        for each row execute function refuse('commit');
";

/// Ends what runs batches: nothing else shares the mint fence.
const CUT: &str = "
    select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and mode = 'ShareLock' and pid <> pg_backend_pid()
      and database = (select oid from pg_database where datname = current_database())
";

/// What is killed, while clients sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victim {
    Both,
    Database,
    Service,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_left_is_in_the_ledger_after_any_kill() {
    kill_again_and_again(12).await;
}

#[ignore = "takes minutes: the same with as many rounds as other laws have sequences"]
#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_left_is_in_the_ledger_after_hundreds_of_kills() {
    kill_again_and_again(256).await;
}

/// Each round: a kill -9 of the service, of PostgreSQL or of both after so many answers to clients that never stop
/// asking, a new start, and a look into the ledger. What is killed when is the same in every run.
async fn kill_again_and_again(rounds: usize) {
    let cluster = durable_cluster().await;
    let deployment = Deployment::on(&cluster.url());
    deployment.initialize();
    let mut serving = deployment.serve();
    let credentials = Credentials::of(&deployment, &serving).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::activate(&serving, &credentials.activation_code).await);
    }
    let victim =
        prop::sample::select(&[Victim::Both, Victim::Database, Victim::Service, Victim::Service][..]);
    let plan = prop::collection::vec((victim, 0..40_usize), rounds);
    let plan = plan.new_tree(&mut TestRunner::deterministic()).unwrap().current();
    for (round, (victim, answers)) in plan.into_iter().enumerate() {
        let load = Load::start(&serving, clients, round);
        load.answered(answers).await;
        if victim != Victim::Database {
            serving.kill();
        }
        if victim != Victim::Service {
            cluster.crash().await;
        }
        clients = load.stop().await;
        if victim != Victim::Service {
            cluster.start().await;
        }
        if victim != Victim::Database {
            serving = deployment.serve();
        }

        let mut connection = PgConnection::connect(cluster.url().expose_secret()).await.unwrap();
        let left: BTreeSet<_> = clients.iter().flat_map(|client| client.jtis.iter().cloned()).collect();
        let missing = missing(&mut connection, &left).await;
        assert!(missing.is_empty(), "round {round}, {victim:?} after {answers}: no record of {missing:?}");
        connection.close().await.unwrap();
        for client in &mut clients {
            client.ask_again(&serving).await;
        }
    }
    let left: usize = clients.iter().map(|client| client.jtis.len()).sum();
    assert!(left > rounds * 20, "only {left} tokens left in {rounds} rounds");
}

/// An instance that syncs as fast as it is answered.
struct Client {
    instance: Instance,
    /// Of every token that it ever got.
    jtis: Vec<String>,
    /// The version that it asked with last, and the tokens, if it was answered.
    last: Option<(String, Option<Value>)>,
}

impl Client {
    async fn activate(serving: &Serving, code: &str) -> Self {
        let instance_id = fresh_uuid();
        let request = reqwest::Client::new().post(format!("{}/v1/instances", serving.base_url));
        let activated = send(request.json(&activation(code, &instance_id))).await.expect(StatusCode::CREATED);
        let uid = text(&activated["instance_uid"]);
        let secret = text(&activated["instance_secret"]);
        Self { instance: Instance { uid, instance_id, secret }, jtis: Vec::new(), last: None }
    }

    /// One sync: the tokens, or `None` for whatever else happened.
    async fn sync(&mut self, http: &reqwest::Client, base_url: &str, version: &str) -> Option<Value> {
        self.last = Some((version.to_owned(), None));
        let request = http.post(format!("{base_url}/v1/sync"));
        let request = request.basic_auth(&self.instance.uid, Some(&self.instance.secret));
        let answer = request.json(&json!({ "version": version })).send().await.ok()?;
        let status = answer.status();
        // A connection that breaks in the middle of an answer has shown a part of it, and no token that is whole.
        let answer: Value = answer.json().await.ok()?;
        if status != StatusCode::OK {
            assert_eq!(answer["code"], "unavailable", "{answer}");
            return None;
        }
        self.jtis.extend(jtis(&answer));
        self.last = Some((version.to_owned(), Some(answer["tokens"].clone())));
        Some(answer["tokens"].clone())
    }

    /// What was asked last is asked again: what was promised is kept, and what nobody heard of does no harm.
    async fn ask_again(&mut self, serving: &Serving) {
        let Some((version, before)) = self.last.clone() else { return };
        let http = reqwest::Client::new();
        let first = self.sync(&http, &serving.base_url, &version).await.expect("it recovers by itself");
        let again = self.sync(&http, &serving.base_url, &version).await.unwrap();
        assert_eq!(first, again);
        assert!(before.is_none_or(|before| before == first), "other tokens than before the kill");
    }
}

/// Clients that sync until they are stopped.
struct Load {
    answers: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Client>>,
}

impl Load {
    fn start(serving: &Serving, clients: Vec<Client>, round: usize) -> Self {
        let (answers, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let tasks = clients.into_iter().map(|mut client| {
            let (answers, stopping) = (Arc::clone(&answers), Arc::clone(&stopping));
            let base_url = serving.base_url.clone();
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                let mut n = 0;
                loop {
                    if client.sync(&http, &base_url, &format!("18.{round}.{n}")).await.is_some() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    } else if stopping.load(Ordering::Relaxed) {
                        return client;
                    }
                    n += 1;
                }
            })
        });
        Self { tasks: tasks.collect(), answers, stopping }
    }

    /// Waits until so many syncs were answered.
    async fn answered(&self, answers: usize) {
        let started = Instant::now();
        while self.answers.load(Ordering::Relaxed) < answers {
            assert!(started.elapsed() < PATIENCE, "the service does not answer");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops with the first failure of each client: something was killed.
    async fn stop(self) -> Vec<Client> {
        self.stopping.store(true, Ordering::Relaxed);
        join_all(self.tasks).await.into_iter().map(Result::unwrap).collect()
    }
}

const CLIENTS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// The ids in the tokens of an answer.
fn jtis(answer: &Value) -> Vec<String> {
    let tokens = answer["tokens"].as_array().unwrap().iter();
    tokens
        .map(|token| {
            let token = text(&token["token"]);
            let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
            text(&serde_json::from_slice::<Value>(&payload).unwrap()["jti"])
        })
        .collect()
}

/// Those of the tokens that the ledger does not know.
async fn missing(connection: &mut PgConnection, jtis: &BTreeSet<String>) -> Vec<String> {
    let jtis: Vec<_> = jtis.iter().cloned().collect();
    sqlx::query_scalar(
        "select left_ from unnest($1::text[]) left_ where not exists (select from issuances where jti = left_::uuid)",
    )
    .bind(jtis)
    .fetch_all(connection)
    .await
    .unwrap()
}
