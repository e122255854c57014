//! The program as its operator runs it: commands one after the other, then a service until SIGTERM.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;
use tempfile::TempDir;

use super::database::Database;

/// A deployment with settings, secrets and a database of its own, before its first command.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// Dropped with the deployment; `None` where the database belongs to someone else.
    database: Option<Database>,
    directory: TempDir,
    variables: Vec<(String, String)>,
}

/// Who issues, as these deployments are configured.
pub(crate) const ISSUER: &str = "https://tokens.example.com";

impl Deployment {
    /// On an empty database; nothing has been run yet.
    pub(crate) async fn prepare() -> Self {
        let database = Database::unmigrated().await;
        let url = database.url();
        Self { database: Some(database), ..Self::on(&url) }
    }

    /// On a database that lives elsewhere.
    pub(crate) fn on(database_url: &SecretString) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        write_private(&path("kek"), KEK);
        write_private(&path("database_url"), &with_password(database_url.expose_secret()));
        let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog").display().to_string();
        let variables = [
            ("DATABASE_URL_FILE", path("database_url")),
            ("KEK_FILE", path("kek")),
            ("ROOT_KEY_FILE", path("root")),
            ("ALLOW_LOCAL_ROOT", "true".to_owned()),
            ("KEYS_DIR", path("keys")),
            ("CATALOG_DIR", catalog),
            ("ISSUER", ISSUER.to_owned()),
            ("ENVIRONMENT", "staging".to_owned()),
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        let variables =
            variables.map(|(name, value)| (format!("TOKEN_AUTHORITY_{name}"), value)).into_iter().collect();
        Self { database: None, directory, variables }
    }

    /// The same, migrated and with its first keys.
    pub(crate) async fn initialized() -> Self {
        let deployment = Self::prepare().await;
        deployment.initialize();
        deployment
    }

    /// Migrates, and makes the first keys.
    pub(crate) fn initialize(&self) {
        for command in ["migrate", "init"] {
            let output = self.run(&[command]);
            assert!(output.status.success(), "{command}: {}", complaint(&output));
        }
    }

    /// A connection of its own to its database.
    pub(crate) async fn connection(&self) -> PgConnection {
        self.database.as_ref().unwrap().connection().await
    }

    /// Backs its database up, while no service runs on it.
    pub(crate) async fn backup(&self) -> Database {
        self.database.as_ref().unwrap().backup().await
    }

    /// Goes on with a backup in the place of its database.
    pub(crate) fn restore(&mut self, backup: Database) {
        let url = with_password(backup.url().expose_secret());
        fs::write(self.path("database_url"), url).unwrap();
        self.database = Some(backup);
    }

    /// Changes a setting; an empty value takes it away.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// The variables with which its commands run.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().cloned()
    }

    /// A file of this deployment.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The first access-token key in this state, as `keys list` tells it.
    pub(crate) fn access_key(&self, state: &str) -> String {
        let listed = answer(&self.run(&["keys", "list", "--format", "json"]));
        let keys = listed["keys"].as_array().unwrap();
        let found = keys.iter().find(|key| key["purpose"] == "access_tokens" && key["state"] == state);
        found.unwrap_or_else(|| panic!("no key is {state}: {keys:?}"))["kid"].as_str().unwrap().to_owned()
    }

    /// Starts a command that goes on beside the test.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts the service, and returns when it answers.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(Path::new(PROGRAM), "serve")
    }

    /// The same by a program of another build perhaps, as one of several replicas: its log has this name.
    pub(crate) fn serve_with(&self, program: &Path, name: &str) -> Serving {
        let log = self.path(&format!("{name}.log"));
        let mut command = self.command_of(program, &["serve"]);
        let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut serving = Serving { child, log, base_url: String::new(), metrics_url: String::new() };
        let started = Instant::now();
        loop {
            let answers = serving.log_lines().into_iter().find(|line| line["listen"].is_string());
            if let Some(line) = answers {
                serving.base_url = format!("http://{}", line["listen"].as_str().unwrap());
                serving.metrics_url = format!("http://{}/metrics", line["metrics_listen"].as_str().unwrap());
                return serving;
            }
            let ended = serving.child.try_wait().unwrap();
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "no service: {}", serving.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command of a program of another build.
    pub(crate) fn run_with(&self, program: &Path, arguments: &[&str]) -> Output {
        self.command_of(program, arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(PROGRAM), arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.variables.iter().cloned()).stdin(Stdio::null());
        command
    }
}

/// A service that answers, and what it logs.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    log: PathBuf,
    pub(crate) base_url: String,
    pub(crate) metrics_url: String,
}

impl Serving {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as a supervisor does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Asks it to read its catalog again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it at once, with whatever it does (SIGKILL).
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has stopped, and returns its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "it does not stop: {}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it has logged.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The same, line by line; each complete line is a JSON object.
    pub(crate) fn log_lines(&self) -> Vec<serde_json::Value> {
        let text = self.log_text();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"))
            })
            .collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command said on stderr.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command answered as JSON.
pub(crate) fn answer(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", complaint(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The program of this build.
const PROGRAM: &str = env!("CARGO_BIN_EXE_token-authority");

/// 32 bytes, as `openssl rand -base64 32` writes them.
pub(crate) const KEK: &str = "c29tZSBieXRlcyB0aGF0IG5vYm9keSBndWVzc2VzISE=\n";

/// The database's password, which its test cluster never asks for.
pub(crate) const DATABASE_PASSWORD: &str = "correct-horse-battery";

fn with_password(url: &str) -> String {
    url.replacen('@', &format!(":{DATABASE_PASSWORD}@"), 1)
}

/// Longer than a start on a busy machine, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file that only its owner may read.
fn write_private(path: &str, text: &str) {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
