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

/// How much is asked for.
#[derive(Clone, Copy)]
struct Demand {
    loaders: usize,
    /// Of all loaders together; `None`: each asks again as soon as it is answered.
    syncs_per_second: Option<u32>,
    /// Syncs between two steps of a rotation, so that each step meets the load.
    between_steps: u32,
}

/// What came of it.
struct Measured {
    syncs: u32,
    took: Duration,
    /// From each request to its answer, ascending.
    waits: Vec<Duration>,
}

impl Measured {
    fn rate(&self) -> f64 {
        f64::from(self.syncs) / self.took.as_secs_f64()
    }

    fn wait(&self, share: f64) -> Duration {
        self.waits[((self.waits.len() - 1) as f64 * share) as usize]
    }
}

/// A token that was minted under load: when it was asked for, and who signed it.
struct Minted {
    asked: Instant,
    kid: Kid,
}

/// At whatever rate a build without optimizations reaches, beside all other tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_rotations_under_load_leave_no_token_unverified_and_none_signed_too_late() {
    let demand = Demand { loaders: 4, syncs_per_second: None, between_steps: 4 };
    let measured = ten_rotations(demand).await;
    println!("{:.0} syncs a second, {} in all", measured.rate(), measured.syncs);
}

/// `cargo test --release --test api five_hundred_syncs -- --ignored --nocapture`
#[ignore = "needs an optimized build and a machine of its own: figures are in docs/performance.md"]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_rotations_at_five_hundred_syncs_a_second_leave_no_token_unverified() {
    let demand = Demand { loaders: 48, syncs_per_second: Some(550), between_steps: 550 };
    let measured = ten_rotations(demand).await;
    println!(
        "{} syncs in {:.1} s: {:.0} a second over two replicas; half of them waited {:.1?}, 99 of 100 at the most \
         {:.1?}, the longest {:.1?}",
        measured.syncs,
        measured.took.as_secs_f64(),
        measured.rate(),
        measured.wait(0.5),
        measured.wait(0.99),
        measured.wait(1.0),
    );
    assert!(measured.rate() >= 500.0, "{:.0} syncs a second", measured.rate());
}

/// Arms, activates, drains and retires ten times under this load on two replicas, and checks every token.
async fn ten_rotations(demand: Demand) -> Measured {
    let app = Arc::new(TestApp::start().await);
    let other = Arc::new(app.another().await);
    let ai = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 2).await;
    let flow =
        Backend::register(&app, "duo_workflow_service", "gitlab-duo-workflow-service", "embedded", 1).await;
    let fleet = Arc::new(RwLock::new(start(&app, [&ai, &flow], 1)));

    let stop = Arc::new(AtomicBool::new(false));
    let synced = Arc::new(AtomicU32::new(0));
    let mut instances = Vec::new();
    for _ in 0..demand.loaders {
        instances.push(instance(&app).await);
    }
    let begun = Instant::now();
    let mut loaders = Vec::new();
    for (loader, instance) in instances.into_iter().enumerate() {
        let replica = if loader % 2 == 0 { Arc::clone(&app) } else { Arc::clone(&other) };
        let (fleet, stop, synced) = (Arc::clone(&fleet), Arc::clone(&stop), Arc::clone(&synced));
        let pause = demand.syncs_per_second.map(|all| Duration::from_secs(1) * demand.loaders as u32 / all);
        loaders.push(tokio::spawn(
            async move { load(&replica, &instance, &fleet, &stop, &synced, pause).await },
        ));
    }
    let under_load = async || {
        let so_far = synced.load(Ordering::Relaxed);
        wait_for(&synced, so_far + demand.between_steps).await;
    };

    let operator = Operator::of(&app);
    // Kid of a demoted key, and an instant at which its demotion was committed.
    let mut demotions: Vec<(Kid, Instant)> = Vec::new();
    for rotation in 0..ROTATIONS {
        let old = operator.active().await;
        let new = operator.generate().await;
        let version = operator.publish().await.version;
        let mut next = start(&app, [&ai, &flow], version);
        operator.arm(new).await;
        under_load().await;
        pass(&app, TimeDelta::seconds(10));
        for process in &mut next {
            process.prove(&app).await;
        }
        let before = std::mem::replace(&mut *fleet.write().unwrap(), next);
        for process in before {
            process.sign_off(&app).await;
        }
        operator.activate(new).await.unwrap_or_else(|error| panic!("rotation {rotation}: {error}"));
        demotions.push((old, Instant::now()));
        // Let the new key be used under load before the old one's tokens are let die.
        under_load().await;
        under_load().await;
        pass(&app, TimeDelta::hours(8) + TimeDelta::minutes(1));
        operator.retire(old).await.unwrap_or_else(|error| panic!("rotation {rotation}: {error}"));
        under_load().await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut minted, mut waits) = (Vec::new(), Vec::new());
    for loader in loaders {
        let (of_it, waited) = loader.await.unwrap();
        minted.extend(of_it);
        waits.extend(waited);
    }
    let took = begun.elapsed();
    waits.sort_unstable();

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
    Measured { syncs: synced.load(Ordering::Relaxed), took, waits }
}

/// Syncs, without a pause or in this rhythm, and shows each token to every process of its audience that lives.
async fn load(
    app: &TestApp,
    instance: &Instance,
    fleet: &RwLock<Vec<Process>>,
    stop: &AtomicBool,
    synced: &AtomicU32,
    pause: Option<Duration>,
) -> (Vec<Minted>, Vec<Duration>) {
    let (mut minted, mut waits) = (Vec::new(), Vec::new());
    // What could not be asked in time is asked at once, as by instances that do not know of each other.
    let mut rhythm = pause.map(tokio::time::interval);
    for round in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some(rhythm) = &mut rhythm {
            rhythm.tick().await;
        }
        let asked = Instant::now();
        // Another version each time, or the same tokens would come again.
        let tokens = sync(app, instance, &format!("17.{}.{}", 6 + round / 1000, round % 1000)).await;
        waits.push(asked.elapsed());
        for held in tokens {
            let issued_at = issued_at(&held.token);
            for process in &*fleet.read().unwrap() {
                if process.backend.audience == held.audience {
                    let verdict = process.verify(&held.token, issued_at);
                    assert!(verdict.is_ok(), "{} ({}): {verdict:?}", process.id, kid_of(&held.token));
                }
            }
            minted.push(Minted { asked, kid: kid_of(&held.token) });
        }
        synced.fetch_add(1, Ordering::Relaxed);
    }
    (minted, waits)
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

async fn wait_for(synced: &AtomicU32, count: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while synced.load(Ordering::Relaxed) < count {
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
