//! A durable cluster for one test alone, which may crash it, stop it and start it again.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use token_authority::embedded_postgres::{Cluster, ClusterError, Durability, Search};
use token_authority::storage;

/// A server of its own that loses nothing it has committed, with one migrated database.
#[derive(Debug)]
pub(crate) struct DurableCluster {
    cluster: Arc<Mutex<Cluster>>,
    url: String,
}

/// Starts one, in about a second.
pub(crate) async fn durable_cluster() -> DurableCluster {
    let start = || {
        let named = std::env::var_os("TOKEN_AUTHORITY_POSTGRES_BIN").map(PathBuf::from);
        let search = Search::everywhere(named, |line| println!("{line}"));
        Cluster::start_throwaway(&search, Durability::Durable).unwrap_or_else(|error| panic!("{error}"))
    };
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let durable = DurableCluster { url: cluster.url("postgres"), cluster: Arc::new(Mutex::new(cluster)) };
    let database = durable.storage();
    database.migrate().await.unwrap();
    database.pool().close().await;
    durable
}

impl DurableCluster {
    /// The URL of its database, the same after every start.
    pub(crate) fn url(&self) -> SecretString {
        SecretString::from(self.url.clone())
    }

    /// Its database, as the service sees it, with up to four connections in its pool.
    pub(crate) fn storage(&self) -> storage::Database {
        storage::Database::new(&self.url(), 4).unwrap()
    }

    /// Ends the server in the middle of what it does. It writes nothing out, and recovers at its next start.
    pub(crate) async fn crash(&self) {
        self.with(|cluster| cluster.halt(true)).await;
    }

    /// SIGKILL for every process of the server. It recovers at its next start.
    pub(crate) async fn kill(&self) {
        let server = self.server();
        // Who holds the server must take this for a crash, or removes the cluster. Frozen, the server does not hear of
        // the order to crash before it is killed.
        send(server, Signal::SIGSTOP);
        let halt = self.with(|cluster| cluster.halt(true));
        let killed = async {
            while !is_told_to_quit(server) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            children(server).into_iter().chain([server]).for_each(|process| send(process, Signal::SIGKILL));
        };
        tokio::join!(halt, killed);
    }

    /// SIGKILL for one of the server's processes: the server ends all sessions, and recovers by itself.
    pub(crate) fn kill_backend(&self, nth: usize) {
        // Without the process that recovers, the server would give up instead of recovering.
        let is_other = |process: &Pid| {
            let title = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            title.starts_with(b"postgres: ") && !title.starts_with(b"postgres: startup")
        };
        let backends: Vec<Pid> = children(self.server()).into_iter().filter(is_other).collect();
        if !backends.is_empty() {
            send(backends[nth % backends.len()], Signal::SIGKILL);
        }
    }

    /// SIGSTOP for every process of the server, and SIGCONT after this time.
    pub(crate) async fn pause(&self, time: Duration) {
        let server = self.server();
        let processes: Vec<Pid> = [server].into_iter().chain(children(server)).collect();
        processes.iter().for_each(|process| send(*process, Signal::SIGSTOP));
        tokio::time::sleep(time).await;
        processes.iter().for_each(|process| send(*process, Signal::SIGCONT));
    }

    /// The socket that it listens on.
    pub(crate) fn socket(&self) -> PathBuf {
        let options: sqlx::postgres::PgConnectOptions = self.url.parse().unwrap();
        options.get_socket().unwrap().join(".s.PGSQL.5432")
    }

    fn server(&self) -> Pid {
        let cluster = self.cluster.lock().unwrap();
        let file = cluster.home().join(format!("data-{}/postmaster.pid", cluster.programs().major()));
        let text = fs::read_to_string(file).unwrap();
        Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap())
    }

    /// Stops the server properly.
    pub(crate) async fn stop(&self) {
        self.with(|cluster| cluster.halt(false)).await;
    }

    /// Starts it again.
    pub(crate) async fn start(&self) {
        self.with(Cluster::resume).await;
    }

    async fn with(&self, work: impl FnOnce(&mut Cluster) -> Result<(), ClusterError> + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        let done = tokio::task::spawn_blocking(move || work(&mut cluster.lock().unwrap()));
        done.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The processes that this one started.
fn children(parent: Pid) -> Vec<Pid> {
    let child = |entry: fs::DirEntry| -> Option<Pid> {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        // The name of the program is in parentheses; after it come the state and the parent (proc(5)).
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let started_by: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (started_by == parent.as_raw()).then_some(Pid::from_raw(pid))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(child).collect()
}

/// It may be gone by now.
fn send(process: Pid, signal: Signal) {
    let _ = kill(process, signal);
}

/// Whether SIGQUIT waits for a process, or the process is gone.
fn is_told_to_quit(process: Pid) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { return true };
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    pending.is_none_or(|mask| mask & (1 << (Signal::SIGQUIT as u32 - 1)) != 0)
}
