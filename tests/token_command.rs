//! `token verify` and `token inspect` as a person runs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs the program among the verifier's vectors; `input` is what a pipe would bring.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut running = Command::new(env!("CARGO_BIN_EXE_token-authority"))
        .arg("token")
        .args(arguments)
        .env_clear()
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/tests/vectors"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no input may be gone before it is written.
    let _ = running.stdin.take().unwrap().write_all(input.as_bytes());
    running.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A token of the vectors. The program reads the system's clock, so only verdicts that do not depend on it can be
/// tried here.
fn token(file: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/tests/vectors").join(file);
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let case = file["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    case["token"].as_str().unwrap().to_owned()
}

const AGAINST: [&str; 6] = [
    "--key-set",
    "jwks.json",
    "--audience",
    "gitlab-ai-gateway",
    "--issuer",
    "https://authority.example.com",
];

fn verify(token: &str, more: &[&str]) -> Output {
    run(&[&["verify", "-"], &AGAINST[..], more].concat(), &format!("{token}\n"))
}

#[test]
fn a_refusal_is_told_with_its_code() {
    let output = verify(&token("signatures.json", "the first bit of R flipped"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).starts_with("error: signature_invalid: the token's signature is wrong"));
}

#[test]
fn a_refusal_is_one_json_document_for_programs() {
    let output = verify(&token("claims.json", "another issuer"), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["valid"], false);
    assert_eq!(json(&output)["code"], "issuer_mismatch");
    assert!(json(&output)["detail"].as_str().unwrap().contains("`iss`"));
}

#[test]
fn a_key_set_that_is_none_is_named() {
    let output = run(&["verify", "x", "--key-set", "setup.json", "--audience", "a"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("setup.json: not a JSON Web Key Set"), "{}", stderr(&output));
    let output = run(&["verify", "x", "--key-set", "nowhere.json", "--audience", "a"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("could not read nowhere.json"), "{}", stderr(&output));
}

#[test]
fn without_a_key_set_the_usage_is_wrong() {
    assert_eq!(run(&["verify", "x"], "").status.code(), Some(2));
}

#[test]
fn an_inspection_shows_what_a_token_says_and_vouches_for_nothing() {
    let forged = token("signatures.json", "64 zero bytes");
    let output = run(&["inspect", "-", "--format", "json"], &forged);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output)["verified"], false);
    assert_eq!(json(&output)["header"]["typ"], "at+jwt");
    assert_eq!(json(&output)["claims"]["iss"], "https://authority.example.com");

    let output = run(&["inspect", &forged], "");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("no: nothing was checked"), "{shown}");
    assert!(shown.contains("complete_code, duo_chat"), "{shown}");
}

#[test]
fn a_401_is_turned_into_its_cause_and_remedy() {
    let header = "Bearer error=\"invalid_token\", error_code=\"kid_unknown\", key_set=\"7\", environment=\"production\"";
    let output = run(&["why", header, "--format", "json"], "");
    assert_eq!(output.status.code(), Some(0));
    let said = json(&output);
    assert_eq!((&said["code"], &said["key_set"]), (&"kid_unknown".into(), &"7".into()));
    assert!(said["remedy"].as_str().unwrap().contains("embed the newest key set"), "{said}");

    let answer = format!("HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {header}\r\n\r\n");
    let shown = String::from_utf8(run(&["why", "-"], &answer).stdout).unwrap();
    assert!(shown.contains("kid_unknown") && shown.contains("production"), "{shown}");

    let output = run(&["why", "Bearer realm=\"x\""], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("error_code"), "{}", stderr(&output));
}
