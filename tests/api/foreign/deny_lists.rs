//! The deny lists of the vectors, read by the examples in other languages as their processes read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::library::Library;
use super::vectors::directory;

#[derive(Deserialize)]
struct DenyLists {
    cases: Vec<Case>,
}

#[derive(Deserialize, Serialize)]
struct Case {
    name: String,
    document: String,
    #[serde(skip_serializing)]
    accepted: bool,
}

/// These differ from a good list in nothing that could deny more or less than its issuer meant: our own reader is
/// stricter than needs be, so that a list has one spelling, and knows the ends of keys.
const MAY_BE_TAKEN: &[&str] = &[
    "a member twice",
    "after the end of its key",
    "an entry twice",
    "an unknown member",
    "an unknown member of an entry",
    "a kid that is none",
    "a serial below zero",
    "entries out of order",
    "spaces, which canonical JSON has not",
];

#[test]
fn the_example_in_javascript_obeys_no_deny_list_but_the_issuers() {
    let installed = Library::Jose.install();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example("node").join("verifier.mjs"), folder.path().join("verifier.mjs")).unwrap();
    std::os::unix::fs::symlink(installed.join("node_modules"), folder.path().join("node_modules")).unwrap();
    let mut node = Command::new("node");
    node.arg(scripts().join("deny_lists.mjs")).arg(folder.path());
    check(node);
}

#[test]
fn the_example_in_python_obeys_no_deny_list_but_the_issuers() {
    let mut python = Command::new(Library::PyJwt.install().join("bin/python"));
    python.arg("-B").arg(scripts().join("deny_lists.py")).arg(example("python"));
    check(python);
}

fn check(mut command: Command) {
    let keys = embedded();
    let lists: DenyLists =
        serde_json::from_slice(&fs::read(directory().join("deny_lists.json")).unwrap()).unwrap();
    let running = command.arg(keys.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut running = running.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(&lists.cases).unwrap()).unwrap();
    drop(stdin);
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let verdicts: BTreeMap<String, Option<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts.len(), lists.cases.len());
    let mut known: BTreeSet<_> = MAY_BE_TAKEN.iter().copied().collect();
    for Case { name, accepted, .. } in &lists.cases {
        let lax = known.remove(name.as_str());
        match &verdicts[name] {
            Some(why) => assert!(!accepted, "{name} is refused: {why}"),
            None => assert!(*accepted || lax, "{name} is obeyed"),
        }
    }
    assert_eq!(known, BTreeSet::new(), "no such deny lists");
}

/// The vectors' key set, as `key-set embed` would have left it for a backend.
fn embedded() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["jwks.json", "manifest.json", "root.json"] {
        fs::copy(directory().join(name), folder.path().join(name)).unwrap();
    }
    let lock = json!({
        "issuer": "https://authority.example.com", "environment": "example", "key_set_version": 1,
    });
    fs::write(folder.path().join("keyset.lock"), lock.to_string()).unwrap();
    folder
}

fn example(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(language)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign")
}
