//! The HAProxy of the distribution: the one on this machine, or its packages unpacked into `target/`.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use super::PATIENCE;

/// A proxy that runs.
pub(super) struct HaProxy {
    child: Child,
    log: PathBuf,
}

impl HaProxy {
    /// Whether the proxy accepts the file, and what it says to it.
    pub(super) fn check(configuration: &Path) -> Output {
        command().args(["-c", "-f"]).arg(configuration).output().unwrap()
    }

    /// Starts it, and returns when it listens on the address.
    pub(super) fn start(configuration: &Path, address: &str) -> Self {
        let log = configuration.with_extension("log");
        let file = File::create(&log).unwrap();
        let mut command = command();
        command.args(["-db", "-f"]).arg(configuration);
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn();
        let mut proxy = Self { child: child.unwrap(), log };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not listen: {}", proxy.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        proxy
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command() -> Command {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&on_path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    if let Some(program) = folders.map(|folder| folder.join("haproxy")).find(|program| program.is_file()) {
        return Command::new(program);
    }
    let root = unpacked();
    let mut command = Command::new(root.join("usr/sbin/haproxy"));
    let libraries =
        ["usr/lib", "lib"].map(|lib| root.join(lib).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    command
}

/// Fetches the package and the libraries that it needs, without installing anything.
fn unpacked() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("haproxy");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.with_added_extension("lock")).unwrap();
    lock.lock().unwrap();
    let root = folder.join("root");
    if root.exists() {
        return root;
    }
    let half = folder.join("half");
    // Whatever is there was interrupted.
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half).unwrap();
    run(Command::new("apt-get").args(["download", "-q"]).args(PACKAGES).current_dir(&half));
    for entry in fs::read_dir(&half).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(half.join("root")));
        }
    }
    fs::rename(half.join("root"), &root).unwrap();
    root
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    assert!(
        done,
        "{command:?} failed: this test needs HAProxy 2.6 or later; on Debian: apt-get install haproxy"
    );
}

/// HAProxy, and the libraries that a bare machine may lack.
const PACKAGES: [&str; 7] = [
    "haproxy",
    "libcrypt1",
    "liblua5.3-0",
    "libopentracing-c-wrapper0",
    "libopentracing1",
    "libpcre2-8-0",
    "libssl3",
];
