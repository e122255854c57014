//! Instances that sync without a pause, through whichever replica stands in the balancer's list.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::deployment::Activated;

/// Syncs that go on until [`Load::finish`].
pub(crate) struct Load {
    shared: Arc<Shared>,
    running: Vec<JoinHandle<Tally>>,
}

struct Shared {
    targets: Mutex<Vec<String>>,
    stopped: AtomicBool,
    answered: AtomicUsize,
    patience: Patience,
}

/// How often a sync that was not answered is tried again.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// Once, at once, at another replica: what a balancer does.
    OneRetry,
    /// Until it is answered or this is over: what an instance does.
    For(Duration),
}

/// What became of them.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    /// Syncs that were not answered at the first attempt.
    pub(crate) retried: usize,
    /// Why syncs were given up.
    pub(crate) failures: Vec<String>,
    pub(crate) tokens: Vec<String>,
    pub(crate) longest: Duration,
}

impl Load {
    /// Each instance syncs, one request after the other.
    pub(crate) fn start(instances: &[Activated], targets: &[&str], patience: Patience) -> Self {
        let shared = Arc::new(Shared {
            targets: Mutex::new(targets.iter().map(|target| (*target).to_owned()).collect()),
            stopped: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            patience,
        });
        let running = instances.iter().enumerate();
        let running = running
            .map(|(first, instance)| tokio::spawn(sync_on(Arc::clone(&shared), instance.clone(), first)));
        Self { running: running.collect(), shared }
    }

    /// From now on these replicas are in the list.
    pub(crate) fn balance(&self, targets: &[&str]) {
        *self.shared.targets.lock().unwrap() = targets.iter().map(|target| (*target).to_owned()).collect();
    }

    /// Returns when this many more syncs were answered.
    pub(crate) async fn answer_more(&self, syncs: usize) {
        let (before, begun) = (self.shared.answered.load(Ordering::SeqCst), Instant::now());
        while self.shared.answered.load(Ordering::SeqCst) < before + syncs {
            assert!(begun.elapsed() < Duration::from_secs(90), "syncs are not answered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn finish(self) -> Tally {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for one in self.running {
            let one = one.await.unwrap();
            all.answered += one.answered;
            all.retried += one.retried;
            all.failures.extend(one.failures);
            all.tokens.extend(one.tokens);
            all.longest = all.longest.max(one.longest);
        }
        all
    }
}

async fn sync_on(shared: Arc<Shared>, instance: Activated, first: usize) -> Tally {
    // Whoever is connected to a host that is gone hears nothing of it.
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let mut tally = Tally::default();
    let mut turn = first;
    while !shared.stopped.load(Ordering::SeqCst) {
        turn += 1;
        // Another version each time, so that each sync is a new one and not the last one's answer.
        let body = json!({ "version": format!("18.5.{}", turn % 7) });
        let begun = Instant::now();
        let mut attempts = 0;
        loop {
            let target = {
                let targets = shared.targets.lock().unwrap();
                targets[(turn + attempts) % targets.len()].clone()
            };
            attempts += 1;
            let request = http.post(format!("{target}/v1/sync"));
            let request = request.basic_auth(&instance.uid, Some(&instance.secret)).json(&body);
            let why = match request.send().await {
                Ok(answer) if answer.status() == 200 => match answer.json::<Value>().await {
                    Ok(synced) => {
                        tally.answered += 1;
                        shared.answered.fetch_add(1, Ordering::SeqCst);
                        let tokens = synced["tokens"].as_array().unwrap().iter();
                        tally.tokens.extend(tokens.map(|one| one["token"].as_str().unwrap().to_owned()));
                        break;
                    }
                    Err(error) => format!("{target}: cut off: {error:?}"),
                },
                Ok(answer) => {
                    format!("{target}: {} {}", answer.status(), answer.text().await.unwrap_or_default())
                }
                Err(error) => format!("{target}: {error:?}"),
            };
            tally.retried += usize::from(attempts == 1);
            let gives_up = match shared.patience {
                Patience::OneRetry => attempts == 2,
                Patience::For(patience) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    begun.elapsed() > patience
                }
            };
            if gives_up {
                tally.failures.push(why);
                break;
            }
        }
        tally.longest = tally.longest.max(begun.elapsed());
    }
    tally
}
