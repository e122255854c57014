//! Law 6: any request may be retried; an identical sync returns the same tokens and adds no row.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures_util::future::join_all;
use proptest::prelude::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::changes::{Books, Change, Request, changes};
use super::{Replicas, rows};
use crate::support::app::{Answer, Instance, TestApp, activate, fresh_uuid, sell, send, text};

/// What an instance and those around it do next.
#[derive(Clone, Debug)]
enum Step {
    /// Something is bought that ends so long after the lifetime of a token that is issued now.
    Buy {
        add_on: &'static str,
        quantity: u32,
        beyond: TimeDelta,
    },
    NewSecret,
    /// The last sync once more, by so many at a time.
    Repeat {
        at_once: usize,
    },
    SwitchOff {
        off: bool,
    },
    Sync(Ask),
    Wait(TimeDelta),
}

/// A sync, as far as it may differ from another.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ask {
    version: &'static str,
    hostname: Option<&'static str>,
    backends: Option<Vec<&'static str>>,
    explain: bool,
}

/// What may differ between a request and its retry.
#[derive(Clone, Copy, Debug)]
struct Noise {
    usage: u8,
    key: Option<&'static str>,
    replica: usize,
}

fn asks() -> impl Strategy<Value = Ask> {
    let version = prop::sample::select(vec!["17.6.1", "18.0.0", "16.8.0"]);
    let hostname = prop::sample::select(vec![None, Some("one.example.com")]);
    let backends = prop::sample::select(vec![
        None,
        Some(vec!["ai_gateway"]),
        Some(vec!["ai_gateway", "security_gateway"]),
        Some(vec!["nobody"]),
    ]);
    (version, hostname, backends, any::<bool>()).prop_map(|(version, hostname, backends, explain)| Ask {
        version,
        hostname,
        backends,
        explain,
    })
}

fn steps() -> impl Strategy<Value = Vec<(Step, Noise)>> {
    let milliseconds =
        prop::sample::select(vec![0, 1, 400, 999, 1_000, 29_500, 59_000, 59_999, 61_000, 540_000]);
    let beyond = prop::sample::select(vec![-7_200_000, 0, 500, 1_000, 30_000, 3_600_000]);
    let step = prop_oneof![
        2 => asks().prop_map(Step::Sync),
        6 => (1..5_usize).prop_map(|at_once| Step::Repeat { at_once }),
        4 => milliseconds.prop_map(|ms| Step::Wait(TimeDelta::milliseconds(ms))),
        1 => (prop::sample::select(vec!["duo_core", "duo_enterprise", "duo_pro"]), 1..9_u32, beyond)
            .prop_map(|(add_on, quantity, ms)| Step::Buy { add_on, quantity, beyond: TimeDelta::milliseconds(ms) }),
        1 => any::<bool>().prop_map(|off| Step::SwitchOff { off }),
        1 => Just(Step::NewSecret),
    ];
    let noise = (any::<u8>(), prop::sample::select(vec![None, Some("a"), Some("b")]), 0..2_usize)
        .prop_map(|(usage, key, replica)| Noise { usage, key, replica });
    prop::collection::vec((step, noise), 2..14)
}

/// What the last sync that issued tokens was, and what it was answered.
#[derive(Clone, Debug)]
struct Issued {
    ask: Ask,
    /// Everything that decides, counted up at each change of it.
    circumstances: u32,
    key: Option<&'static str>,
    at: chrono::DateTime<chrono::Utc>,
    tokens: Value,
}

#[test]
fn an_identical_sync_returns_the_same_tokens_and_adds_no_row() {
    let replicas = Replicas::start();
    replicas.run(steps(), async |replicas, steps| {
        let app = &replicas.apps[0];
        let sold = sell(app, None, 1).await;
        let mut instance = activate(app, &sold.activation_code).await;
        let mut ask = Ask { version: "17.6.1", hostname: None, backends: None, explain: false };
        let mut circumstances = 0;
        let mut last: Option<Issued> = None;
        // Every token that was ever answered.
        let mut seen = BTreeSet::new();
        for (step, noise) in steps {
            let at_once = match step {
                Step::Wait(time) => {
                    app.clock.set(app.clock.now() + time);
                    continue;
                }
                Step::Buy { add_on, quantity, beyond } => {
                    let path = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
                    let ends_at = app.clock.now() + TimeDelta::hours(8) + beyond;
                    app.admin_post(
                        &path,
                        json!({
                            "add_on": add_on, "quantity": quantity, "starts_at": "2026-11-10T00:00:00Z",
                            "ends_at": ends_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
                        }),
                    )
                    .await;
                    circumstances += 1;
                    continue;
                }
                Step::SwitchOff { off } => {
                    let off = if off { vec!["security_scans"] } else { Vec::new() };
                    let body = json!({ "disabled_unit_primitives": off });
                    let path = "/v1/instances/me/access";
                    for _ in 0..2 {
                        send(instance.request(app, Method::PUT, path).json(&body))
                            .await
                            .expect(StatusCode::OK);
                    }
                    circumstances += 1;
                    continue;
                }
                Step::NewSecret => {
                    let path = "/v1/instances/me/credential";
                    let rotated = send(instance.request(app, Method::POST, path)).await;
                    instance.secret = text(&rotated.expect(StatusCode::CREATED)["instance_secret"]);
                    circumstances += 1;
                    continue;
                }
                Step::Repeat { at_once } => at_once,
                Step::Sync(other) => {
                    ask = other;
                    1
                }
            };
            // Two syncs that differ are never at the very same instant.
            app.clock.set(app.clock.now() + TimeDelta::milliseconds(1));
            let before = issuances(app, &instance).await;
            let syncs =
                (0..at_once).map(|n| sync(&replicas.apps[(noise.replica + n) % 2], &instance, &ask, noise));
            let answers: Vec<_> =
                join_all(syncs).await.iter().map(|answer| answer.expect(StatusCode::OK)).collect();
            let tokens = &answers[0]["tokens"];
            assert!(answers.iter().all(|answer| answer["tokens"] == *tokens), "{answers:?}");

            let now = app.clock.now();
            let added = issuances(app, &instance).await - before;
            let is_again = last.as_ref().is_some_and(|last| last.tokens == *tokens);
            let fresh: Vec<_> =
                each_token(tokens).filter(|token| seen.insert(text(&token["token"]))).collect();
            if let Some(last) = &last {
                let same_key = noise.key.is_some() && noise.key == last.key;
                let within = if same_key { TimeDelta::minutes(10) } else { TimeDelta::seconds(60) };
                let is_identical = last.ask == ask && last.circumstances == circumstances;
                if is_identical && now - last.at <= within {
                    assert!(is_again, "a retry got other tokens: {last:?} {tokens}");
                }
                if last.ask != ask || now - last.at >= within + TimeDelta::seconds(1) {
                    let is_empty = each_token(tokens).next().is_none();
                    assert!(is_empty || !is_again, "another sync got the same tokens: {last:?}");
                }
                if is_again {
                    // What came again says what the sync before said.
                    assert_eq!(what_is_granted(tokens), what_is_granted(&last.tokens));
                }
            }
            assert_eq!(added, fresh.len(), "each new token is a row, and nothing else is");
            assert!(is_again || fresh.len() == each_token(tokens).count(), "some of the tokens came again");
            if !fresh.is_empty() {
                last = Some(Issued {
                    ask: ask.clone(),
                    circumstances,
                    key: noise.key,
                    at: now,
                    tokens: tokens.clone(),
                });
            }
        }
    });
}

async fn sync(app: &TestApp, instance: &Instance, ask: &Ask, noise: Noise) -> Answer {
    let mut body =
        json!({ "version": ask.version, "explain": ask.explain, "usage": { "billable_users": noise.usage } });
    if let Some(hostname) = ask.hostname {
        body["hostname"] = hostname.into();
    }
    if let Some(backends) = &ask.backends {
        body["backends"] = json!(backends);
    }
    let mut request = instance.request(app, Method::POST, "/v1/sync").json(&body);
    if let Some(key) = noise.key {
        request = request.header("idempotency-key", key);
    }
    send(request).await
}

fn each_token(tokens: &Value) -> impl Iterator<Item = &Value> {
    tokens.as_array().unwrap().iter()
}

fn what_is_granted(tokens: &Value) -> BTreeMap<(String, String), String> {
    each_token(tokens)
        .map(|token| {
            ((text(&token["backend"]), text(&token["expires_at"])), token["unit_primitives"].to_string())
        })
        .collect()
}

async fn issuances(app: &TestApp, instance: &Instance) -> usize {
    let sql = "select count(*) from issuances t join instances i on i.number = t.instance_number where i.uid = $1::uuid";
    let mut connection = app.database().await;
    let count: i64 = sqlx::query_scalar(sql).bind(&instance.uid).fetch_one(&mut *connection).await.unwrap();
    count.try_into().unwrap()
}

#[test]
fn a_change_that_is_retried_is_made_once_and_answered_alike() {
    let replicas = Replicas::start();
    let change = (changes(), 0..4_usize, any::<bool>());
    replicas.run(prop::collection::vec(change, 1..6), async |replicas, changes| {
        let app = &replicas.apps[0];
        let books = Books::open(app).await;
        let mut made: Vec<(Request, Answer)> = Vec::new();
        for (change, retries, at_once) in changes {
            // By a key a POST is made once; a DELETE by what it is.
            let key = (change != Change::EndPurchase).then(fresh_uuid);
            let request = Request { key, ..books.request(app, change).await };
            let twins = if at_once && request.key.is_some() { retries + 1 } else { 1 };
            let answers = join_all((0..twins).map(|n| request.send(&replicas.apps[n % 2]))).await;
            assert!(answers.iter().all(|answer| alike(answer, &answers[0])), "{request:?} {answers:?}");
            let succeeded = answers[0].status.is_success();
            let replayed = answers.iter().filter(|answer| is_replayed(answer)).count();
            assert_eq!(replayed, if succeeded { twins - 1 } else { 0 }, "{request:?} {answers:?}");
            if succeeded && request.key.is_some() {
                made.push((request, answers[0].clone()));
            }

            let before = history(app).await;
            for n in 0..retries.min(made.len() * 4) {
                // An earlier one, which later changes may have made stale, or this one.
                let (request, answer) = &made[n * 7 % made.len()];
                let again = request.send(&replicas.apps[n % 2]).await;
                assert!(alike(&again, answer) && is_replayed(&again), "{request:?} {answer:?} {again:?}");
                let other = Request { body: another(&request.body), ..request.clone() };
                if other.body != request.body {
                    other.send(app).await.refused(StatusCode::CONFLICT, "idempotency_key_reused");
                }
            }
            assert_eq!(history(app).await, before, "a retry left a trace");
        }
    });
}

/// A body that would do as well, if there is one.
fn another(body: &Value) -> Value {
    let mut another = body.clone();
    let changed = [
        ("reason", json!("another")),
        ("name", json!("another")),
        ("max_instances", json!(77)),
        ("quantity", json!(77)),
    ];
    for (member, value) in changed.into_iter().filter(|(member, _)| body.get(member).is_some()) {
        another[member] = value;
    }
    another
}

/// The same to a program: a refusal has a request id of its own.
fn alike(one: &Answer, other: &Answer) -> bool {
    let body = |answer: &Answer| {
        let mut body = answer.json();
        if !answer.status.is_success() {
            body["request_id"] = Value::Null;
        }
        body
    };
    let etag = |answer: &Answer| answer.headers.get("etag").cloned();
    one.status == other.status && body(one) == body(other) && etag(one) == etag(other)
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Everything that a change leaves behind.
async fn history(app: &TestApp) -> [i64; 2] {
    [rows(app, "audit_events").await, rows(app, "record_revisions").await]
}
