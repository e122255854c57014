//! Rotations under load: two replicas mint without a pause while keys come and go.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use token_authority_verifier::Kid;

use super::{instance, kid_of, sync};
use crate::support::app::{Instance, TestApp};
use crate::support::fleet::{Backend, Process};
use crate::support::rotation::Operator;

const ROTATIONS: u32 = 10;
const LOADERS: usize = 4;

/// A token that was minted under load: when it was asked for, and who signed it.
struct Minted {
    asked: Instant,
    kid: Kid,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_rotations_under_load_leave_no_token_unverified_and_none_signed_too_late() {
    let app = Arc::new(TestApp::start().await);
    let other = Arc::new(app.another().await);
    let ai = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 2).await;
    let flow =
        Backend::register(&app, "duo_workflow_service", "gitlab-duo-workflow-service", "embedded", 1).await;
    let fleet = Arc::new(RwLock::new(start(&app, [&ai, &flow], 1)));

    let stop = Arc::new(AtomicBool::new(false));
    let issued = Arc::new(AtomicU32::new(0));
    let mut loaders = Vec::new();
    for loader in 0..LOADERS {
        let replica = if loader % 2 == 0 { Arc::clone(&app) } else { Arc::clone(&other) };
        let instance = instance(&app).await;
        let (fleet, stop, issued) = (Arc::clone(&fleet), Arc::clone(&stop), Arc::clone(&issued));
        loaders.push(tokio::spawn(async move { load(&replica, &instance, &fleet, &stop, &issued).await }));
    }

    let operator = Operator::of(&app);
    // Kid of a demoted key, and an instant at which its demotion was committed.
    let mut demotions: Vec<(Kid, Instant)> = Vec::new();
    for rotation in 0..ROTATIONS {
        let old = operator.active().await;
        let new = operator.generate().await;
        let version = operator.publish().await.version;
        let mut next = start(&app, [&ai, &flow], version);
        operator.arm(new).await;
        pass(&app, TimeDelta::seconds(10));
        for process in &mut next {
            process.prove(&app).await;
        }
        let before = std::mem::replace(&mut *fleet.write().unwrap(), next);
        for process in before {
            process.sign_off(&app).await;
        }
        let minted = issued.load(Ordering::Relaxed);
        operator.activate(new).await.unwrap_or_else(|error| panic!("rotation {rotation}: {error}"));
        demotions.push((old, Instant::now()));
        // Let the new key be used under load before the old one's tokens are let die.
        wait_for(&issued, minted + 20).await;
        pass(&app, TimeDelta::hours(8) + TimeDelta::minutes(1));
        operator.retire(old).await.unwrap_or_else(|error| panic!("rotation {rotation}: {error}"));
    }
    stop.store(true, Ordering::Relaxed);
    let mut minted = Vec::new();
    for loader in loaders {
        minted.extend(loader.await.unwrap());
    }

    for (kid, committed) in &demotions {
        let late = minted.iter().filter(|one| one.kid == *kid && one.asked > *committed).count();
        assert_eq!(late, 0, "asked for after {kid} was demoted, signed by it");
        assert!(minted.iter().any(|one| one.kid == *kid), "{kid} was used");
    }
    // The ledger says the same: nothing was recorded under a key later than its demotion.
    let mut connection = app.database().await;
    let rows = sqlx::query(
        "select k.kid, count(*) as tokens, count(*) filter (where t.issued_at > k.demoted_at) as late \
         from issuances t join signing_keys k on k.number = t.key_number group by k.kid",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let recorded: i64 = rows.iter().map(|row| row.get::<i64, _>("tokens")).sum();
    assert!(rows.iter().all(|row| row.get::<i64, _>("late") == 0));
    assert!(usize::try_from(recorded).unwrap() >= minted.len());
    println!("{} tokens over {ROTATIONS} rotations, each verified by every live process", minted.len());
}

/// Syncs without a pause, and shows each token to every process of its audience that lives.
async fn load(
    app: &TestApp,
    instance: &Instance,
    fleet: &RwLock<Vec<Process>>,
    stop: &AtomicBool,
    issued: &AtomicU32,
) -> Vec<Minted> {
    let mut minted = Vec::new();
    for round in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let asked = Instant::now();
        // Another version each time, or the same tokens would come again.
        for held in sync(app, instance, &format!("17.{}.{}", 6 + round / 1000, round % 1000)).await {
            let issued_at = issued_at(&held.token);
            for process in &*fleet.read().unwrap() {
                if process.backend.audience == held.audience {
                    let verdict = process.verify(&held.token, issued_at);
                    assert!(verdict.is_ok(), "{} ({}): {verdict:?}", process.id, kid_of(&held.token));
                }
            }
            minted.push(Minted { asked, kid: kid_of(&held.token) });
            issued.fetch_add(1, Ordering::Relaxed);
        }
    }
    minted
}

fn start(app: &TestApp, backends: [&Backend; 2], version: u32) -> Vec<Process> {
    let keys_dir = app.deployment().keys.path();
    let started = backends.into_iter().flat_map(|backend| {
        (0..2).map(move |n| backend.start(keys_dir, version, &format!("{}-{version}-{n}", backend.name)))
    });
    started.collect()
}

fn pass(app: &TestApp, time: TimeDelta) {
    app.clock.set(app.clock.now() + time);
}

async fn wait_for(issued: &AtomicU32, count: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while issued.load(Ordering::Relaxed) < count {
        assert!(Instant::now() < deadline, "the load came to a halt");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The clock moves while a token is on its way: it is judged at its birth.
fn issued_at(token: &str) -> DateTime<Utc> {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    DateTime::from_timestamp(payload["iat"].as_i64().unwrap(), 0).unwrap()
}
