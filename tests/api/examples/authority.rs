//! The real service, with a customer who bought something and a registered backend.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use token_authority_verifier::Unverified;

use super::eventually;
use crate::support::app::{fresh_uuid, text};
use crate::support::program::{Deployment, Serving, answer, complaint};

pub(super) struct Authority {
    deployment: Arc<Deployment>,
    serving: Serving,
    client: Client,
    admin_token: String,
    /// Where the backend's token is, and its key sets.
    folder: TempDir,
    /// Uid and secret of the instance.
    instance: Option<(String, String)>,
}

/// What one sync brought.
pub(super) struct Tokens {
    /// For the AI gateway.
    pub(super) ours: String,
    /// For another backend.
    pub(super) others: String,
    /// Under which both were signed.
    pub(super) kid: String,
}

impl Authority {
    pub(super) async fn start() -> Self {
        let deployment = Arc::new(Deployment::initialized().await);
        let token = answer(&deployment.run(&["admin-token", "create", "--name", "test", "--format", "json"]));
        let serving = deployment.serve();
        let folder = tempfile::tempdir().unwrap();
        let admin_token = text(&token["token"]);
        let authority =
            Self { deployment, serving, client: Client::new(), admin_token, folder, instance: None };
        let new = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 1 });
        authority.admin_post("/admin/v1/backends", new).await;
        let rotated = authority.admin_post("/admin/v1/backends/ai_gateway:rotate-token", json!({})).await;
        std::fs::write(authority.backend_token_file(), text(&rotated["token"])).unwrap();
        authority
    }

    pub(super) fn url(&self) -> &str {
        &self.serving.base_url
    }

    pub(super) fn backend_token_file(&self) -> PathBuf {
        self.folder.path().join("backend-token")
    }

    /// Sells the chat and completions, activates an instance, and syncs once.
    pub(super) async fn sync(&mut self) -> Tokens {
        let customer = self.admin_post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
        let (starts_at, ends_at) = ("2026-01-01", "2126-01-01");
        let subscription = json!({
            "customer_id": customer["id"], "license_type": "premium", "seats": 10, "trial": false,
            "starts_at": starts_at, "ends_at": ends_at,
        });
        let subscription = self.admin_post("/admin/v1/subscriptions", subscription).await;
        let id = &subscription["id"];
        let purchase =
            json!({ "add_on": "duo_pro", "quantity": 10, "starts_at": starts_at, "ends_at": ends_at });
        let path = format!("/admin/v1/subscriptions/{}/add-on-purchases", text(id));
        self.admin_post(&path, purchase).await;
        let license = json!({ "subscription_id": id, "kind": "online", "max_instances": 1 });
        let license = self.admin_post("/admin/v1/licenses", license).await;
        let activation = json!({
            "activation_code": license["activation_code"], "instance_id": fresh_uuid(),
            "hostname": "gitlab.example.com", "version": "17.6.1", "deployment": "self_managed",
        });
        let request = self.client.post(format!("{}/v1/instances", self.url())).json(&activation);
        let instance: Value = request.send().await.unwrap().json().await.unwrap();
        self.instance = Some((text(&instance["instance_uid"]), text(&instance["instance_secret"])));
        self.sync_again().await
    }

    /// The next sync of the same instance.
    pub(super) async fn sync_again(&self) -> Tokens {
        let (uid, secret) = self.instance.as_ref().unwrap();
        let request = self.client.post(format!("{}/v1/sync", self.url())).basic_auth(uid, Some(secret));
        let synced: Value =
            request.json(&json!({ "version": "17.6.1" })).send().await.unwrap().json().await.unwrap();
        let token = |backend: &str| {
            let tokens = synced["tokens"].as_array().unwrap();
            text(&tokens.iter().find(|token| token["backend"] == backend).unwrap()["token"])
        };
        let (ours, others) = (token("ai_gateway"), token("security_gateway"));
        let kid = Unverified::decode(&ours).unwrap().kid().unwrap().to_string();
        Tokens { ours, others, kid }
    }

    /// Runs `keys` of the service's operator, and returns its answer.
    async fn keys(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = ["keys"]
            .iter()
            .chain(arguments)
            .chain(&["--format", "json"])
            .map(|word| (*word).to_owned())
            .collect();
        let deployment = Arc::clone(&self.deployment);
        let running = tokio::task::spawn_blocking(move || {
            deployment.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        answer(&running.await.unwrap())
    }

    /// Lets what processes prove from now on count for the key that is to follow.
    pub(super) async fn arm_the_standby(&self) {
        let keys = self.keys(&["list"]).await;
        let standby = keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["purpose"] == "access_tokens" && key["state"] == "published");
        self.keys(&["arm", standby.unwrap()["kid"].as_str().unwrap()]).await;
    }

    /// Ends a key that is in other hands; the standby signs instead.
    pub(super) async fn compromise(&self, kid: &str) {
        self.keys(&["compromise", kid, "--yes"]).await;
    }

    /// Brings another key, without which no process may start.
    pub(super) async fn raise_the_floor(&self) {
        let key = self.keys(&["generate"]).await;
        self.keys(&["publish"]).await;
        self.keys(&["arm", key["kid"].as_str().unwrap()]).await;
    }

    /// Takes the newest key set into a backend's repository.
    pub(super) async fn embed(&self) -> PathBuf {
        let roots = self.client.get(format!("{}/v1/roots", self.url())).send().await.unwrap();
        let roots: Value = roots.json().await.unwrap();
        let into = self.folder.path().join("keys");
        let (deployment, url) = (Arc::clone(&self.deployment), self.url().to_owned());
        let root = text(&roots["items"][0]["digest"]);
        let folder = into.clone();
        let embedding = tokio::task::spawn_blocking(move || {
            let folder = folder.to_str().unwrap();
            let arguments =
                ["--from", &url, "--into", folder, "--trust-root", &root, "--environment", "staging"];
            deployment.run(&[["key-set", "embed"].as_slice(), &arguments].concat())
        });
        let output = embedding.await.unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
        into
    }

    /// The first process of the backend that is as it should be.
    pub(super) async fn deployment(&self, fits: impl Fn(&Value) -> bool) -> Value {
        let path = format!("{}/admin/v1/backends/ai_gateway/deployments", self.url());
        eventually("a process that reports itself", || async {
            let request = self.client.get(&path).bearer_auth(&self.admin_token);
            let listed: Value = request.send().await.unwrap().json().await.unwrap();
            listed["items"].as_array().unwrap().iter().find(|process| fits(process)).cloned()
        })
        .await
    }

    /// For good.
    pub(super) fn stop(&mut self) {
        self.serving.terminate();
        assert_eq!(self.serving.wait(), Some(0), "{}", self.serving.log_text());
    }

    async fn admin_post(&self, path: &str, body: Value) -> Value {
        let request = self.client.request(Method::POST, format!("{}{path}", self.url()));
        let answer = request.bearer_auth(&self.admin_token).json(&body).send().await.unwrap();
        let status: StatusCode = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }
}
