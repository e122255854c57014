//! `doctor`, as an operator calls it: on a deployment that is well, and on each way in which it is not.

use std::fs;
use std::process::Output;

use serde_json::Value;
use sqlx::Executor;

use crate::support::durable::durable_cluster;
use crate::support::program::{DATABASE_PASSWORD, Deployment, KEK, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_serves_is_well_and_a_stranger_at_its_port_is_told() {
    let cluster = durable_cluster().await;
    let mut deployment = Deployment::on(&cluster.url());
    deployment.initialize();
    let serving = deployment.serve();
    deployment.set("TOKEN_AUTHORITY_LISTEN", serving.base_url.strip_prefix("http://").unwrap());
    let metrics = serving.metrics_url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    deployment.set("TOKEN_AUTHORITY_METRICS_LISTEN", metrics);

    let (output, found) = examine(&deployment, &[]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(found["healthy"], true);
    for code in
        ["settings", "listen", "catalog", "key_encryption_key", "database", "migrations", "active_keys"]
    {
        assert_eq!(finding(&found, code)["level"], "good", "{found}");
    }
    assert!(says(&found, "listen").contains("a service of ours answers"), "{found}");
    assert!(says(&found, "key_sets").contains("key sets 1 to 1"), "{found}");
    // Nobody answers at the address of this issuer, which a test cannot have.
    assert_eq!(finding(&found, "issuer")["level"], "warning");

    let (strict, _) = examine(&deployment, &["--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(complaint(&strict).contains("issuer"), "{}", complaint(&strict));

    deployment.set("TOKEN_AUTHORITY_METRICS_LISTEN", serving.base_url.strip_prefix("http://").unwrap());
    let (output, found) = examine(&deployment, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(finding(&found, "listen")["level"], "problem", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_broken_is_found_with_its_remedy() {
    let mut deployment = Deployment::prepare().await;
    assert_problem(&deployment, "migrations", "token-authority migrate");
    assert!(deployment.run(&["migrate"]).status.success());
    assert_problem(&deployment, "active_keys", "token-authority init");
    assert!(deployment.run(&["init"]).status.success());

    let kek = deployment.path("kek");
    fs::write(&kek, "b3RoZXIgYnl0ZXMgdGhhdCBub2JvZHkgZ3Vlc3NlcyE=\n").unwrap();
    assert_problem(&deployment, "private_halves", "key-encryption key");
    fs::remove_file(&kek).unwrap();
    assert_problem(&deployment, "key_encryption_key", "backup");
    fs::write(&kek, KEK).unwrap();

    let manifest = deployment.path("keys/staging/0001.manifest.json");
    let published = fs::read(&manifest).unwrap();
    fs::write(&manifest, b"{}").unwrap();
    assert_problem(&deployment, "key_sets", "altered");
    fs::write(&manifest, published).unwrap();
    let newer = deployment.path("keys/staging/0002.manifest.json");
    fs::write(&newer, b"{}").unwrap();
    assert_problem(&deployment, "key_sets", "restored");
    fs::remove_file(newer).unwrap();

    deployment.set("TOKEN_AUTHORITY_CATALOG_DIR", deployment.path("nowhere").to_str().unwrap());
    assert_problem(&deployment, "catalog", "catalog check");
    deployment.set("TOKEN_AUTHORITY_GRACE_DAYS", "many");
    assert_problem(&deployment, "settings", "config list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_leaves_the_rest_to_be_told() {
    let mut deployment = Deployment::initialized().await;
    fs::write(deployment.path("database_url"), "postgres://authority@127.0.0.1:1/authority").unwrap();
    let (output, found) = examine(&deployment, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(finding(&found, "database")["level"], "problem");
    assert_eq!(finding(&found, "private_halves")["level"], "unknown");
    assert_eq!(finding(&found, "catalog")["level"], "good");
    deployment.set("TOKEN_AUTHORITY_DATABASE_URL_FILE", "");
    assert_problem(&deployment, "settings", "set what is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_commits_is_a_problem() {
    let cluster = durable_cluster().await;
    let deployment = Deployment::on(&cluster.url());
    deployment.initialize();
    let (_, found) = examine(&deployment, &[]);
    assert_eq!(finding(&found, "durability")["level"], "good", "{found}");
    let off = "alter database postgres set synchronous_commit = off";
    cluster.storage().pool().execute(off).await.unwrap();
    assert_problem(&deployment, "durability", "before its record is durable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_holds_what_was_found_and_no_secret() {
    let deployment = Deployment::initialized().await;
    let bundle = deployment.path("bundle.json");
    let output = deployment.run(&["doctor", "--bundle", bundle.to_str().unwrap()]);
    let text = fs::read_to_string(&bundle).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["program"], "token-authority");
    assert!(written["findings"].as_array().unwrap().len() > 10 && written["settings"].is_object(), "{text}");
    let printed = [output.stdout, output.stderr, text.into_bytes()].concat();
    let printed = String::from_utf8_lossy(&printed);
    for secret in [KEK.trim(), DATABASE_PASSWORD] {
        assert!(!printed.contains(secret), "{printed}");
    }
    // What somebody keeps is not replaced.
    let again = deployment.run(&["doctor", "--bundle", bundle.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
}

fn examine(deployment: &Deployment, options: &[&str]) -> (Output, Value) {
    let output = deployment.run(&[&["doctor", "--format=json"], options].concat());
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), complaint(&output))
    });
    (output, found)
}

fn finding<'a>(found: &'a Value, code: &str) -> &'a Value {
    let findings = found["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code} in {found}"))
}

fn says<'a>(found: &'a Value, code: &str) -> &'a str {
    finding(found, code)["says"].as_str().unwrap()
}

/// A problem under this code, told on stderr too, whose sentence or remedy says `words`.
fn assert_problem(deployment: &Deployment, code: &str, words: &str) {
    let (output, found) = examine(deployment, &[]);
    let finding = finding(&found, code);
    assert_eq!(finding["level"], "problem", "{found}");
    assert!(finding.to_string().contains(words), "{finding}");
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains(code), "{}", complaint(&output));
}
