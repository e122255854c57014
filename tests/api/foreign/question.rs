//! Asks a JWT library that we did not write about tokens.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use super::library::Library;
use super::ruby::ruby;

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
    /// Asks for a verdict on each case: `None` accepts, else why not. No verdicts where the language is not here.
    ///
    /// Installs the library first, unless an earlier run did.
    pub(crate) fn ask(self, question: &Question<'_>) -> Option<BTreeMap<String, Option<String>>> {
        let folder = self.install();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign");
        let mut command = match self {
            Self::Jose => Command::new("node"),
            Self::Joserfc | Self::PyJwt => Command::new(folder.join("bin/python")),
            Self::RubyJwt => ruby()?,
        };
        match self {
            Self::Jose => command.arg(scripts.join("verify.mjs")).arg(&folder),
            Self::Joserfc => command.arg(scripts.join("verify_joserfc.py")),
            Self::PyJwt => command.arg(scripts.join("verify.py")),
            Self::RubyJwt => command.arg(scripts.join("verify.rb")),
        };
        let running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut running = running.unwrap_or_else(|error| {
            panic!("{command:?} could not start ({error}); on Debian: apt-get install nodejs python3-venv")
        });
        let mut stdin = running.stdin.take().unwrap();
        stdin.write_all(&serde_json::to_vec(question).unwrap()).unwrap();
        drop(stdin);
        let output = running.wait_with_output().unwrap();
        assert!(output.status.success(), "{self:?} could not answer: {}", output.status);
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }
}
