//! Where it takes place: two replicas that are started again whenever they end, each on a wire of its own to one
//! PostgreSQL that loses nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::PgConnection;

use super::wire::Wire;
use crate::support::durable::{DurableCluster, durable_cluster};
use crate::support::program::Deployment;

pub(super) const REPLICAS: usize = 2;

/// Longer than any recovery on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Ground {
    pub(super) cluster: DurableCluster,
    pub(super) deployment: Deployment,
    pub(super) replicas: Vec<Arc<Replica>>,
    pub(super) wires: Vec<Wire>,
    /// Whether clocks can be moved: with libfaketime on the machine.
    pub(super) moves_clocks: bool,
    keepers: Vec<JoinHandle<()>>,
}

/// One replica, through all of its lives.
pub(super) struct Replica {
    url: RwLock<Option<String>>,
    running: Mutex<Option<Child>>,
    stops: AtomicBool,
    pub(super) starts: AtomicUsize,
    /// What libfaketime reads: by how much the clock is off.
    clock: PathBuf,
    log: PathBuf,
}

impl Ground {
    pub(super) async fn prepare() -> Self {
        let cluster = durable_cluster().await;
        let deployment = Deployment::on(&cluster.url());
        deployment.initialize();
        let faketime = FAKETIME.iter().map(Path::new).find(|library| library.exists());
        let mut ground = Self {
            deployment,
            replicas: Vec::new(),
            wires: Vec::new(),
            moves_clocks: faketime.is_some(),
            keepers: Vec::new(),
            cluster,
        };
        for number in 0..REPLICAS {
            let wire = Wire::to(ground.cluster.socket()).await;
            let replica = Arc::new(Replica {
                url: RwLock::default(),
                running: Mutex::default(),
                stops: AtomicBool::new(false),
                starts: AtomicUsize::new(0),
                clock: ground.deployment.path(&format!("clock-{number}")),
                log: ground.deployment.path(&format!("replica-{number}.log")),
            });
            replica.set_clock(0);
            let mut variables: Vec<_> = ground.deployment.variables().collect();
            let mut set = |name: &str, value: String| {
                variables.retain(|(known, _)| known != name);
                variables.push((name.to_owned(), value));
            };
            set("TOKEN_AUTHORITY_DATABASE_URL_FILE", String::new());
            set("TOKEN_AUTHORITY_DATABASE_URL", wire.url().expose_secret().to_owned());
            set("TOKEN_AUTHORITY_LOG_FILTER", "error,token_authority::cli::service=info".to_owned());
            // So that a burst fills it.
            set("TOKEN_AUTHORITY_SYNC_QUEUE_LIMIT", "12".to_owned());
            set("TOKEN_AUTHORITY_SYNC_BATCH_SIZE", "8".to_owned());
            set("TOKEN_AUTHORITY_WORKERS", "1".to_owned());
            if let Some(library) = faketime {
                set("LD_PRELOAD", library.display().to_string());
                set("FAKETIME_TIMESTAMP_FILE", replica.clock.display().to_string());
                set("FAKETIME_NO_CACHE", "1".to_owned());
                // Its timers go on as they would.
                set("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
            }
            variables.retain(|(_, value)| !value.is_empty());
            let kept = Arc::clone(&replica);
            ground.keepers.push(std::thread::spawn(move || kept.keep(&variables)));
            ground.replicas.push(replica);
            ground.wires.push(wire);
        }
        ground
    }

    /// The address of this replica, or else of another one that answers.
    pub(super) fn url(&self, preferred: usize) -> Option<String> {
        let of = |number: usize| self.replicas[number % REPLICAS].url.read().unwrap().clone();
        (preferred..preferred + REPLICAS).find_map(of)
    }

    pub(super) async fn connection(&self) -> PgConnection {
        let started = Instant::now();
        loop {
            match <PgConnection as sqlx::Connection>::connect(self.cluster.url().expose_secret()).await {
                Ok(connection) => return connection,
                Err(error) => assert!(started.elapsed() < PATIENCE, "no PostgreSQL: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the replicas for good.
    pub(super) fn leave(&mut self) {
        for replica in &self.replicas {
            replica.stops.store(true, Ordering::SeqCst);
            replica.kill();
        }
        for keeper in self.keepers.drain(..) {
            keeper.join().unwrap();
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for replica in &self.replicas {
            replica.stops.store(true, Ordering::SeqCst);
            replica.kill();
        }
    }
}

impl Replica {
    /// Ends it in the middle of what it does; its keeper starts it again.
    pub(super) fn kill(&self) {
        if let Some(child) = &mut *self.running.lock().unwrap() {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }

    pub(super) fn set_clock(&self, seconds: i32) {
        // Never half a file.
        let draft = self.clock.with_extension("draft");
        fs::write(&draft, format!("{seconds:+}s\n")).unwrap();
        fs::rename(&draft, &self.clock).unwrap();
    }

    /// Starts it again and again, as a supervisor does.
    fn keep(&self, variables: &[(String, String)]) {
        while !self.stops.load(Ordering::SeqCst) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
            command.arg("serve").env_clear().envs(variables.iter().cloned());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&self.log).unwrap());
            *self.running.lock().unwrap() = Some(command.spawn().unwrap());
            self.starts.fetch_add(1, Ordering::Relaxed);
            let mut answers = false;
            while self.running.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_none() {
                if !answers && let Some(url) = self.listens() {
                    answers = true;
                    *self.url.write().unwrap() = Some(url);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            *self.url.write().unwrap() = None;
            if !answers {
                // PostgreSQL is away, perhaps: no supervisor tries again at once.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    fn listens(&self) -> Option<String> {
        let log = fs::read_to_string(&self.log).ok()?;
        let line = log.lines().find(|line| line.contains("\"listen\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(format!("http://{}", line["listen"].as_str()?))
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Where Debian and Fedora put it.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];
