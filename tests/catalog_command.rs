//! `catalog check` and `catalog show` as a person runs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use token_authority::catalog_files::{codes, write_example};
use token_authority::domain::catalog::ProblemCode;

/// Runs the program in a folder of its own, far from the checkout.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let elsewhere = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_token-authority"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .current_dir(elsewhere.path())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(shown: &Value) -> Vec<&str> {
    shown["unit_primitives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|primitive| primitive["name"].as_str().unwrap())
        .collect()
}

/// The example with one file changed.
fn changed(path: &str, text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_example(dir.path()).unwrap();
    fs::write(dir.path().join(path), text).unwrap();
    dir
}

fn documentation() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/catalog.md")).unwrap()
}

/// Without the blanks with which tables fill their last column.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_passes_wherever_the_program_runs_and_prints_what_the_documentation_shows() {
    let output = run(&["catalog", "check", "--example"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        documentation().contains(&trimmed(&stdout(&output))),
        "docs/catalog.md shows another output than this:\n{}",
        trimmed(&stdout(&output))
    );
}

#[test]
fn the_folder_comes_from_the_argument_the_option_or_the_setting() {
    let dir = changed("add_ons/new_one.yml", "name: new_one\n");
    let path = dir.path().to_str().unwrap();
    for (arguments, variables) in [
        (vec!["catalog", "check", path, "--format", "json"], vec![]),
        (vec!["catalog", "check", "--catalog-dir", path, "--format", "json"], vec![]),
        (vec!["catalog", "check", "--format", "json"], vec![("TOKEN_AUTHORITY_CATALOG_DIR", path)]),
    ] {
        let output = run(&arguments, &variables);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let checked = json(&output);
        assert_eq!(checked["valid"], true);
        assert_eq!(checked["add_ons"], 8);
        assert_eq!(checked["unit_primitives"], 37);
    }
    let nowhere = run(&["catalog", "check"], &[]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("catalog: cannot be read"), "{}", stderr(&nowhere));
}

#[test]
fn every_problem_is_told_on_stderr_with_file_line_and_field() {
    let dir = changed("unit_primitives/duo_chat.yml", "name: duo_chat\nadd_ons: [duo_por]\ncut_off: never\n");
    let path = dir.path().to_str().unwrap();
    let output = run(&["catalog", "check", path], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    let file = format!("{path}/unit_primitives/duo_chat.yml");
    assert_eq!(
        stderr(&output),
        format!(
            "error: the catalog has 4 problems:\n\
             {file}:1:1: description: this field must be there and hold something (missing_field)\n\
             {file}:1:1: feature_category: this field must be there and hold something (missing_field)\n\
             {file}:2:11: add_ons[0]: there is no add-on duo_por; did you mean duo_pro? (unknown_link)\n\
             {file}:3:1: cut_off: there is no such field; did you mean cut_off_date? (unknown_field)\n"
        )
    );

    let output = run(&["catalog", "check", path, "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    assert_eq!(told["valid"], false);
    assert_eq!(
        told["problems"][2],
        serde_json::json!({
            "path": file, "line": 2, "column": 11, "field": "add_ons[0]", "code": "unknown_link",
            "detail": "there is no add-on duo_por; did you mean duo_pro?",
        })
    );
}

#[test]
fn a_catalog_whose_tokens_could_overflow_is_refused() {
    let output = run(&["catalog", "check", "--example"], &[("TOKEN_AUTHORITY_MAX_TOKEN_BYTES", "2000")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("token_too_large"), "{}", stderr(&output));
    assert!(stderr(&output).contains("ai_gateway ("), "{}", stderr(&output));
    assert!(!stderr(&output).contains("security_gateway"), "{}", stderr(&output));
}

#[test]
fn show_narrows_by_add_on_plan_and_backend() {
    let show = |options: &[&str]| {
        let arguments = [&["catalog", "show", "--example", "--format", "json"], options].concat();
        json(&run(&arguments, &[]))
    };
    assert_eq!(names(&show(&[])).len(), 37);
    assert_eq!(names(&show(&["--add-on", "duo_core"])), ["duo_chat"]);
    assert_eq!(names(&show(&["--backend", "security_gateway"])), ["security_scans"]);
    assert_eq!(names(&show(&["--license-type", "premium"])).len(), 37);
    assert_eq!(names(&show(&["--add-on", "duo_pro", "--backend", "security_gateway"])).len(), 0);
    assert_eq!(
        names(&show(&["--add-on", "duo_core", "--add-on", "observability"])),
        ["duo_chat", "observability_all"]
    );
    let chat = &show(&["--add-on", "duo_core"])["unit_primitives"][0];
    assert_eq!(chat["cut_off_date"], "2024-10-17T00:00:00Z");
    assert_eq!(chat["realms"], serde_json::json!(["gitlab-com", "self-managed"]));

    let table = run(&["catalog", "show", "--example", "--add-on", "duo_core"], &[]);
    assert!(stdout(&table).starts_with("1 of 37 unit primitives\n"), "{}", stdout(&table));
}

#[test]
fn a_mistyped_filter_is_refused() {
    let unknown = run(&["catalog", "show", "--example", "--add-on", "duo_por"], &[]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(stderr(&unknown), "error: the catalog has no add-on duo_por; did you mean duo_pro?\n");
    let usage = run(&["catalog", "show", "--example", "--backend", "AI gateway"], &[]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn what_backends_enforce_is_compared_with_what_is_sold() {
    let dir = tempfile::tempdir().unwrap();
    let contract = |name: &str, backend: &str, unit_primitives: &[&str]| {
        let path = dir.path().join(name);
        let json = serde_json::json!({ "backend": backend, "unit_primitives": unit_primitives });
        fs::write(&path, json.to_string()).unwrap();
        path.display().to_string()
    };
    let scans = contract("scans.json", "security_gateway", &["security_scans"]);
    let check = |contracts: &[&str], format: &str| {
        let check = ["catalog", "check", "--example", "--format", format, "--contracts"];
        run(&[check.as_slice(), contracts].concat(), &[])
    };
    let good = check(&[&scans], "json");
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    let undeclared = &json(&good)["contracts"]["undeclared"];
    assert_eq!(
        undeclared,
        &serde_json::json!(["ai_gateway", "duo_workflow_service", "observability_backend"])
    );

    let workflow = contract(
        "workflow.json",
        "duo_workflow_service",
        &["duo_workflow_execute", "duo_workflow_execute_workflow", "security_scans"],
    );
    let differing = check(&[&scans, &workflow], "table");
    assert_eq!(differing.status.code(), Some(1));
    let (told, why) = (stdout(&differing), stderr(&differing));
    for part in [
        "duo_workflow_generate_token",
        "sold, and enforced nowhere",
        "the catalog has no such unit primitive",
        "the catalog hosts it on other backends",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    assert!(why.contains("1 sold and enforced nowhere, 2 enforced and in no token"), "{why}");
    let mistyped = contract("mistyped.json", "security_gateway", &["Security scans"]);
    assert!(stderr(&check(&[&mistyped], "table")).contains("is no name"));
}

#[test]
fn the_entry_point_is_written_from_routes_that_fit_the_catalog() {
    let bare = run(&["catalog", "export", "--to", "haproxy", "--example"], &[]);
    assert_eq!(bare.status.code(), Some(0), "{}", stderr(&bare));
    assert!(stderr(&bare).contains("no --routes"), "{}", stderr(&bare));
    assert!(stdout(&bare).contains("use_backend ai_gateway if { path /ai-gateway }"), "{}", stdout(&bare));
    let dir = tempfile::tempdir().unwrap();
    let routes = dir.path().join("routes.yml");
    fs::write(&routes, "backends: {ai_gateway: {prefix: /ai, upstreams: ['10.0.0.1:80']}}").unwrap();
    let routes = routes.to_str().unwrap();
    let unfit = run(&["catalog", "export", "--to", "haproxy", "--example", "--routes", routes], &[]);
    assert_eq!(unfit.status.code(), Some(1));
    for part in ["security_gateway has no route", "10.0.0.1:80 of ai_gateway is no upstream"] {
        assert!(stderr(&unfit).contains(part), "{}", stderr(&unfit));
    }
}

#[test]
fn the_documentation_lists_every_code() {
    let documentation = documentation();
    let codes = codes::ALL.iter().copied().chain(ProblemCode::ALL.iter().map(|code| code.as_str()));
    let missing: Vec<_> = codes.filter(|code| !documentation.contains(&format!("| `{code}` |"))).collect();
    assert!(missing.is_empty(), "docs/catalog.md does not explain {missing:?}");
}
