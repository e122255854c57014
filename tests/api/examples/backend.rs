//! Builds and runs an example backend as its README says, with packages fetched into `target/`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use token_authority_verifier::Digest;

use super::PATIENCE;
use super::authority::Authority;

#[derive(Clone, Copy, Debug)]
pub(super) enum Language {
    Node,
    Python,
    Rust,
}

/// A backend that is ready to be started.
pub(super) struct Build {
    language: Language,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    keys: PathBuf,
    /// What was built, and what it logs.
    folder: TempDir,
}

/// A backend that answers.
pub(super) struct Backend {
    child: Child,
    client: Client,
    url: String,
    log: PathBuf,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// `WWW-Authenticate`.
    pub(super) challenge: String,
    /// The problem's code.
    pub(super) code: String,
}

impl Language {
    pub(super) async fn build(self, keys: &Path) -> Build {
        let keys = keys.to_owned();
        tokio::task::spawn_blocking(move || self.build_here(keys)).await.unwrap()
    }

    fn build_here(self, keys: PathBuf) -> Build {
        let folder = tempfile::tempdir().unwrap();
        let (program, arguments) = match self {
            Self::Node => {
                let source = self.source();
                let installed = installed("node", &source.join("package.json"), |folder| {
                    fs::copy(source.join("package.json"), folder.join("package.json")).unwrap();
                    let mut npm = Command::new("npm");
                    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
                    run(npm.current_dir(folder));
                });
                for name in ["contract.json", "package.json", "reporting.mjs", "server.mjs", "verifier.mjs"] {
                    fs::copy(source.join(name), folder.path().join(name)).unwrap();
                }
                let modules = folder.path().join("node_modules");
                std::os::unix::fs::symlink(installed.join("node_modules"), modules).unwrap();
                (PathBuf::from("node"), vec![folder.path().join("server.mjs")])
            }
            Self::Python => {
                let source = self.source();
                let requirements = source.join("requirements.txt");
                let installed = installed("python", &requirements, |folder| {
                    run(Command::new("python3").args(["-m", "venv"]).arg(folder));
                    let mut pip = Command::new(folder.join("bin/python"));
                    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
                    run(pip.arg(&requirements));
                });
                (installed.join("bin/python"), vec![source.join("backend.py")])
            }
            Self::Rust => (build_rust(&keys, folder.path()), Vec::new()),
        };
        Build { language: self, program, arguments, keys, folder }
    }

    fn source(self) -> PathBuf {
        let name = match self {
            Self::Node => "node",
            Self::Python => "python",
            Self::Rust => "rust",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
    }
}

/// In the workspace, so that hardly anything is compiled again; the program is taken away at once, for the next build
/// has another key set in it.
fn build_rust(keys: &Path, into: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("example-backend.lock")).unwrap();
    lock.lock().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", "example-backend", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("KEY_SET", keys);
    run(&mut cargo);
    let built = into.join("example-backend");
    fs::copy(target.join("debug/example-backend"), &built).unwrap();
    built
}

/// The folder in which packages were installed, once for each content of the file that names them.
fn installed(name: &str, named_in: &Path, install: impl FnOnce(&Path)) -> PathBuf {
    let content = Digest::of(&fs::read(named_in).unwrap()).to_string();
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(format!("{name}-{}", &content[7..23]));
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    // Tests run in parallel, as threads or as processes: one installs, the others wait.
    let lock = File::create(folder.with_added_extension("lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if !complete.exists() {
        // Whatever is there was interrupted.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        install(&folder);
        File::create(complete).unwrap();
    }
    folder
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!(
            "{command:?} could not start ({error}): this test needs python3 with venv, Node.js and npm; on Debian: \
             apt-get install python3-venv nodejs npm"
        )
    });
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}

impl Build {
    /// Starts a process, and returns when it is ready to serve.
    pub(super) async fn start(&self, authority: &Authority) -> Backend {
        let (file, log) = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap().keep().unwrap();
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // The backend says which port it got: one that is chosen here may be taken before it listens.
            .env("LISTEN", "127.0.0.1:0")
            .env("KEY_SET", &self.keys)
            .env("AUTHORITY_URL", authority.url())
            .env("BACKEND_TOKEN_FILE", authority.backend_token_file())
            .env("BUILD", "v1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut backend = Backend { child, client: client(), url: String::new(), log };
        let begun = Instant::now();
        while backend.url.is_empty() {
            let ended = backend.child.try_wait().unwrap();
            let is_hopeless = ended.is_some() || begun.elapsed() > PATIENCE;
            assert!(!is_hopeless, "the backend in {:?} does not start: {}", self.language, backend.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
            backend.url = address_in(&backend.log()).unwrap_or_default();
        }
        backend
    }
}

/// What a backend says of itself once it listens.
fn address_in(log: &str) -> Option<String> {
    let (_, behind) = log.split_once(" on http://127.0.0.1:")?;
    let (port, _) = behind.split_once(|next: char| !next.is_ascii_digit())?;
    Some(format!("http://127.0.0.1:{port}"))
}

/// A connection for each request: one that is kept may be closed by the backend just when it is used again.
fn client() -> Client {
    Client::builder().pool_max_idle_per_host(0).build().unwrap()
}

/// An address that nobody listens on, for programs that cannot say which port they got: of all of 127.0.0.0/8 one that
/// is this process's alone, so that nobody takes the port before they listen.
pub(super) fn free_address() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high.wrapping_add(100), middle, low.max(1));
    TcpListener::bind((own, 0)).unwrap().local_addr().unwrap().to_string()
}

impl Backend {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether it says that requests should be sent to it, and if not, why not.
    pub(super) async fn health(&self) -> Result<(), String> {
        let answer = self.client.get(format!("{}/health", self.url)).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["ready"] == true, status == 200, "{status} {body}");
        assert!(status == 200 || status == 503, "{status} {body}");
        (status == 200).then_some(()).ok_or_else(|| body["reason"].to_string())
    }

    pub(super) async fn ask(&self, path: &str, token: Option<&str>) -> Reply {
        self.ask_with(path, token, &[]).await
    }

    pub(super) async fn ask_with(&self, path: &str, token: Option<&str>, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.client.get(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        let challenge = answer.headers().get("www-authenticate");
        let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        Reply { status, challenge, code: body["code"].as_str().unwrap_or_default().to_owned() }
    }

    /// Stops it as a supervisor does, and waits for its end.
    pub(super) async fn stop(self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut backend = self;
        let waiting = tokio::task::spawn_blocking(move || {
            let Self { child, .. } = &mut backend;
            child.wait().unwrap()
        });
        let status = waiting.await.unwrap();
        assert!(status.code() == Some(0) || status.code().is_none(), "{status}");
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
