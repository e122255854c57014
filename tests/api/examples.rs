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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_in_node_verifies_reports_proves_and_goes_on_without_the_service() {
    story(Language::Node).await;
}

async fn story(language: Language) {
    // 1. A service that has sold something, and a backend that is built with its key set.
    let mut authority = Authority::start().await;
    let token = authority.sync().await;
    authority.arm_the_standby().await;
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

    // 4. The key that signed is in other hands: the standby goes on. The deny list reaches whoever runs with the next
    //    beat, and whoever starts with the first.
    authority.compromise(&token.kid).await;
    let next = authority.sync_again().await;
    assert_ne!(next.kid, token.kid);
    assert_eq!(backend.ask("/chat", Some(&next.ours)).await.status, 200);
    let denying = build.start(&authority).await;
    eventually("the deny list to be obeyed", || async {
        let asked = denying.ask("/chat", Some(&token.ours)).await;
        (asked.code == "key_denied").then_some(())
    })
    .await;
    refused(denying.ask("/chat", Some(&token.ours)).await, 401, "key_denied");
    assert_eq!(denying.ask("/chat", Some(&next.ours)).await.status, 200);
    authority.deployment(|process| process["deny_list_serial"] == 1).await;

    // 5. Stopped in good order, it says goodbye.
    backend.stop().await;
    let gone = authority.deployment(|process| process["standing"] == "signed_off").await;
    assert_eq!(gone["process_id"], deployment["process_id"]);

    // 6. Tokens will be signed by a key that this build does not hold: it does not begin to serve, but one that serves
    //    goes on.
    authority.raise_the_floor().await;
    let outdated = build.start(&authority).await;
    let reason = eventually("the floor to be told", || async { outdated.health().await.err() }).await;
    assert!(reason.contains("below the floor 2"), "{reason}");
    assert_eq!(denying.health().await, Ok(()));

    // 7. The service ends. Verification goes on, and so does a process that starts only now.
    authority.stop();
    assert_eq!(denying.ask("/chat", Some(&next.ours)).await.status, 200);
    refused(denying.ask("/chat", Some(&token.ours)).await, 401, "key_denied");
    refused(denying.ask("/chat", Some(&tampered(&next.ours))).await, 401, "signature_invalid");
    let offline = build.start(&authority).await;
    assert_eq!(offline.health().await, Ok(()));
    assert_eq!(offline.ask("/chat", Some(&next.ours)).await.status, 200);
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
