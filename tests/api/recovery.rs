//! The restore drill: an old backup comes back, and everything that was taken away since stays away.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::deployment::{Activated, Client, admin_token};
use crate::support::database::Database;
use crate::support::program::{Deployment, Serving, answer, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_mints_nothing_until_it_knows_again_what_was_taken_away() {
    let mut drill = Drill::new().await;
    let backup = drill.back_up().await;

    // After the backup: tokens, a revoked license, a rotation, a compromised key, a key from the lost time.
    let mut serving = drill.serve();
    let client = Client::new(&serving);
    client.sync(&drill.keeps).await;
    drill.revoke_license(&client).await;
    let [first, standby] = drill.access_keys();
    let third = drill.keys(&["generate"])["keys"][0]["kid"].as_str().map(ToOwned::to_owned);
    let third = third.unwrap_or_else(|| drill.kid_in("generated"));
    drill.keys(&["publish"]);
    drill.keys(&["arm", &standby]);
    drill.keys(&["activate", &standby]);
    assert_eq!(drill.signs(&client).await, standby);
    drill.keys(&["compromise", &first, "--yes", "--reason", "a drill"]);
    stop(&mut serving);
    let export = drill.export();
    let published = fs::read(drill.deployment.path("keys/staging/0002.manifest.json")).unwrap();

    // The old backup comes back.
    drill.deployment.restore(backup);
    let serving = drill.serve();
    let client = Client::new(&serving);
    let (status, ready) = client.get("/health/ready").await;
    assert_eq!(status, 503, "{ready}");
    let safe_mode =
        ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "safe_mode").unwrap();
    assert!(safe_mode["detail"].as_str().unwrap().contains("the root has signed key set 2"), "{safe_mode}");
    assert!(safe_mode["detail"].as_str().unwrap().contains("token-authority recover"), "{safe_mode}");
    let (status, _) = client.post_as(&drill.keeps, "/v1/sync", &json!({"version": "18.5.0"})).await;
    assert_eq!(status, 503, "nothing is minted");
    for command in
        [vec!["generate"], vec!["publish"], vec!["arm", &standby], vec!["compromise", &first, "--yes"]]
    {
        let refused = drill.try_keys(&command);
        assert_eq!(refused.status.code(), Some(1));
        assert!(complaint(&refused).contains("safe mode"), "{command:?}: {}", complaint(&refused));
    }
    let without = drill.deployment.run(&["recover"]);
    assert!(complaint(&without).contains("--audit FILE"), "{}", complaint(&without));

    // An export that was touched is no evidence.
    let touched = drill.deployment.path("touched.jsonl");
    fs::write(&touched, fs::read_to_string(&export).unwrap().replacen("license.revoke", "license.renew!", 1))
        .unwrap();
    let refused = drill.deployment.run(&["recover", "--audit", touched.to_str().unwrap()]);
    assert!(complaint(&refused).contains("was altered"), "{}", complaint(&refused));

    let recovered = answer(&drill.deployment.run(&["recover", "--format", "json", "--audit", &export]));
    assert_eq!((&recovered["head"], &recovered["adopted"]), (&json!(2), &json!([2])), "{recovered}");
    assert_eq!(recovered["done_again"], json!({"license.revoke": 1}), "{recovered}");
    assert_eq!(drill.state_of(&first), "revoked");
    assert_eq!(drill.state_of(&standby), "active");
    assert_eq!(drill.state_of(&third), "abandoned", "its private half was only in the lost database");

    // The running service goes on by itself, with the new key, and without what was taken away.
    until(&client, 200).await;
    assert_eq!(drill.signs(&client).await, standby);
    let (status, refused) = client.post_as(&drill.loses, "/v1/sync", &json!({"version": "18.5.0"})).await;
    assert_eq!((status, &refused["code"]), (403, &json!("license_revoked")));
    let again = drill.deployment.run(&["recover", "--audit", &export]);
    assert!(complaint(&again).contains("nothing to recover"), "{}", complaint(&again));
    assert_eq!(fs::read(drill.deployment.path("keys/staging/0002.manifest.json")).unwrap(), published);

    // The audit is whole: what was exported, and the recovery after it.
    let verified =
        answer(&drill.deployment.run(&["audit", "verify", "--format", "json", "--checkpoint", &export]));
    assert_eq!(verified["valid"], true, "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_signed_makes_no_safe_mode_and_the_next_signed_set_is_adopted() {
    let mut drill = Drill::new().await;
    let backup = drill.back_up().await;
    let [_, standby] = drill.access_keys();
    drill.keys(&["generate"]);
    let third = drill.kid_in("generated");

    // Somebody writes a higher number into the folder: the root has not signed it.
    let folder = drill.deployment.path("keys/staging");
    for version in [2, 7] {
        let first = fs::read_to_string(folder.join("0001.manifest.json")).unwrap();
        fs::write(folder.join(format!("{version:04}.manifest.json")), first).unwrap();
        fs::copy(folder.join("0001.jwks.json"), folder.join(format!("{version:04}.jwks.json"))).unwrap();
    }
    let serving = drill.serve();
    until(&Client::new(&serving), 200).await;
    drop(serving);
    for version in [2, 7] {
        fs::remove_file(folder.join(format!("{version:04}.manifest.json"))).unwrap();
        fs::remove_file(folder.join(format!("{version:04}.jwks.json"))).unwrap();
    }

    // A key set that follows the head and changes nothing of who signs needs no drill. That of a key which
    // the backup does not know does.
    drill.keys(&["publish"]);
    assert_eq!(drill.state_of(&third), "published");
    drill.deployment.restore(backup);
    let serving = drill.serve();
    until(&Client::new(&serving), 503).await;
    let lost = drill.deployment.run(&[
        "recover",
        "--format",
        "json",
        "--without-audit",
        "the export is lost",
        "--yes",
    ]);
    assert_eq!(answer(&lost)["adopted"], json!([2]));
    until(&Client::new(&serving), 200).await;
    assert_eq!(drill.state_of(&third), "abandoned");
    assert_eq!(drill.state_of(&standby), "published");
}

/// Nothing but a signed deny list tells that the database is an old copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_deny_list_that_is_newer_than_the_database_makes_safe_mode_and_the_key_stays_dead() {
    let mut drill = Drill::new().await;
    let [first, standby] = drill.access_keys();
    drill.keys(&["arm", &standby]);
    let backup = drill.back_up().await;
    drill.keys(&["compromise", &first, "--yes", "--reason", "a drill"]);
    let mut serving = drill.serve();
    drill.until_anchored("deny-list.jws", |list| list["serial"] == 1).await;
    stop(&mut serving);
    fs::remove_file(drill.anchor("audit-checkpoint.jws")).unwrap();

    drill.deployment.restore(backup);
    let serving = drill.serve();
    let client = Client::new(&serving);
    drill
        .refuses_everything(&client, "deny list 1 was signed; this database knows no later one than 0")
        .await;
    assert_eq!(drill.state_of(&first), "active", "the copy has forgotten it");
    let recovered = drill.recover(&["--without-audit", "the export is lost", "--yes"]);
    assert_eq!((&recovered["head"], &recovered["adopted"]), (&json!(1), &json!([])), "{recovered}");
    until(&client, 200).await;
    assert_eq!((drill.state_of(&first), drill.state_of(&standby)), ("revoked".into(), "active".into()));
    assert_eq!(drill.signs(&client).await, standby);
}

/// Nothing but a signed checkpoint of the audit tells it: no key was touched after the copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_newer_than_the_database_makes_safe_mode_and_revocations_come_back() {
    let mut drill = Drill::new().await;
    let [first, _] = drill.access_keys();
    let backup = drill.back_up().await;
    let mut serving = drill.serve();
    drill.revoke_license(&Client::new(&serving)).await;
    let end = drill.audit_end().await;
    drill
        .until_anchored("audit-checkpoint.jws", |checkpoint| checkpoint["sequence"].as_i64() >= Some(end))
        .await;
    stop(&mut serving);
    let export = drill.export();

    drill.deployment.restore(backup);
    let serving = drill.serve();
    let client = Client::new(&serving);
    drill.refuses_everything(&client, "the audit was signed up to event").await;
    let without = drill.deployment.run(&["recover"]);
    assert!(complaint(&without).contains("--audit FILE"), "{}", complaint(&without));
    let recovered = drill.recover(&["--audit", &export]);
    assert_eq!(recovered["done_again"], json!({"license.revoke": 1}), "{recovered}");
    until(&client, 200).await;
    assert_eq!(drill.signs(&client).await, first, "nobody touched the keys");
    let (status, refused) = client.post_as(&drill.loses, "/v1/sync", &json!({"version": "18.5.0"})).await;
    assert_eq!((status, &refused["code"]), (403, &json!("license_revoked")));
}

/// The root has signed the next key set, and it changes nothing of who signs: that takes no drill.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_key_set_that_follows_the_head_and_changes_no_signer_is_adopted() {
    let mut drill = Drill::new().await;
    let [first, _] = drill.access_keys();
    drill.keys(&["generate"]);
    let third = drill.kid_in("generated");
    let backup = drill.back_up().await;
    drill.keys(&["publish"]);
    let published = fs::read(drill.deployment.path("keys/staging/0002.manifest.json")).unwrap();

    drill.deployment.restore(backup);
    let serving = drill.serve();
    let client = Client::new(&serving);
    until(&client, 200).await;
    assert!(serving.log_text().contains("it is adopted"), "{}", serving.log_text());
    let (_, key_sets) = client.get("/v1/key-sets").await;
    assert_eq!(key_sets["head"], 2, "{key_sets}");
    assert_eq!(drill.signs(&client).await, first);
    assert_eq!(drill.state_of(&third), "published");
    assert_eq!(fs::read(drill.deployment.path("keys/staging/0002.manifest.json")).unwrap(), published);

    // The chain goes on from it, and the key that it brought can sign.
    drill.keys(&["arm", &third]);
    drill.keys(&["activate", &third]);
    assert_eq!(drill.signs(&client).await, third);
    let verified = answer(&drill.deployment.run(&["audit", "verify", "--format", "json"]));
    assert_eq!(verified["valid"], true, "{verified}");
}

/// A deployment with two activated instances and a folder of anchors.
struct Drill {
    deployment: Deployment,
    admin: String,
    keeps: Activated,
    loses: Activated,
}

impl Drill {
    async fn new() -> Self {
        let mut deployment = Deployment::initialized().await;
        let anchors = deployment.path("anchors").display().to_string();
        deployment.set("TOKEN_AUTHORITY_ANCHORS_DIR", &anchors);
        let admin = admin_token(&deployment);
        let mut serving = deployment.serve();
        let client = Client::new(&serving);
        let (keeps, loses) = (client.activate(&admin).await, client.activate(&admin).await);
        client.sync(&keeps).await;
        stop(&mut serving);
        Self { deployment, admin, keeps, loses }
    }

    fn serve(&self) -> Serving {
        self.deployment.serve()
    }

    async fn back_up(&self) -> Database {
        self.deployment.backup().await
    }

    fn try_keys(&self, arguments: &[&str]) -> std::process::Output {
        self.deployment.run(&[&["keys"], arguments, &["--format", "json"]].concat())
    }

    fn keys(&self, arguments: &[&str]) -> Value {
        let output = self.try_keys(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    fn listed(&self) -> Vec<Value> {
        self.keys(&["list"])["keys"].as_array().unwrap().clone()
    }

    /// The one that signs access tokens, and its standby.
    fn access_keys(&self) -> [String; 2] {
        ["active", "published"].map(|state| self.kid_in(state))
    }

    fn kid_in(&self, state: &str) -> String {
        self.deployment.access_key(state)
    }

    fn state_of(&self, kid: &str) -> String {
        let keys = self.listed();
        let key = keys.iter().find(|key| key["kid"] == kid).unwrap_or_else(|| panic!("{kid} is forgotten"));
        key["state"].as_str().unwrap().to_owned()
    }

    async fn revoke_license(&self, client: &Client) {
        let url = client.url(&format!("/admin/v1/licenses/{}", self.loses.license_id));
        let read = client.http.get(&url).bearer_auth(&self.admin).send().await.unwrap();
        let etag = read.headers()["etag"].to_str().unwrap().to_owned();
        let revoke =
            client.http.post(format!("{url}:revoke")).bearer_auth(&self.admin).header("If-Match", etag);
        let revoked = revoke.json(&json!({"reason": "a drill"})).send().await.unwrap();
        assert_eq!(revoked.status(), 200, "{}", revoked.text().await.unwrap());
    }

    /// The key that signed the tokens of the next sync.
    async fn signs(&self, client: &Client) -> String {
        use base64::Engine;
        let synced = client.sync(&self.keeps).await;
        let token = synced["tokens"][0]["token"].as_str().unwrap();
        let header =
            base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
    }

    fn anchor(&self, name: &str) -> std::path::PathBuf {
        self.deployment.path("anchors").join(name)
    }

    /// What a kept document says.
    fn anchored(&self, name: &str) -> Option<Value> {
        use base64::Engine;
        let jws = fs::read_to_string(self.anchor(name)).ok()?;
        let payload = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    /// The number of the last event of the audit.
    async fn audit_end(&self) -> i64 {
        let mut connection = self.deployment.connection().await;
        let end = sqlx::query_scalar("select max(sequence) from events");
        end.fetch_one(&mut connection).await.unwrap()
    }

    /// Polls a kept document until it says so.
    async fn until_anchored(&self, name: &str, says: impl Fn(&Value) -> bool) {
        let started = Instant::now();
        while !self.anchored(name).is_some_and(|document| says(&document)) {
            assert!(started.elapsed() < PATIENCE, "{name}: {:?}", self.anchored(name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// In safe mode for this reason: readiness is red, nothing is minted, no key changes.
    async fn refuses_everything(&self, client: &Client, reason: &str) {
        let (status, ready) = client.get("/health/ready").await;
        assert_eq!(status, 503, "{ready}");
        assert!(ready.to_string().contains(reason), "{ready}");
        let (status, _) = client.post_as(&self.keeps, "/v1/sync", &json!({"version": "18.5.0"})).await;
        assert_eq!(status, 503, "nothing is minted");
        let refused = self.try_keys(&["generate"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(complaint(&refused).contains("safe mode"), "{}", complaint(&refused));
    }

    fn recover(&self, arguments: &[&str]) -> Value {
        answer(&self.deployment.run(&[&["recover", "--format", "json"], arguments].concat()))
    }

    fn export(&self) -> String {
        let path = self.deployment.path("audit.jsonl").display().to_string();
        let exported = self.deployment.run(&["audit", "export", "--output", &path]);
        assert!(exported.status.success(), "{}", complaint(&exported));
        path
    }
}

fn stop(serving: &mut Serving) {
    serving.terminate();
    assert_eq!(serving.wait(), Some(0), "{}", serving.log_text());
}

/// Polls readiness until it answers so.
async fn until(client: &Client, status: u16) {
    let started = Instant::now();
    loop {
        let (is, body) = client.get("/health/ready").await;
        if is == status {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{is}: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The service looks every few seconds; the machine may have much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
