//! The HAProxy of the distribution: the one on this machine, or its packages unpacked into `target/`.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use super::PATIENCE;
use crate::support::debian::{on_this_machine, unpacked, with_libraries};

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
    if let Some(program) = on_this_machine("haproxy") {
        return Command::new(program);
    }
    let why = "this test needs HAProxy 2.6 or later; on Debian: apt-get install haproxy";
    let root = unpacked("haproxy", &PACKAGES, why);
    let mut command = Command::new(root.join("usr/sbin/haproxy"));
    with_libraries(&mut command, &root);
    command
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
