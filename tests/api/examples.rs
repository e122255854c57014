//! The backends in `examples/`, each with a key set of a real service embedded, from its first start to the end of the
//! service and beyond.

mod authority;
mod backend;
mod entry_point;
mod haproxy;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use authority::Authority;
use backend::{Language, Reply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_in_rust_verifies_reports_proves_and_goes_on_without_the_service() {
    story(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_in_python_verifies_reports_proves_and_goes_on_without_the_service() {
    story(Language::Python).await;
}

#[ignore = "was seen to fail once in a whole run under load, not yet explained: run it with --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_in_node_verifies_reports_proves_and_goes_on_without_the_service() {
    story(Language::Node).await;
}

async fn story(language: Language) {
    // 1. A service that has sold something, and a backend that is built with its key set.
    let mut authority = Authority::start().await;
    let token = authority.sync().await;
    let keys = authority.embed().await;
    let build = language.build(&keys).await;
    let backend = build.start(&authority).await;

    // 2. It serves whom the token permits, and says to everyone else why not.
    assert_eq!(backend.ask("/chat", Some(&token.ours)).await.status, 200);
    assert_eq!(backend.ask("/completions", Some(&token.ours)).await.status, 200);
    let refused = |reply: Reply, status: u16, code: &str| {
        assert_eq!((reply.status, reply.code.as_str()), (status, code), "{language:?}: {reply:?}");
        let challenge = &reply.challenge;
        for part in [&format!("error_code=\"{code}\""), "key_set=\"1\"", "audience=\"gitlab-ai-gateway\""] {
            assert!(
                challenge.starts_with("Bearer ") && challenge.contains(part),
                "{language:?}: {challenge}"
            );
        }
        assert!(!challenge.contains("eyJ"), "{challenge}");
    };
    refused(backend.ask("/chat", None).await, 401, "token_missing");
    refused(backend.ask("/chat", Some("nonsense")).await, 401, "malformed");
    refused(backend.ask("/chat", Some(&token.others)).await, 401, "audience_mismatch");
    refused(backend.ask("/chat", Some(&tampered(&token.ours))).await, 401, "signature_invalid");
    refused(backend.ask("/commit-message", Some(&token.ours)).await, 403, "not_permitted");
    let lying = backend.ask_with("/chat", Some(&token.ours), &[("X-Gitlab-Realm", "saas")]).await;
    refused(lying, 401, "header_mismatch");
    let honest = backend.ask_with("/chat", Some(&token.ours), &[("X-Gitlab-Realm", "self-managed")]).await;
    assert_eq!(honest.status, 200);

    // 3. It reports itself, and proves both keys by verdicts on probes, forged ones among them.
    let kids = kids(&keys);
    assert_eq!(kids.len(), 2);
    let deployment = authority.deployment(|process| kids.iter().all(|kid| proved(process, kid))).await;
    assert_eq!(deployment["build"], "v1");
    assert_eq!(deployment["disproved_at"], Value::Null);
    assert_eq!(deployment["deny_list_serial"], json!(0));

    // 4. Stopped in good order, it says goodbye; built anew, it starts again.
    backend.stop().await;
    let gone = authority.deployment(|process| process["standing"] == "signed_off").await;
    assert_eq!(gone["process_id"], deployment["process_id"]);
    let backend = build.start(&authority).await;

    // 5. The service ends. Verification goes on, and so does a process that starts only now.
    authority.stop();
    assert_eq!(backend.ask("/chat", Some(&token.ours)).await.status, 200);
    refused(backend.ask("/chat", Some(&tampered(&token.ours))).await, 401, "signature_invalid");
    let offline = build.start(&authority).await;
    assert_eq!(offline.ask("/chat", Some(&token.ours)).await.status, 200);
    refused(offline.ask("/chat", Some(&token.others)).await, 401, "audience_mismatch");
}

/// The access-token keys of the embedded set.
fn kids(keys: &Path) -> Vec<Value> {
    let jwks: Value = serde_json::from_slice(&std::fs::read(keys.join("jwks.json")).unwrap()).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
}

fn proved(process: &Value, kid: &Value) -> bool {
    process["proofs"].as_array().is_some_and(|proofs| proofs.iter().any(|proof| proof["kid"] == *kid))
}

/// The token with another letter in the middle of its signature.
fn tampered(token: &str) -> String {
    let place = token.len() - 40;
    let other = if token.as_bytes()[place] == b'A' { "B" } else { "A" };
    [&token[..place], other, &token[place + 1..]].concat()
}

/// Asks again until the answer is there.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Longer than a few beats on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
