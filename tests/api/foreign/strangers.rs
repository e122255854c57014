//! Verifiers that we did not write, which find our keys by discovery and run on while the keys change.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use chrono::TimeDelta;
use reqwest::StatusCode;
use serde_json::{Value, json};
use token_authority::domain::key_ring::{Algorithm, KeyState, Waiver};
use token_authority_verifier::Unverified;

use crate::support::app::{Instance, TestApp, activate, sell, text};
use crate::support::rotation::Operator;

const AUDIENCE: &str = "gitlab-ai-gateway";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_discover_the_keys_accept_tokens_across_rotations_of_ed25519() {
    across_rotations(Algorithm::EdDsa).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_discover_the_keys_accept_tokens_across_rotations_of_rsa() {
    across_rotations(Algorithm::Rs256).await;
}

async fn across_rotations(alg: Algorithm) {
    // 1. A service whose keys have been public for days, and strangers that have not looked yet.
    let app = TestApp::start_discoverable_since(TimeDelta::days(3), &[("TOKEN_ALGS", "EdDSA,RS256")]).await;
    let backend = json!({ "name": "ai_gateway", "alg": alg.as_str(), "trust": "discovery", "min_live": 0 });
    app.admin_post("/admin/v1/backends", backend).await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    let mut strangers = [Stranger::jose(&app), Stranger::python(&app)];
    let operator = Operator::of(&app);
    let standby = operator.keys_of(alg, KeyState::Published).await[0];
    let old = accepted_by_all(&app, &instance, &mut strangers).await;

    // 2. The standby signs from now on: it was in every cache already. What the old key signed goes on.
    operator.arm(standby).await;
    operator.activate(standby).await.expect("the standby was public for longer than any cache lives");
    let new = accepted_by_all(&app, &instance, &mut strangers).await;
    assert_ne!(old.kid, new.kid);
    assert_eq!(new.kid, standby.to_string());
    old.is_accepted_by(&mut strangers);

    // 3. A key that came later is in no cache: each of them asks again. It signs at once only by an override, which
    //    names whom it passes over.
    let third = operator.generate_for(alg).await;
    operator.publish().await;
    operator.arm(third).await;
    let refusal = operator.activate(third).await.unwrap_err().to_string();
    assert!(refusal.contains("ai_gateway"), "{refusal}");
    let waiver = Waiver { names: ["ai_gateway".to_owned()].into(), reason: "a test".to_owned() };
    operator.activate_past(third, Some(waiver)).await.unwrap();
    let last = accepted_by_all(&app, &instance, &mut strangers).await;
    assert_eq!(last.kid, third.to_string());
    new.is_accepted_by(&mut strangers);

    // 4. A key that never was ours is in no set, however often they ask.
    let foreign = last.under_another_kid(&old.kid.chars().rev().collect::<String>());
    for stranger in &mut strangers {
        for (library, verdict) in stranger.ask(&foreign) {
            assert!(verdict.contains(' '), "{library} accepts a stranger's key: {verdict}");
        }
    }
}

/// Syncs, and shows the token to everyone.
async fn accepted_by_all(app: &TestApp, instance: &Instance, strangers: &mut [Stranger]) -> Token {
    let body = json!({ "version": "17.6.1", "backends": ["ai_gateway"] });
    let synced = instance.sync(app, &body).await.expect(StatusCode::OK);
    let compact = text(&synced["tokens"][0]["token"]);
    let kid = Unverified::decode(&compact).unwrap().kid().unwrap().to_string();
    let token = Token { compact, kid };
    token.is_accepted_by(strangers);
    token
}

struct Token {
    compact: String,
    kid: String,
}

impl Token {
    #[track_caller]
    fn is_accepted_by(&self, strangers: &mut [Stranger]) {
        for stranger in strangers {
            for (library, verdict) in stranger.ask(&self.compact) {
                assert_eq!(verdict, self.kid, "{library}");
            }
        }
    }

    fn under_another_kid(&self, kid: &str) -> String {
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let (header, rest) = self.compact.split_once('.').unwrap();
        let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.replace(&self.kid, kid)))
    }
}

/// A process that verifies with libraries of another language, and keeps what it fetched.
struct Stranger {
    process: Child,
    tokens: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

impl Stranger {
    fn jose(app: &TestApp) -> Self {
        let folder = super::oauth::javascript();
        let mut node = Command::new("node");
        node.arg(scripts().join("strangers.mjs")).arg(folder).args([&app.base_url, AUDIENCE]);
        Self::start(node)
    }

    fn python(app: &TestApp) -> Self {
        let mut python = Command::new(super::oauth::python().join("bin/python"));
        python.arg(scripts().join("strangers.py")).args([&app.base_url, AUDIENCE]);
        Self::start(python)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (tokens, verdicts) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, tokens, verdicts: BufReader::new(verdicts) }
    }

    /// What each library says: the kid, or why not.
    fn ask(&mut self, token: &str) -> Vec<(String, String)> {
        tokio::task::block_in_place(|| {
            writeln!(self.tokens, "{token}").unwrap();
            let mut line = String::new();
            self.verdicts.read_line(&mut line).unwrap();
            let verdicts: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("it ended: {line:?}"));
            verdicts
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, verdict)| (name.clone(), text(verdict)))
                .collect()
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scripts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign")
}
