//! `token-authority dev`, run as a person or a script runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use token_authority::embedded_postgres::Cluster;

/// A folder that the database's account can reach, so that nothing is kept elsewhere.
fn home() -> tempfile::TempDir {
    folder(0o755)
}

fn folder(mode: u32) -> tempfile::TempDir {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    tempfile::Builder::new().permissions(permissions).tempdir().unwrap()
}

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
    for (name, _) in std::env::vars_os() {
        let settings = name.to_str().is_some_and(|name| name.starts_with("TOKEN_AUTHORITY_"));
        if settings && name != "TOKEN_AUTHORITY_POSTGRES_BIN" {
            command.env_remove(name);
        }
    }
    command.arg("dev").arg("--data-dir").arg(data).args(arguments);
    command
}

/// A running `dev`. Its data directory is written to, so that it is stopped before that goes.
struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Dev {
    fn start(data: &Path, arguments: &[&str]) -> Self {
        let log = data.with_extension("log");
        let errors = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command(data, arguments).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, log }
    }

    /// What it prints up to a line that starts so.
    fn printed_until(&mut self, start: &str) -> String {
        let mut printed = String::new();
        loop {
            let length = self.stdout.read_line(&mut printed).unwrap();
            assert_ne!(length, 0, "it ended: {printed}{}", self.log());
            if printed.lines().last().unwrap().starts_with(start) {
                return printed;
            }
        }
    }

    fn ready(&mut self) -> Value {
        serde_json::from_str(&self.printed_until("{")).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Asks it to stop; answers its exit code once it has, and that it printed nothing more.
    fn stop(mut self, signal: Signal) -> i32 {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill(); // has ended in most cases
        let _ = self.child.wait();
    }
}

/// Runs another command on the deployment.
fn other_command(ready: &Value, arguments: &[&str]) -> Output {
    let variables = ready["environment"].as_object().unwrap();
    let variables = variables.iter().map(|(name, value)| (name, value.as_str().unwrap()));
    Command::new(env!("CARGO_BIN_EXE_token-authority")).args(arguments).envs(variables).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_deployment_lives_through_stops_and_starts() {
    let home = home();
    let data = home.path().join("data");

    let mut dev = Dev::start(&data, &["--port", "0", "--format", "json"]);
    let first = dev.ready();
    assert_eq!(first["issuer"], first["base_url"]);
    let names: Vec<&str> = first["environment"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["CATALOG_DIR", "DATABASE_URL", "ENVIRONMENT", "ISSUER", "KEK_FILE", "KEYS_DIR", "ROOT_KEY_FILE"]
            .map(|name| format!("TOKEN_AUTHORITY_{name}"))
    );
    assert_eq!(first["environment"]["TOKEN_AUTHORITY_DATABASE_URL"], first["database_url"]);

    // Every other command reaches it.
    for arguments in [["migrate", "--check"], ["keys", "list"], ["catalog", "check"]] {
        let output = other_command(&first, &arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }

    // A second one is refused, with the first one's process.
    let second = command(&data, &["--port", "0"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(text(&second.stdout), "");
    let told = text(&second.stderr);
    assert!(told.contains(&format!("in use by process {}", dev.child.id())), "{told}");
    assert_eq!(command(&data, &["--reset"]).output().unwrap().status.code(), Some(1));

    // Secrets are for their owner, and are not logged.
    for name in ["dev.json", "environment", "kek", "root.pem"] {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(data.join(name)).unwrap());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    for secret in ["admin_token", "activation_code"] {
        assert!(!dev.log().contains(first[secret].as_str().unwrap()), "{secret} is in the log");
    }

    // Stopped as a supervisor does it, it goes on as it was, wherever it listens.
    let log = dev.log.clone();
    assert_eq!(dev.stop(Signal::SIGTERM), 0, "{}", std::fs::read_to_string(&log).unwrap());
    assert!(!other_command(&first, &["migrate", "--check"]).status.success(), "its database still runs");
    let mut dev = Dev::start(&data, &["--port", "0", "--format", "json"]);
    let again = dev.ready();
    for member in ["issuer", "admin_token", "activation_code", "database_url", "environment"] {
        assert_eq!(again[member], first[member], "{member}");
    }
    assert_ne!(again["base_url"], first["base_url"]);

    // Killed, it takes its database along and blocks nobody; and the port of the first start is used again.
    dev.child.kill().unwrap();
    drop(dev);
    let mut dev = Dev::start(&data, &["--format", "json"]);
    let again = dev.ready();
    assert_eq!(again["base_url"], first["base_url"]);
    assert_eq!(again["activation_code"], first["activation_code"]);

    // Stopped as at a terminal, and started anew.
    assert_eq!(dev.stop(Signal::SIGINT), 0);
    let mut dev = Dev::start(&data, &["--reset", "--port", "0", "--format", "json"]);
    let anew = dev.ready();
    for member in ["issuer", "admin_token", "activation_code"] {
        assert_ne!(anew[member], first[member], "{member}");
    }
    assert_eq!(dev.stop(Signal::SIGTERM), 0);
}

#[test]
fn the_printed_commands_work_as_they_are() {
    let home = home();
    let mut dev = Dev::start(&home.path().join("it's here"), &["--port", "0"]);
    let printed = dev.printed_until("# Ctrl-C");
    for _ in 0..2 {
        let mut shell = Command::new("sh");
        shell.arg("-eu").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.current_dir("/").spawn().unwrap();
        shell.stdin.take().unwrap().write_all(printed.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let (told, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{told}\n{errors}");
        for part in ["\"instance_secret\":\"tai_", "\"unit_primitives\":[", "valid", "scopes"] {
            assert!(told.contains(part), "{part} is missing in {told}\n{errors}");
        }
        assert_eq!(errors, "");
    }
    assert_eq!(dev.stop(Signal::SIGINT), 0);
}

#[test]
fn an_edited_catalog_is_kept_and_a_broken_one_is_told() {
    let home = home();
    let data = home.path().join("data");
    let mut dev = Dev::start(&data, &["--port", "0", "--format", "json"]);
    dev.ready();
    assert_eq!(dev.stop(Signal::SIGTERM), 0);

    let plan = data.join("catalog/license_types/ultimate.yml");
    let original = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, original.replacen("name: ultimate", "name: ultimate\nnonsense: 1", 1)).unwrap();
    let broken = command(&data, &["--port", "0"]).output().unwrap();
    assert_eq!(broken.status.code(), Some(1));
    let told = text(&broken.stderr);
    assert!(told.contains("ultimate.yml") && told.contains("nonsense"), "{told}");

    let service = data.join("catalog/services/mine.yml");
    std::fs::write(&plan, original).unwrap();
    std::fs::copy(data.join("catalog/services/duo_chat.yml"), &service).unwrap();
    let edited = std::fs::read_to_string(&service).unwrap().replace("name: duo_chat", "name: mine");
    std::fs::write(&service, &edited).unwrap();
    let mut dev = Dev::start(&data, &["--port", "0", "--format", "json"]);
    dev.ready();
    assert_eq!(std::fs::read_to_string(&service).unwrap(), edited);
    assert_eq!(dev.stop(Signal::SIGTERM), 0);
}

#[test]
fn a_directory_that_the_database_cannot_reach_works_as_well() {
    // Closed to everybody else, as are the homes of users and the folders of test runners.
    let closed = folder(0o700);
    let data = closed.path().join("data");
    let mut dev = Dev::start(&data, &["--port", "0", "--format", "json"]);
    let ready = dev.ready();
    assert!(other_command(&ready, &["migrate", "--check"]).status.success());
    assert_eq!(dev.stop(Signal::SIGTERM), 0);
    // Kept elsewhere, if we are root: that must not stay behind.
    let place = std::fs::read_to_string(data.join("postgres/place")).ok();
    assert_eq!(place.is_some(), nix::unistd::geteuid().is_root());
    Cluster::remove(&data).unwrap();
    assert!(!place.is_some_and(|place| Path::new(&place).exists()));
}

#[test]
fn a_taken_port_and_a_foreign_directory_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = home();
    let begun = Instant::now();
    let refused = command(&home.path().join("data"), &["--port", &port]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("--port"), "{}", text(&refused.stderr));

    std::fs::write(home.path().join("letter.txt"), "").unwrap();
    for arguments in [["--port", "0"].as_slice(), &["--reset"]] {
        let refused = command(home.path(), arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("letter.txt"), "{}", text(&refused.stderr));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it looked too late");
}
