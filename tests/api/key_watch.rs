//! What a running service does by itself about keys: forgets signers when it is told, signs the deny list anew, raises
//! alarms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgConnection;
use token_authority::app::{WatchRhythm, look_after, watch_keys};
use token_authority::domain::key_ring::KeyState;

use crate::deployment::{Client, admin_token};
use crate::rotation::{instance, sync};
use crate::support::app::{TestApp, send};
use crate::support::program::{Deployment, Serving};
use crate::support::rotation::Operator;

/// Looks at the keys when it is told of a change, and not within the life of a test otherwise.
const TOLD_ALONE: WatchRhythm =
    WatchRhythm { often: Duration::from_secs(86_400), seldom: Duration::from_secs(86_400) };

#[tokio::test]
async fn a_private_half_leaves_the_memory_when_the_change_is_told() {
    let app = TestApp::start().await;
    let instance = instance(&app).await;
    sync(&app, &instance, "17.6.1").await;
    let operator = Operator::of(&app);
    let (first, standby) = (operator.active().await, operator.keys(KeyState::Published).await[0]);
    operator.arm(standby).await;
    let watching = tokio::spawn(watch_keys(Arc::clone(&app.app), TOLD_ALONE));
    let mut listeners = listeners(&app, 1).await;
    assert!(app.app.keystore.signer(&first.to_string()).is_some(), "it was used");

    operator.activate(standby).await.unwrap();
    until("the demoted key is forgotten", || app.app.keystore.signer(&first.to_string()).is_none()).await;
    sync(&app, &instance, "17.6.2").await;
    assert!(app.app.keystore.signer(&standby.to_string()).is_some(), "the one that signs stays");

    // The connection that listens is lost, and what is told meanwhile with it: it looks for itself when it is back.
    let mut connection = app.deployment().database.connection().await;
    cut(&mut connection, listeners.remove(0)).await;
    operator.compromise(standby).await;
    until("the revoked key is forgotten", || app.app.keystore.signer(&standby.to_string()).is_none()).await;
    watching.abort();
}

#[tokio::test]
async fn an_unchanged_deny_list_is_signed_anew_every_hour_and_keeps_its_serial() {
    let app = TestApp::start().await;
    let first = deny_list(&app).await;
    app.clock.set(app.clock.now() + TimeDelta::minutes(59));
    look_after(&app.app).await.unwrap();
    assert_eq!(deny_list(&app).await, first, "within the hour it stays as it is");

    app.clock.set(app.clock.now() + TimeDelta::minutes(1));
    look_after(&app.app).await.unwrap();
    let second = deny_list(&app).await;
    let (was, is): (DateTime<Utc>, DateTime<Utc>) = (created(&first), created(&second));
    assert_eq!((is - was, &second["serial"]), (TimeDelta::hours(1), &first["serial"]));
    assert_eq!(second["entries"], first["entries"]);

    // Another replica that comes by finds it fresh.
    let other = app.another().await;
    look_after(&other.app).await.unwrap();
    assert_eq!(deny_list(&other).await, second);
}

/// Every alarm that docs/key-rotation.md names is to be seen, with the value that it is named for.
#[tokio::test(flavor = "multi_thread")]
async fn the_alarms_of_keys_are_in_the_metrics() {
    let deployment = Deployment::initialized().await;
    let admin = admin_token(&deployment);
    let serving = deployment.serve();
    let client = Client::new(&serving);
    let make = async |path: &str, body: Value| {
        let request = client.http.post(client.url(&format!("/admin/v1/{path}"))).bearer_auth(&admin);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json::<Value>().await.unwrap()
    };
    let backend = json!({"name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 1});
    make("backends", backend).await;
    let token =
        make("backends/ai_gateway:rotate-token", json!({})).await["token"].as_str().unwrap().to_owned();

    let shows = |metric: &'static str, holds: fn(f64) -> bool| seen(&serving, metric, holds);
    shows("token_authority_ready_standbys{alg=\"EdDSA\",purpose=\"access_tokens\"}", |n| n == 0.0).await;
    shows("token_authority_deny_list_age_seconds", |age| (0.0..3_600.0).contains(&age)).await;
    shows("token_authority_key_end_seconds", |left| left > 300.0 * 86_400.0).await;
    shows("token_authority_unserved_backends{alg=\"EdDSA\"}", |n| n == 0.0).await;
    let counted = metric(&serving, "token_authority_unknown_key_sets_total").await;

    let report = json!({
        "build": "1", "key_set_version": 7, "key_set_digest": format!("sha256:{}", "0".repeat(64)),
        "verifier": "none", "algorithms": ["EdDSA"], "deny_list_serial": null, "probe_results": [],
    });
    let url = client.url("/v1/backends/ai_gateway/deployments/pod-1");
    let beat = client.http.put(url).bearer_auth(&token).json(&report).send().await.unwrap();
    assert_eq!(beat.status(), StatusCode::CONFLICT);
    shows("token_authority_unknown_key_sets_total{backend=\"ai_gateway\"}", |n| n == 1.0).await;
    assert_eq!(counted, None, "nobody had reported one before");

    // An algorithm that nothing signs with any more: the backend goes without, and somebody has to know.
    let active = deployment.access_key("active");
    let ended = deployment.run(&["keys", "compromise", &active, "--yes", "--format", "json"]);
    assert!(ended.status.success(), "{}", crate::support::program::complaint(&ended));
    shows("token_authority_unserved_backends{alg=\"EdDSA\"}", |n| n == 1.0).await;
    let told = serving.log_lines().into_iter().find(|line| line["backends"] == "ai_gateway");
    assert!(told.is_some_and(|line| line["level"] == "ERROR"), "{}", serving.log_text());
}

async fn deny_list(app: &TestApp) -> Value {
    let answer = send(app.request(Method::GET, "/v1/deny-list")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let payload = answer.text.split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn created(list: &Value) -> DateTime<Utc> {
    list["created"].as_str().unwrap().parse().unwrap()
}

/// The connections of this database that listen, once there are so many.
async fn listeners(app: &TestApp, count: usize) -> Vec<i32> {
    let mut connection = app.deployment().database.connection().await;
    let started = Instant::now();
    loop {
        let pids: Vec<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        if pids.len() == count {
            return pids;
        }
        assert!(started.elapsed() < PATIENCE, "{pids:?} listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn cut(connection: &mut PgConnection, pid: i32) {
    let ended = sqlx::query_scalar::<_, bool>("select pg_terminate_backend($1)").bind(pid);
    assert!(ended.fetch_one(connection).await.unwrap());
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not yet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Polls the metrics until this one has such a value.
async fn seen(serving: &Serving, name: &str, holds: fn(f64) -> bool) {
    let started = Instant::now();
    loop {
        let value = metric(serving, name).await;
        if value.is_some_and(holds) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{name} is {value:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The first sample whose name and labels begin so.
async fn metric(serving: &Serving, name: &str) -> Option<f64> {
    let metrics = reqwest::get(&serving.metrics_url).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(name))?;
    Some(line.rsplit_once(' ')?.1.parse().unwrap())
}

/// Longer than the alarms' rhythm of half a minute.
const PATIENCE: Duration = Duration::from_secs(90);
