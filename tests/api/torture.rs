//! Faults, with an account of every token: instances sync, an administrator sells and takes away, keys rotate, and
//! meanwhile replicas and PostgreSQL are killed, stopped and cut off. Afterwards everything has to fit.
//!
//! The plan follows from a seed; which bytes are on their way when a blow falls does not, so that no two runs are one.

mod account;
mod books;
mod ground;
mod people;
mod plan;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::account::{Account, Outcome, check};
use self::ground::PATIENCE;
use self::people::{INSTANCES, Scene, rotate};
use self::plan::{Blow, Scale, Stroke, plan};
use self::wire::Carriage;
use crate::support::program::answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_token_is_accounted_for_after_a_hundred_kills() {
    torture(Scale { kills: 100, longest_pause: Duration::from_millis(800) }).await;
}

/// `cargo test --test api a_thousand_kills -- --ignored --nocapture`
#[ignore = "takes minutes; see docs/development.md"]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_token_is_accounted_for_after_a_thousand_kills() {
    torture(Scale { kills: 1000, longest_pause: Duration::from_secs(10) }).await;
}

/// Strikes as the seed says (`TORTURE_SEED`, 1 unless it is set), lets everything come to rest, and does the accounts.
async fn torture(scale: Scale) {
    let seed = std::env::var("TORTURE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let strokes = plan(seed, scale);
    println!("seed {seed}: {} strokes", strokes.len());
    let begun = Instant::now();
    let scene = Scene::prepare().await;
    let clients: Vec<_> =
        (0..INSTANCES).map(|instance| tokio::spawn(Arc::clone(&scene).go_on_syncing(instance))).collect();

    // Whoever changes something does it while the blows fall, one after the other.
    let (orders, work) = tokio::sync::mpsc::unbounded_channel();
    let working = tokio::spawn(change(Arc::clone(&scene), work));
    let mut kills = 0;
    let mut waits: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut before = "the beginning";
    for (number, stroke) in strokes.iter().enumerate() {
        let waited = answered(&scene, stroke.answers, &format!("stroke {number}, {stroke:?}")).await;
        waits.entry(before).or_default().push(waited);
        kills += stroke.blow.kills();
        strike(&scene, *stroke, &orders).await;
        before = stroke.blow.name();
    }
    for (after, waits) in waits {
        let (all, longest) = (waits.iter().sum::<Duration>(), waits.iter().max().unwrap());
        println!(
            "{:>3} × {after}: {all:.1?} until the next blow in all, {longest:.1?} the longest",
            waits.len()
        );
    }

    // Everything heals by itself: every instance is answered again by every replica.
    for wire in &scene.ground.wires {
        wire.set(Carriage::Prompt);
    }
    scene.ground.replicas.iter().for_each(|replica| replica.set_clock(0));
    drop(orders);
    working.await.unwrap();
    answered(&scene, INSTANCES * 8, "at rest").await;
    scene.stops.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let took = begun.elapsed();
    account_for(scene, kills, took).await;
}

async fn account_for(scene: Arc<Scene>, kills: usize, took: Duration) {
    let mut account = Account {
        answers: std::mem::take(&mut *scene.answers.lock().unwrap()),
        taken: std::mem::take(&mut *scene.taken.lock().unwrap()),
        ..Account::default()
    };
    let mut connection = scene.ground.connection().await;
    books::read(&mut connection, &mut account).await;
    let verified = scene.ground.deployment.run(&["audit", "verify", "--format", "json"]);
    account.broken_chain = match verified.status.success() && answer(&verified)["valid"] == true {
        true => None,
        false => Some(crate::support::program::complaint(&verified)),
    };
    let violations = check(&account);
    tell(&account, kills, &scene, took);
    assert!(
        violations.is_empty(),
        "{} violations: {:#?}",
        violations.len(),
        &violations[..violations.len().min(10)]
    );
    // A run in which little happened has shown little.
    assert!(account.rows.len() > kills && account.reigns.len() > 3, "too little happened");
    let mut scene = Arc::into_inner(scene).unwrap();
    scene.ground.leave();
}

/// What the run was like.
fn tell(account: &Account, kills: usize, scene: &Scene, took: Duration) {
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut left = 0;
    for answer in &account.answers {
        let outcome = match &answer.outcome {
            Outcome::Broken => "broken".to_owned(),
            Outcome::Refused { status, code, .. } => format!("{status} {code}"),
            Outcome::Tokens(tokens) => {
                left += tokens.len();
                "answered".to_owned()
            }
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    let starts: usize =
        scene.ground.replicas.iter().map(|replica| replica.starts.load(Ordering::Relaxed)).sum();
    println!(
        "{kills} kills in {:.0} s, {starts} starts of replicas; {outcomes:?}; {left} tokens left, {} recorded; {} keys \
         signed; {} removals; clocks were {}moved",
        took.as_secs_f64(),
        account.rows.len(),
        account.reigns.len(),
        account.taken.len(),
        if scene.ground.moves_clocks { "" } else { "not " },
    );
}

/// What takes its time, and goes on while blows fall.
#[derive(Clone, Copy)]
enum Change {
    Purchase(usize),
    Revoke(usize),
    Rotate,
    Suspend(usize),
}

async fn change(scene: Arc<Scene>, mut work: tokio::sync::mpsc::UnboundedReceiver<Change>) {
    while let Some(change) = work.recv().await {
        match change {
            Change::Purchase(instance) => scene.change_purchase(instance).await,
            Change::Revoke(instance) => scene.revoke(instance).await,
            Change::Suspend(instance) => scene.suspend(instance).await,
            Change::Rotate => {
                let scene = Arc::clone(&scene);
                tokio::task::spawn_blocking(move || rotate(&scene.ground.deployment)).await.unwrap();
            }
        }
    }
}

async fn strike(scene: &Arc<Scene>, stroke: Stroke, orders: &tokio::sync::mpsc::UnboundedSender<Change>) {
    let ground = &scene.ground;
    match stroke.blow {
        Blow::Burst(syncs) => scene.burst(syncs).await,
        Blow::ChangePurchase(instance) => orders.send(Change::Purchase(instance)).unwrap(),
        Blow::Clock(replica, seconds) => ground.replicas[replica].set_clock(seconds),
        Blow::Cut(replica) => ground.wires[replica].cut(),
        Blow::Delay(replica, milliseconds) => {
            ground.wires[replica].set(Carriage::Late(Duration::from_millis(milliseconds)));
            tokio::time::sleep(Duration::from_millis(milliseconds * 2)).await;
            ground.wires[replica].set(Carriage::Prompt);
        }
        Blow::KillBackend(nth) => ground.cluster.kill_backend(nth),
        Blow::KillBoth(replica) => {
            ground.replicas[replica].kill();
            ground.cluster.kill().await;
            ground.cluster.start().await;
        }
        Blow::KillDatabase => {
            ground.cluster.kill().await;
            ground.cluster.start().await;
        }
        Blow::KillReplica(replica) => ground.replicas[replica].kill(),
        Blow::Pause(milliseconds) => ground.cluster.pause(Duration::from_millis(milliseconds)).await,
        Blow::Revoke(instance) => orders.send(Change::Revoke(instance)).unwrap(),
        Blow::Rotate => orders.send(Change::Rotate).unwrap(),
        Blow::Suspend(instance) => orders.send(Change::Suspend(instance)).unwrap(),
        Blow::Swallow(replica, milliseconds) => {
            ground.wires[replica].set(Carriage::Lost);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            ground.wires[replica].set(Carriage::Prompt);
            // Whoever waits for what was lost would wait for good.
            ground.wires[replica].cut();
        }
    }
}

/// Waits until so many more syncs were answered.
async fn answered(scene: &Scene, more: usize, when: &str) -> Duration {
    let goal = scene.answered.load(Ordering::Relaxed) + more;
    let started = Instant::now();
    while scene.answered.load(Ordering::Relaxed) < goal {
        assert!(
            started.elapsed() < PATIENCE,
            "{when}: nothing is answered any more: {}",
            scene.ground.replicas.iter().map(|replica| replica.log()).collect::<String>()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}
