//! Schemathesis, a tester of described APIs that we did not write, against a service with records in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::packages::{Registry, install};
use crate::support::app::{TestApp, activate, sell, send, text};
use crate::support::fleet::Backend;

/// Every check and every phase. What is sent in its own time is the same in every run.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing() {
    let limits = [
        ("FAILED_AUTHENTICATIONS_PER_ADDRESS", "1000000"),
        ("FAILED_AUTHENTICATIONS_PER_CREDENTIAL", "1000000"),
    ];
    let app = TestApp::start_with(&limits).await;
    let configuration = configuration(&app).await;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(folder.path().join("schemathesis.toml"), configuration).unwrap();
    let address = format!("{}/openapi.json", app.base_url);
    let output = tokio::task::spawn_blocking(move || {
        install(&virtual_environment(), Registry::PyPi, &[SCHEMATHESIS]);
        let mut command = Command::new(virtual_environment().join("bin/schemathesis"));
        command.args(["run", &address, "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"]);
        command.args(["--max-examples", "10", "--seed", "1", "--no-shrink", "--max-time", SECONDS]);
        command.args(["--warnings", "off"]).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

/// Credentials of every kind, and addresses of records that are there.
async fn configuration(app: &TestApp) -> String {
    let sold = sell(app, Some("duo_pro"), 50).await;
    let instance = activate(app, &sold.activation_code).await;
    instance.sync(app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
    let purchase = text(&app.admin_get(&purchases).await["items"][0]["id"]);
    let backend = Backend::register(app, "ai_gateway", "gitlab-ai-gateway", "embedded", 0).await;
    backend.start(app.deployment().keys.path(), 1, "pod-1").beat(app).await;
    let token = json!({ "name": "other", "scopes": ["audit:read"] });
    let other_token = text(&app.admin_post("/admin/v1/admin-tokens", token).await["id"]);
    let lines = app.admin(Method::POST, "/admin/v1/imports").header("content-type", "application/x-ndjson");
    let import = send(lines.body("{\"type\":\"customer\",\"external_ref\":\"C\",\"name\":\"N\"}\n")).await;
    let import = import.headers["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();

    let mut toml = format!(
        "[auth.openapi.admin_token]\nbearer = \"{}\"\n\n[auth.openapi.backend_token]\nbearer = \"{}\"\n\n\
         [auth.openapi.instance_secret]\nusername = \"{}\"\npassword = \"{}\"\n{CHECKS}",
        app.deployment().admin_token,
        backend.token,
        instance.uid,
        instance.secret
    );
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    for path in description["paths"].as_object().unwrap().keys() {
        let id = match path.split('/').nth(3) {
            Some("admin-tokens") => &other_token,
            Some("customers") => &sold.customer_id,
            Some("imports") => &import,
            Some("licenses") => &sold.license_id,
            Some("subscriptions") => &sold.subscription_id,
            // No other address has an id of a record.
            _ => &instance.uid,
        };
        let values = [
            ("{id}", "id", id),
            ("{purchase_id}", "purchase_id", &purchase),
            ("{uid}", "uid", &instance.uid),
        ];
        let more = [("{name}", "name", "ai_gateway"), ("{process_id}", "process_id", "pod-1")];
        let values = values.into_iter().map(|(part, name, value)| (part, name, value.as_str())).chain(more);
        let named: Vec<_> = values
            .filter(|(part, _, _)| path.contains(part))
            .map(|(_, name, value)| format!("\"path.{name}\" = \"{value}\""))
            .collect();
        if !named.is_empty() {
            let named = named.join(", ");
            write!(toml, "\n[[operations]]\ninclude-path = \"{path}\"\nparameters = {{ {named} }}\n")
                .unwrap();
        }
    }
    toml
}

/// Where it is installed.
fn virtual_environment() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-http").join(SCHEMATHESIS.replace("==", "-"))
}

/// What is well-formed may still be refused: a page token that was never given, a plan that the catalog does not
/// know (422), a change on another revision (412) or on none (428). OAuth says everything with 400 (RFC 6749 §5.2).
const CHECKS: &str = "
[checks.positive_data_acceptance]
expected-statuses = [\"2xx\", \"304\", 401, 403, 404, 409, 412, 413, 415, 422, 428]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428]

[checks.missing_required_header]
expected-statuses = [400, 401, 403, 406, 415, 422, 428]

[[operations]]
include-path = \"/oauth/token\"
checks.positive_data_acceptance.expected-statuses = [\"2xx\", 400, 401]
";
const SCHEMATHESIS: &str = "schemathesis==4.32.0";
const SECONDS: &str = "60";
