//! `key-set embed`, `verify --embedded` and `check-deploy`, as a backend team's pipeline runs them against a service.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use token_authority_verifier::build::Folder;
use token_authority_verifier::{Digest, Lock};

use crate::support::app::{TestApp, beginning, send};
use crate::support::fleet::Backend;
use crate::support::rotation::Operator;

/// A backend's repository.
struct Repository {
    folder: TempDir,
    root: String,
}

impl Repository {
    async fn new(app: &TestApp) -> Self {
        let roots = send(app.request(Method::GET, "/v1/roots")).await.expect(StatusCode::OK);
        let root = roots["items"][0]["digest"].as_str().unwrap().to_owned();
        Self { folder: tempfile::tempdir().unwrap(), root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `key-set` at the time of the test's clock. Not on the thread that serves.
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        command
            .arg("key-set")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("SOURCE_DATE_EPOCH", beginning().timestamp().to_string());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    async fn embed(&self, from: &str, into: &str) -> Value {
        self.json(&["embed", "--from", from, "--into", into, "--trust-root", &self.root, "--development"])
            .await
    }
}

fn files(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let folder = Folder::read(folder).unwrap();
    folder.files().map(|(name, bytes)| (name, bytes.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_embeds_from_the_service_and_from_its_files_and_gets_the_same_bytes() {
    let app = TestApp::start().await;
    let team = Repository::new(&app).await;
    let url = app.base_url.as_str();
    let keys_dir = app.deployment().keys.path().display().to_string();

    // Trust is never assumed.
    let told = team.refused(&["embed", "--from", url, "--into", "keys"]).await;
    assert!(told.contains("--trust-root sha256:"), "{told}");
    let told = team.refused(&["embed", "--from", url, "--into", "keys", "--trust-root", &team.root]).await;
    assert!(told.contains("made for development") && told.contains("--development"), "{told}");
    assert!(!team.path("keys").exists(), "a refusal wrote something");

    let first = team.embed(url, "keys").await;
    assert_eq!((&first["lock"]["key_set_version"], &first["previous_version"]), (&json!(1), &Value::Null));
    assert_eq!(first["added"].as_array().map(Vec::len), Some(2));
    let again = team.json(&["embed", "--from", url, "--into", "keys", "--development"]).await;
    assert_eq!((&again["changed"], &again["previous_version"]), (&json!([]), &json!(1)));

    // The service has a deny list, the folder of published sets has none beside it.
    let lock = Folder::lock(&team.path("keys")).unwrap().unwrap();
    assert_eq!(lock.deny_list_serial, Some(0));
    team.embed(url, "twice").await;
    assert_eq!(files(&team.path("keys")), files(&team.path("twice")));
    team.embed(&format!("{keys_dir}/development"), "from-files").await;
    let without_deny_list = |folder: &str| {
        let mut files = files(&team.path(folder));
        files.retain(|(name, _)| !["deny-list.jws", "keyset.lock"].contains(name));
        files
    };
    assert_eq!(without_deny_list("keys"), without_deny_list("from-files"));

    let verified =
        team.json(&["verify", "--embedded", "keys", "--development", "--audience", "gitlab-ai-gateway"]);
    assert_eq!(verified.await["verified"], true);
    let told = team.refused(&["verify", "--embedded", "keys", "--environment", "production"]).await;
    assert!(told.contains("this build is for `production`"), "{told}");
    let told = team.refused(&["verify", "--embedded", "keys"]).await;
    assert!(told.contains("not a development build"), "{told}");
    std::fs::write(team.path("keys/jwks.json"), r#"{"keys":[]}"#).unwrap();
    let told = team.refused(&["verify", "--embedded", "keys", "--development"]).await;
    assert!(told.contains("the key set's digest is"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_checked_before_it_is_deployed_and_the_check_is_recorded() {
    let app = TestApp::start().await;
    let team = Repository::new(&app).await;
    let url = app.base_url.as_str();
    team.embed(url, "keys").await;
    let checked = team.json(&["check-deploy", "--url", url, "--embedded", "keys"]).await;
    assert_eq!(
        checked,
        json!({ "deployable": true, "environment": "development", "key_set_version": 1, "floor": 1, "head": 1 })
    );
    let lock_alone = team.json(&["check-deploy", "--url", url, "--embedded", "keys/keyset.lock"]).await;
    assert_eq!(lock_alone, checked);

    let change = |change: &dyn Fn(&mut Lock)| {
        let mut lock = Folder::lock(&team.path("keys")).unwrap().unwrap();
        change(&mut lock);
        std::fs::write(team.path("changed.lock"), lock.to_json()).unwrap();
    };
    let check = ["check-deploy", "--url", url, "--embedded", "changed.lock"];
    change(&|lock| lock.key_set_version = 2);
    assert!(team.refused(&check).await.contains("knows no key set 2"));
    change(&|lock| lock.key_set_digest = Digest::of(b"forged"));
    assert!(team.refused(&check).await.contains("forged"));
    change(&|lock| lock.issuer = "https://other.example".to_owned());
    assert!(team.refused(&check).await.contains("would all be refused"));
    let nobody = "http://127.0.0.1:9";
    let told = team.refused(&["check-deploy", "--url", nobody, "--embedded", "keys"]).await;
    assert!(told.contains("could not reach"), "{told}");

    // A backend that is scaled to zero has nobody else to speak for it.
    let backend = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    std::fs::write(team.path("token"), &backend.token).unwrap();
    let record = ["check-deploy", "--url", url, "--embedded", "keys", "--record", "--build", "v1.2.3"];
    let whose = ["--backend", "ai_gateway", "--token-file", "token"];
    let recorded = team.json(&[record.as_slice(), &whose].concat()).await;
    assert_eq!(recorded["recorded"]["build"], "v1.2.3");
    assert_eq!(recorded["recorded"]["kids"].as_array().map(Vec::len), Some(2));
    std::fs::write(team.path("token"), "tab_wrong").unwrap();
    let told = team.refused(&[record.as_slice(), &whose].concat()).await;
    assert!(told.contains("401"), "{told}");

    // A build from before the key that was armed must not start again.
    let operator = Operator::of(&app);
    let key = operator.generate().await;
    operator.publish().await;
    operator.arm(key).await;
    let told = team.refused(&["check-deploy", "--url", url, "--embedded", "keys"]).await;
    assert!(told.contains("floor") || told.contains("lowest"), "{told}");
    std::fs::write(team.path("token"), &backend.token).unwrap();
    team.refused(&[record.as_slice(), &whose].concat()).await;
    team.json(&["embed", "--from", url, "--into", "keys", "--development"]).await;
    assert_eq!(team.json(&["check-deploy", "--url", url, "--embedded", "keys"]).await["floor"], 2);
}

#[tokio::test]
async fn the_chain_of_roots_is_public() {
    let app = TestApp::start().await;
    let roots = send(app.request(Method::GET, "/v1/roots")).await;
    let file = app.deployment().keys.path().join("development/root/1.root.json");
    let file = std::fs::read_to_string(file).unwrap();
    assert!(roots.text.contains(&file), "{}", roots.text);
    assert_eq!(roots.expect(StatusCode::OK)["items"][0]["version"], 1);
}
