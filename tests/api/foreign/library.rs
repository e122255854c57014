//! Installs a JWT library that we did not write from its registry, pinned, and asks it about tokens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

/// A library of another language, with the script that uses it as a backend would.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Library {
    /// npm `jose` on Node.js.
    Jose,
    /// PyJWT on Python.
    PyJwt,
}

/// What the scripts read.
#[derive(Debug, Serialize)]
pub(crate) struct Question<'a> {
    pub(crate) jwks: &'a Value,
    pub(crate) issuer: &'a str,
    /// In seconds.
    pub(crate) leeway: u64,
    pub(crate) cases: &'a [Case],
}

/// One token, and to whom and when it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) audience: String,
    /// In seconds since 1970; `None` for the time it is.
    pub(crate) now: Option<u64>,
}

impl Library {
    /// Asks for a verdict on each case: `None` accepts, else why not.
    ///
    /// Installs the library first, unless an earlier run did.
    pub(crate) fn ask(self, question: &Question<'_>) -> BTreeMap<String, Option<String>> {
        let folder = self.install();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign");
        let mut command = match self {
            Self::Jose => Command::new("node"),
            Self::PyJwt => Command::new(folder.join("bin/python")),
        };
        match self {
            Self::Jose => command.arg(scripts.join("verify.mjs")).arg(&folder),
            Self::PyJwt => command.arg(scripts.join("verify.py")),
        };
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = running.stdin.take().unwrap();
        stdin.write_all(&serde_json::to_vec(question).unwrap()).unwrap();
        drop(stdin);
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{self:?} could not answer: {}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The folder that holds the library: a virtual environment, or one with `node_modules`.
    pub(super) fn install(self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-jwt").join(match self {
            Self::Jose => JOSE.replace('@', "-"),
            Self::PyJwt => PYJWT.replace("==", "-"),
        });
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        // Tests run in parallel, as threads or as processes: one installs, the others wait.
        let lock = File::create(folder.with_added_extension("lock")).unwrap();
        lock.lock().unwrap();
        let complete = folder.join("complete");
        if !complete.exists() {
            // Whatever is there was interrupted.
            let _ = fs::remove_dir_all(&folder);
            match self {
                Self::Jose => {
                    fs::create_dir_all(&folder).unwrap();
                    run(Command::new("npm").current_dir(&folder).args([
                        "install",
                        "--no-audit",
                        "--no-fund",
                        "--ignore-scripts",
                        "--prefix=.",
                        JOSE,
                    ]));
                }
                Self::PyJwt => {
                    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
                    run(Command::new(folder.join("bin/python")).args([
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                        PYJWT,
                        CRYPTOGRAPHY,
                    ]));
                }
            }
            File::create(complete).unwrap();
        }
        folder
    }
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap_or_else(|error| {
        panic!(
            "{command:?} could not start ({error}): this test needs python3 with venv, Node.js and npm; on \
             Debian: apt-get install python3-venv nodejs npm"
        )
    });
    assert!(status.success(), "{command:?} failed: {status}");
}

const CRYPTOGRAPHY: &str = "cryptography==50.0.2";
const JOSE: &str = "jose@6.2.17";
const PYJWT: &str = "PyJWT==2.15.1";
