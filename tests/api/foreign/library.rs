//! Installs a JWT library that we did not write from its registry, pinned, and asks it about tokens.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::packages::{Registry, install};

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
        match self {
            Self::Jose => install(&folder, Registry::Npm, &[JOSE]),
            Self::PyJwt => install(&folder, Registry::PyPi, &[PYJWT, CRYPTOGRAPHY]),
        }
        folder
    }
}

const CRYPTOGRAPHY: &str = "cryptography==50.0.2";
const JOSE: &str = "jose@6.2.17";
const PYJWT: &str = "PyJWT==2.15.1";
