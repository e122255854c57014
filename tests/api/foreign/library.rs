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
    /// joserfc on Python.
    Joserfc,
    /// PyJWT on Python.
    PyJwt,
    /// Debian's ruby-jwt, with ruby-rbnacl for Ed25519.
    RubyJwt,
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
            Self::Joserfc | Self::PyJwt => Command::new(folder.join("bin/python")),
            Self::RubyJwt => Command::new("ruby"),
        };
        match self {
            Self::Jose => command.arg(scripts.join("verify.mjs")).arg(&folder),
            Self::Joserfc => command.arg(scripts.join("verify_joserfc.py")),
            Self::PyJwt => command.arg(scripts.join("verify.py")),
            Self::RubyJwt => command.arg(scripts.join("verify.rb")),
        };
        let running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut running = running.unwrap_or_else(|error| {
            panic!("{command:?} could not start ({error}); on Debian: apt-get install nodejs ruby-jwt ruby-rbnacl")
        });
        let mut stdin = running.stdin.take().unwrap();
        stdin.write_all(&serde_json::to_vec(question).unwrap()).unwrap();
        drop(stdin);
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{self:?} could not answer: {}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The folder that holds the library: a virtual environment, or one with `node_modules`. Ruby's libraries are the
    /// system's.
    pub(crate) fn install(self) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-jwt").join(match self {
            Self::Jose => JOSE.replace('@', "-"),
            Self::Joserfc => JOSERFC.replace("==", "-"),
            Self::PyJwt => PYJWT.replace("==", "-"),
            Self::RubyJwt => "of-the-system".to_owned(),
        });
        match self {
            Self::Jose => install(&folder, Registry::Npm, &[JOSE]),
            Self::Joserfc => install(&folder, Registry::PyPi, &[JOSERFC, CRYPTOGRAPHY]),
            Self::PyJwt => install(&folder, Registry::PyPi, &[PYJWT, CRYPTOGRAPHY]),
            Self::RubyJwt => {}
        }
        folder
    }
}

const CRYPTOGRAPHY: &str = "cryptography==50.0.2";
const JOSE: &str = "jose@6.2.17";
const JOSERFC: &str = "joserfc==1.8.0";
const PYJWT: &str = "PyJWT==2.15.1";
