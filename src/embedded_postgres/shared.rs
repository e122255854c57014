//! One throw-away cluster for all test processes of a checkout: the first to come starts it, and a process of
//! its own keeps it until three seconds after the last is gone. File locks alone decide.
//!
//! ```text
//! <directory>/   users.lock      shared by every process that uses the cluster
//!                gate.lock       held by who starts it, and by the supervisor when it stops
//!                server          where the socket is
//!                supervisor.log  what the supervisor complained about
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::folders::make_directory;
use super::{Cluster, ClusterError, Durability, Search, socket};

/// How long the cluster stays when nobody uses it: shorter than a person's next run, longer than the time
/// between two test processes.
const IDLE: Duration = Duration::from_secs(3);

/// The line with which the supervisor says that the cluster is there.
const READY: &str = "ready";

/// The use of a shared cluster, for as long as this value lives.
///
/// Everything in that cluster is lost when the machine loses power, and when nobody uses it for three seconds.
#[derive(Debug)]
pub struct SharedCluster {
    socket_directory: PathBuf,
    _user: File,
}

impl SharedCluster {
    /// Joins the users of the cluster of `directory`, and has `supervisor` start one if there is none. Blocks
    /// until it is there, for about half a second.
    ///
    /// `supervisor` is called with `directory` as its last argument, and is to call [`supervise`].
    ///
    /// # Errors
    /// It could not be started; the sentence holds what the supervisor said.
    pub fn join(directory: &Path, mut supervisor: Command) -> Result<Self, ClusterError> {
        make_directory(directory, 0o700)?;
        // First be a user, then look: a supervisor that is about to stop sees either us or the gate.
        let user = open(&directory.join("users.lock"))?;
        user.lock_shared().map_err(ClusterError::io("lock", directory))?;
        let gate = open(&directory.join("gate.lock"))?;
        gate.lock().map_err(ClusterError::io("lock", directory))?;
        let socket_directory = match running(directory) {
            Some(socket_directory) => socket_directory,
            None => {
                start(supervisor.arg(directory), directory)?;
                running(directory).ok_or_else(|| silent(directory))?
            }
        };
        Ok(Self { socket_directory, _user: user })
    }

    /// The URL of one of its databases, which need not exist yet.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        socket::url(&self.socket_directory, database)
    }
}

/// Runs the cluster of `directory` until nobody has used it for three seconds. Calls `ready` once it accepts
/// connections, which is to print its argument on a line for [`SharedCluster::join`].
///
/// # Errors
/// The cluster could not be started or stopped.
pub fn supervise(directory: &Path, search: &Search, ready: impl FnOnce(&str)) -> Result<(), ClusterError> {
    let users = open(&directory.join("users.lock"))?;
    let gate = open(&directory.join("gate.lock"))?;
    let cluster = Cluster::start_throwaway(search, Durability::Unsafe)?;
    let server = directory.join("server");
    let here = cluster.socket_directory.as_os_str().as_bytes();
    fs::write(&server, here).map_err(ClusterError::io("write", &server))?;
    ready(READY);

    let mut idle_since = Instant::now();
    loop {
        std::thread::sleep(IDLE / 6);
        if !is_unused(&users) {
            idle_since = Instant::now();
        } else if idle_since.elapsed() >= IDLE {
            // Nobody gets past the gate while we stop. Who is a user by now found the cluster or waits.
            gate.lock().map_err(ClusterError::io("lock", directory))?;
            if is_unused(&users) {
                break;
            }
            gate.unlock().map_err(ClusterError::io("unlock", directory))?;
        }
    }
    if fs::read(&server).is_ok_and(|text| text == here) {
        let _ = fs::remove_file(&server); // only spares the next one an attempt to connect
    }
    cluster.stop()
}

fn is_unused(users: &File) -> bool {
    let unused = users.try_lock().is_ok();
    if unused {
        let _ = users.unlock(); // fails only for a file that is not open
    }
    unused
}

/// Where the socket of a cluster that accepts connections is.
fn running(directory: &Path) -> Option<PathBuf> {
    let text = fs::read(directory.join("server")).ok()?;
    let socket_directory = PathBuf::from(OsStr::from_bytes(&text));
    UnixStream::connect(socket_directory.join(socket::SOCKET)).ok()?;
    Some(socket_directory)
}

fn start(supervisor: &mut Command, directory: &Path) -> Result<(), ClusterError> {
    let log = directory.join("supervisor.log");
    let complaints = File::create(&log).map_err(ClusterError::io("create", &log))?;
    // Nothing of ours may stay open in it: test runners wait for that. And it must outlive our Ctrl-C, since
    // others may use the cluster.
    supervisor.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(complaints).process_group(0);
    let mut child = supervisor
        .current_dir("/")
        .spawn()
        .map_err(ClusterError::io("run", Path::new(supervisor.get_program())))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(ClusterError::io("read from", Path::new(supervisor.get_program())))?;
    }
    if line.trim_end() == READY { Ok(()) } else { Err(silent(directory)) }
}

fn silent(directory: &Path) -> ClusterError {
    let said = fs::read_to_string(directory.join("supervisor.log")).unwrap_or_default();
    ClusterError::Program { doing: "the supervisor of the test cluster", said }
}

fn open(path: &Path) -> Result<File, ClusterError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(ClusterError::io("open", path))
}
