//! The lines that `docs/token-format.md` gives for other languages, run as they stand there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::library::Library;
use super::vectors::{FILES, Vector, directory, must_be_refused, vectors};

#[test]
fn the_documented_lines_of_javascript_verify_tokens() {
    check(Library::Jose);
}

#[test]
fn the_documented_lines_of_python_verify_tokens() {
    check(Library::PyJwt);
}

fn check(library: Library) {
    let installed = library.install();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::copy(directory().join("jwks.json"), folder.path().join("0007.jwks.json")).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign");
    let mut command = match library {
        Library::Jose => {
            fs::write(folder.path().join("example.mjs"), lines("js")).unwrap();
            // Where a module looks for others: beside itself.
            std::os::unix::fs::symlink(installed.join("node_modules"), folder.path().join("node_modules"))
                .unwrap();
            let mut node = Command::new("node");
            node.arg(scripts.join("documented.mjs"));
            node
        }
        Library::Joserfc | Library::RubyJwt => panic!("the page has no lines for {library:?}"),
        Library::PyJwt => {
            fs::write(folder.path().join("example.py"), lines("python")).unwrap();
            let mut python = Command::new(installed.join("bin/python"));
            python.arg(scripts.join("documented.py")).env("PYTHONPATH", folder.path());
            python
        }
    };
    let output = command.arg(directory()).args(FILES).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{library:?}: {}", String::from_utf8_lossy(&output.stderr));
    let accepted: BTreeSet<(String, String)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    for Vector { file, name, expect, .. } in vectors() {
        let taken = accepted.contains(&(file.to_owned(), name.clone()));
        assert!(taken || expect != "valid", "{library:?} refuses {name:?}");
        assert!(!taken || !must_be_refused(&name, &expect), "{library:?} takes {name:?} ({expect})");
    }
}

/// The first lines in this language on the page.
fn lines(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/token-format.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, behind) = page.split_once(&format!("```{language}\n")).unwrap();
    behind.split_once("```").unwrap().0.to_owned()
}
