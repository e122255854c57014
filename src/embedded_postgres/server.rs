//! Makes a cluster, and runs its server under a supervisor that stops it when we end.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folders::make_directory;
use super::place::Place;
use super::socket::{self, SocketDirectory};
use super::{Account, ClusterError, Programs};

/// How long a server may take to accept connections; it replays its log after a crash.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How long a server may take to write out and stop, before it is made to stop without.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Holds the server as its child, and reads orders from a pipe whose other end is ours. When we end, however
/// we end, the pipe closes, which is the order to stop. (Linux's "signal on the parent's death" follows the
/// thread that started the child, and other systems have none.)
///
/// $1 the log; $2 a socket's folder to remove, or nothing; $3 a cluster to remove, or nothing; then the server.
/// Its standard output is the lock on the cluster, which is free again when it has ended.
const SUPERVISOR: &str = r#"
log=$1 socket=$2 cluster=$3; shift 3
exec 3<&0 </dev/null
"$@" >"$log" 2>&1 3<&- &
server=$!
(
  read -r order <&3
  trap '' TERM
  case $order in
    crash) kill -QUIT "$server"; exit 9 ;;
    pause) kill -INT "$server"; exit 9 ;;
    *) [ -z "$cluster" ] && kill -INT "$server" || kill -QUIT "$server"; exit 0 ;;
  esac
) &
reader=$!
wait "$server"
kill "$reader" 2>/dev/null
wait "$reader"
[ $? = 9 ] && cluster=
rm -rf -- ${socket:+"$socket"} ${cluster:+"$cluster"}
"#;

/// How much a cluster may lose when its server crashes, or the machine under its disk does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// Nothing that was committed.
    Durable,
    /// Everything: nothing is forced to disk. For tests that crash nothing, which run several times as fast.
    Unsafe,
}

/// What a supervisor can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Stop at once, write nothing out, keep the files.
    Crash,
    /// Stop; remove the files of a throw-away cluster.
    End,
    /// Stop and keep the files.
    Pause,
}

/// Makes the cluster when there is none; answers whether it did.
///
/// It is made under another name and renamed when it is whole, so that a half-made one is never used.
pub(super) fn make_cluster(
    place: &Place,
    programs: &Programs,
    account: &Account,
    lock: &File,
) -> Result<bool, ClusterError> {
    let data = place.data(programs.major());
    if data.exists() {
        return Ok(false);
    }
    let part = place.home().join(format!("data-{}.part", programs.major()));
    if part.exists() {
        fs::remove_dir_all(&part).map_err(ClusterError::io("remove", &part))?;
    }
    make_directory(&part, 0o700)?;
    account.own(&part).map_err(ClusterError::io("hand over", &part))?;

    let mut initdb = account.command(&programs.directory().join("initdb"));
    initdb.args(["--encoding=UTF8", "--locale=C", "--auth=trust", "--wal-segsize=4"]);
    initdb.arg(format!("--username={}", socket::USER)).arg("--pgdata").arg(&part);
    if place.is_throwaway() {
        initdb.arg("--no-sync");
    }
    // Should we be killed now, the lock stays with it until it has ended.
    let lock = lock.try_clone().map_err(ClusterError::io("share the lock of", place.home()))?;
    let output = initdb.stdin(lock).output().map_err(ClusterError::io("run", programs.directory()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(ClusterError::Program { doing: "initdb", said });
    }
    fs::rename(&part, &data).map_err(ClusterError::io("rename", &part))?;
    Ok(true)
}

/// A running server and the shell that holds it.
#[derive(Debug)]
pub(super) struct Server {
    data: PathBuf,
    log: PathBuf,
    /// Closing it is the order to stop.
    orders: ChildStdin,
    socket: SocketDirectory,
    supervisor: Child,
}

impl Server {
    /// Starts the server of a cluster that exists, and returns once it accepts connections.
    pub(super) fn start(
        place: &Place,
        programs: &Programs,
        account: &Account,
        durability: Durability,
        lock: File,
    ) -> Result<Self, ClusterError> {
        let data = place.data(programs.major());
        stop_leftover(&data)?;
        let run = place.run();
        make_directory(&run, 0o700)?;
        account.own(&run).map_err(ClusterError::io("hand over", &run))?;
        let socket = SocketDirectory::choose(&run, account)?;

        let mut shell = account.command(Path::new("/bin/sh"));
        shell.arg("-c").arg(SUPERVISOR).arg("supervisor").arg(place.log());
        shell.arg(if socket.apart { socket.path.as_os_str() } else { "".as_ref() });
        shell.arg(if place.is_throwaway() { place.home().as_os_str() } else { "".as_ref() });
        shell.arg(programs.directory().join("postgres")).arg("-D").arg(&data);
        set_parameters(&mut shell, &socket, durability);
        // A group of its own: Ctrl-C at a terminal is for us, and we stop the server in our own time.
        shell.stdin(Stdio::piped()).stdout(lock).stderr(Stdio::null()).process_group(0);
        let mut supervisor = shell.spawn().map_err(ClusterError::io("run", Path::new("/bin/sh")))?;
        // Holds our end of the lock, which must be the supervisor's alone.
        drop(shell);
        let Some(orders) = supervisor.stdin.take() else {
            return Err(ClusterError::Program { doing: "the supervisor", said: String::new() });
        };
        let mut server = Self { data, log: place.log(), orders, socket, supervisor };
        server.wait_until_ready()?;
        Ok(server)
    }

    pub(super) fn socket_directory(&self) -> &Path {
        &self.socket.path
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.supervisor.try_wait(), Ok(None))
    }

    /// Gives the order, and returns when the server is gone.
    pub(super) fn stop(mut self, order: Order) -> Result<(), ClusterError> {
        let word: &[u8] = match order {
            Order::Crash => b"crash\n",
            Order::End => b"end\n",
            Order::Pause => b"pause\n",
        };
        // When it cannot be written, the supervisor is gone, and its server with it.
        let _ = self.orders.write_all(word);
        if self.wait_until_gone(STOP_PATIENCE)? {
            return Ok(());
        }
        tracing::warn!("the embedded PostgreSQL takes too long to stop; it will recover at its next start");
        if let Some(pid) = postmaster_pid(&self.data) {
            let _ = kill(pid, Signal::SIGQUIT); // gone in this instant: all the better
        }
        if self.wait_until_gone(STOP_PATIENCE)? {
            return Ok(());
        }
        Err(ClusterError::TooSlow { what: "stop", seconds: 2 * STOP_PATIENCE.as_secs(), log: self.log })
    }

    fn wait_until_ready(&mut self) -> Result<(), ClusterError> {
        let socket = self.socket.path.join(socket::SOCKET);
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE {
            if self.has_ended()? {
                let said = fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned());
                return Err(ClusterError::Program { doing: "postgres", said: said.unwrap_or_default() });
            }
            // The eighth line of its file tells when it accepts connections.
            let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            // A server that was killed leaves both behind: only a process that is there is ready.
            let is_there = || postmaster_pid(&self.data).is_some_and(|pid| is_server_of(pid, &self.data));
            // One that follows another server says `standby`, and answers queries too.
            let is_ready = file.lines().nth(7).is_some_and(|line| matches!(line.trim(), "ready" | "standby"));
            if is_ready && socket.exists() && is_there() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let seconds = START_PATIENCE.as_secs();
        Err(ClusterError::TooSlow { what: "start", seconds, log: self.log.clone() })
    }

    fn wait_until_gone(&mut self, patience: Duration) -> Result<bool, ClusterError> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.has_ended()? {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(false)
    }

    fn has_ended(&mut self) -> Result<bool, ClusterError> {
        let ended = self.supervisor.try_wait().map_err(ClusterError::io("wait for", Path::new("/bin/sh")))?;
        Ok(ended.is_some())
    }
}

fn set_parameters(command: &mut Command, socket: &SocketDirectory, durability: Durability) {
    let set = |command: &mut Command, name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set(command, "listen_addresses", "");
    set(command, "port", "5432");
    set(command, "unix_socket_directories", &socket.path.to_string_lossy());
    set(command, "unix_socket_permissions", "0700");
    set(command, "log_min_messages", "warning");
    set(command, "log_timezone", "UTC");
    set(command, "timezone", "UTC");
    let safe = if durability == Durability::Durable { "on" } else { "off" };
    for name in ["fsync", "synchronous_commit", "full_page_writes", "autovacuum"] {
        set(command, name, safe);
    }
    if durability == Durability::Unsafe {
        set(command, "max_connections", "300"); // many tests share it
        set(command, "shared_buffers", "64MB");
        set(command, "max_wal_size", "256MB"); // may be memory
    }
}

/// Ends a server of this cluster that lost its supervisor, and removes the file that would keep a new one from
/// starting.
///
/// We hold the lock, so nobody supervises it. PostgreSQL itself takes any process with the number in that file
/// for its server, and numbers are reused, in containers soon.
fn stop_leftover(data: &Path) -> Result<(), ClusterError> {
    let Some(pid) = postmaster_pid(data) else { return Ok(()) };
    let begun = Instant::now();
    if is_server_of(pid, data) {
        let _ = kill(pid, Signal::SIGINT); // gone in this instant: all the better
        while is_server_of(pid, data) {
            if begun.elapsed() > STOP_PATIENCE {
                let (what, seconds) = ("stop", STOP_PATIENCE.as_secs());
                return Err(ClusterError::TooSlow {
                    what,
                    seconds,
                    log: data.with_file_name("run/server.log"),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    } else if kill(pid, None).is_ok() {
        let file = data.join("postmaster.pid");
        fs::remove_file(&file).map_err(ClusterError::io("remove", &file))?;
    }
    Ok(())
}

fn postmaster_pid(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

/// Whether that process is a server of this cluster: such a one works in its folder.
fn is_server_of(pid: Pid, data: &Path) -> bool {
    if Path::new("/proc/self").exists() {
        return fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data);
    }
    let output = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&*data.to_string_lossy()))
}
