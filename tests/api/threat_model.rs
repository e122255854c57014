//! The threat model says what it can show: each test that it names exists, and each defense has one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name behind `fn `, of a line that begins a function.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let name = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
    Some(&name[..name.find('(')?])
}

/// Every test that runs with the others: one that is ignored shows nothing.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "verifier/src", "verifier/tests"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tests = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in text.lines() {
            match function(line) {
                Some(name) if is_test => {
                    tests.insert(name.to_owned());
                    is_test = false;
                }
                Some(_) => {}
                None if line.contains("#[test]") || line.contains("#[tokio::test") => is_test = true,
                None if line.contains("#[ignore") => is_test = false,
                None => {}
            }
        }
    }
    tests
}

#[test]
fn every_defense_names_a_test_that_exists() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/threat-model.md");
    let page = fs::read_to_string(page).unwrap();
    let tests = tests();
    let mut named = BTreeSet::new();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| wants"));
    for row in rows {
        let shown_by = row.trim_end_matches(" |").rsplit_once("| ").unwrap().1;
        let names: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing shows this: {row}");
        for name in names {
            assert!(tests.contains(name), "there is no test {name}");
            named.insert(name);
        }
    }
    assert!(named.len() >= 45, "only {} tests are named", named.len());
}

/// What a release is made of is what the lock file says, each part with its version and its license.
#[test]
fn the_bill_of_materials_is_made_from_the_locked_versions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ci = fs::read_to_string(root.join(".ci/run")).unwrap();
    let bill = fs::read_to_string(root.join(".ci/bill-of-materials")).unwrap();
    assert!(bill.contains("cargo cyclonedx"), "nothing writes a bill of materials");
    for command in ["cargo clippy", "cargo doc"] {
        let line = ci.lines().find(|line| line.contains(&format!("{command} --workspace"))).unwrap();
        assert!(line.contains("--locked"), "{line} takes versions that nobody looked at");
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
    for package in lock.split("[[package]]").skip(1).filter(|package| package.contains("source = ")) {
        assert!(package.contains("checksum = "), "a part without its checksum: {package}");
    }
}
