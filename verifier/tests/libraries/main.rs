//! Libraries that others wrote accept our tokens with our plain key set, by the lines that `docs/token-format.md`
//! gives, and refuse the forged ones.
//!
//! Installs them from their registries, once, into Cargo's folder for tests. Needs `python3` with `venv`, Node.js
//! and npm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The vectors whose verdict a plain key set suffices for.
const FILES: [&str; 6] =
    ["claims.json", "headers.json", "keys.json", "signatures.json", "text.json", "times.json"];

const PYJWT: &str = "pyjwt==2.15.1";
const CRYPTOGRAPHY: &str = "cryptography==50.0.2";
const JOSE: &str = "jose@6.2.17";

#[test]
fn pyjwt_accepts_our_tokens_and_no_forged_ones() {
    let folder = prepared("python", &format!("{PYJWT} {CRYPTOGRAPHY}"), |folder| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
        run(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PYJWT,
            CRYPTOGRAPHY,
        ]));
    });
    fs::write(folder.join("example.py"), example("python")).unwrap();
    let accepted = run(Command::new(folder.join("bin/python"))
        .env("PYTHONPATH", &folder)
        .arg(tests().join("libraries/run.py"))
        .arg(tests().join("vectors"))
        .args(FILES)
        .current_dir(&folder));
    check(&accepted, PYJWT_TAKES);
}

#[test]
fn jose_accepts_our_tokens_and_no_forged_ones() {
    let folder = prepared("node", JOSE, |folder| {
        fs::write(folder.join("package.json"), "{\"private\":true}").unwrap();
        run(Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", JOSE])
            .current_dir(folder));
    });
    fs::write(folder.join("example.mjs"), example("js")).unwrap();
    let accepted = run(Command::new("node")
        .arg(tests().join("libraries/run.mjs"))
        .arg(tests().join("vectors"))
        .args(FILES)
        .current_dir(&folder));
    check(&accepted, JOSE_TAKES);
}

/// What each library lets pass, `file: name` per line. None of it can be made without our private key, or it is
/// another spelling of a token that is good: `docs/token-format.md` says so. Judge a new line before you add it.
const PYJWT_TAKES: &str = include_str!("pyjwt_takes.txt");
const JOSE_TAKES: &str = include_str!("jose_takes.txt");

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    trust: String,
    expect: String,
}

/// Compares what was accepted with what must be, and with what the library is known to let pass as well.
fn check(accepted: &str, known_laxities: &str) {
    let accepted: BTreeSet<String> = accepted
        .lines()
        .map(|line| serde_json::from_str::<(String, String)>(line).unwrap())
        .map(|(file, name)| format!("{file}: {name}"))
        .collect();
    let (mut valid, mut invalid) = (BTreeSet::new(), BTreeSet::new());
    for file in FILES {
        let text = fs::read_to_string(tests().join("vectors").join(file)).unwrap();
        let cases = serde_json::from_str::<Vectors>(&text).unwrap().cases;
        for case in cases.into_iter().filter(|case| case.trust != "manifest") {
            let place = format!("{file}: {}", case.name);
            if case.expect == "valid" {
                valid.insert(place)
            } else {
                invalid.insert(place)
            };
        }
    }
    let missing: Vec<_> = valid.difference(&accepted).collect();
    assert!(missing.is_empty(), "these are valid, and were refused: {missing:#?}");
    let known: BTreeSet<_> = known_laxities.lines().map(str::to_owned).collect();
    let lax: BTreeSet<_> = invalid.intersection(&accepted).cloned().collect();
    let (new, gone): (Vec<_>, Vec<_>) = (lax.difference(&known).collect(), known.difference(&lax).collect());
    assert!(new.is_empty(), "these are not valid, and were accepted: {new:#?}");
    assert!(gone.is_empty(), "these are refused by now, take them off the list: {gone:#?}");
}

/// The lines that the page gives for a language.
fn example(language: &str) -> String {
    let page = tests().join("../../docs/token-format.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, behind) = page.split_once(&format!("```{language}\n")).unwrap();
    behind.split_once("```").unwrap().0.to_owned()
}

/// A folder with the library in it and the key set under the page's name. Made anew when other versions are wanted.
fn prepared(name: &str, versions: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mark = folder.join("installed");
    if fs::read_to_string(&mark).unwrap_or_default() != versions {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        install(&folder);
        fs::write(mark, versions).unwrap();
    }
    fs::copy(tests().join("vectors/jwks.json"), folder.join("0007.jwks.json")).unwrap();
    folder
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The command's standard output, once it succeeded.
fn run(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("could not start {program}, which this test needs: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
