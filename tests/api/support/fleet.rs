//! Backends as they run in the world: processes with a key set compiled in, each with the real verifier.

use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::{
    DenyList, Digest, Kid, Manifest, SignedManifest, SignedRoot, Verified, Verifier, VerifyError,
};

use super::app::{Answer, TestApp, send, text};

/// A registered backend and its credential.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(crate) audience: &'static str,
    pub(crate) token: String,
}

/// One running copy of a backend, built against one version of the key set.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) backend: Backend,
    pub(crate) id: String,
    pub(crate) build: String,
    pub(crate) version: u32,
    pub(crate) digest: String,
    manifest: Verified<Manifest>,
    verifier: Verifier,
    /// Of the deny list that it obeys.
    pub(crate) deny_list_serial: Option<u64>,
    verdicts: Vec<Value>,
}

impl Backend {
    /// Registers a backend of the example catalog.
    pub(crate) async fn register(
        app: &TestApp,
        name: &'static str,
        audience: &'static str,
        trust: &str,
        min_live: u32,
    ) -> Self {
        let new = json!({ "name": name, "alg": "EdDSA", "trust": trust, "min_live": min_live });
        app.admin_post("/admin/v1/backends", new).await;
        let rotated = app.admin_post(&format!("/admin/v1/backends/{name}:rotate-token"), json!({})).await;
        Self { name, audience, token: text(&rotated["token"]) }
    }

    pub(crate) fn path(&self, process_id: &str) -> String {
        format!("/v1/backends/{}/deployments/{process_id}", self.name)
    }

    /// Starts a process with a published key set compiled in, as its build would check it.
    pub(crate) fn start(&self, keys_dir: &Path, version: u32, id: &str) -> Process {
        let (manifest, jwks) = embed(keys_dir, version);
        Process {
            backend: self.clone(),
            id: id.to_owned(),
            build: format!("build-{version}"),
            version,
            digest: Digest::of(&jwks).to_string(),
            verifier: Verifier::from_manifest(&manifest, &jwks, self.audience).unwrap(),
            manifest,
            deny_list_serial: None,
            verdicts: Vec::new(),
        }
    }
}

impl Process {
    /// What it says of itself, with its verdicts on the last probes.
    pub(crate) fn report(&self) -> Value {
        json!({
            "build": self.build, "key_set_version": self.version, "key_set_digest": self.digest,
            "verifier": "token-authority-verifier/test", "algorithms": ["EdDSA"],
            "deny_list_serial": self.deny_list_serial, "probe_results": self.verdicts,
        })
    }

    /// One beat: reports, answers the probes for the next one, and obeys the newest deny list.
    pub(crate) async fn beat(&mut self, app: &TestApp) -> Value {
        let answer = self.send(app, &self.report()).await.expect(StatusCode::OK);
        self.verdicts = self.judge(app.clock.now(), &answer["probes"]);
        if answer["deny_list_serial"].as_u64() > self.deny_list_serial || self.deny_list_serial.is_none() {
            self.read_deny_list(app).await;
        }
        answer
    }

    /// Two beats: the second one tells the verdicts on the probes of the first.
    pub(crate) async fn prove(&mut self, app: &TestApp) {
        self.beat(app).await;
        self.beat(app).await;
    }

    pub(crate) async fn send(&self, app: &TestApp, report: &Value) -> Answer {
        let request = app.request(Method::PUT, &self.backend.path(&self.id));
        send(request.bearer_auth(&self.backend.token).json(report)).await
    }

    pub(crate) async fn sign_off(&self, app: &TestApp) -> Answer {
        send(app.request(Method::DELETE, &self.backend.path(&self.id)).bearer_auth(&self.backend.token)).await
    }

    /// The real verification function, with nothing but the `typ` different.
    pub(crate) fn judge(&self, now: DateTime<Utc>, probes: &Value) -> Vec<Value> {
        let probes = probes.as_array().unwrap().iter();
        let judged = probes.map(|probe| {
            let verdict = self.verifier.verify_probe(probe["token"].as_str().unwrap(), system(now));
            json!({
                "kid": probe["kid"], "nonce": probe["nonce"], "accepted": verdict.is_ok(),
                "detail": verdict.err().map(|refusal| refusal.code()),
            })
        });
        judged.collect()
    }

    pub(crate) async fn read_deny_list(&mut self, app: &TestApp) {
        let answer = send(app.request(Method::GET, "/v1/deny-list")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let now = system(app.clock.now());
        let list = DenyList::verify(&answer.text, &self.manifest, now).unwrap();
        self.verifier = self.verifier.clone().with_denials(list.denials(now));
        self.deny_list_serial = Some(list.serial);
    }

    /// Whether it lets a request with this token pass.
    pub(crate) fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<(), VerifyError> {
        self.verifier.verify(token, system(now)).map(|_| ())
    }

    pub(crate) fn carries(&self, kid: &str) -> bool {
        let kid: Kid = kid.parse().unwrap();
        self.verifier.kids().any(|carried| carried == kid)
    }

    /// The verdicts that the next beat will tell.
    pub(crate) fn verdicts(&mut self) -> &mut Vec<Value> {
        &mut self.verdicts
    }
}

/// What a build reads: everything verified from the root on.
fn embed(keys_dir: &Path, version: u32) -> (Verified<Manifest>, Vec<u8>) {
    let folder = keys_dir.join("development");
    let read = |name: String| std::fs::read(folder.join(name)).unwrap();
    let root = SignedRoot::parse(&read("root/1.root.json".to_owned())).unwrap();
    let root = root.verify_pinned(root.digest()).unwrap();
    let manifest = SignedManifest::parse(&read(format!("{version:04}.manifest.json"))).unwrap();
    (manifest.verify(&root).unwrap(), read(format!("{version:04}.jwks.json")))
}

pub(crate) fn system(at: DateTime<Utc>) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(at.timestamp_micros().cast_unsigned())
}
