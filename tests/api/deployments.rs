//! Backends' processes: what they report, how they prove their keys, and what no stub can feign.

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::DenyList;

use crate::support::app::{TestApp, send};
use crate::support::fleet::{Backend, Process, system};
use crate::support::rotation::Operator;

#[tokio::test]
async fn a_process_that_verifies_proves_every_key_of_its_set() {
    let (app, mut process) = one_process().await;
    let first = process.beat(&app).await;
    assert_eq!(
        (&first["beat_seconds"], &first["floor"], &first["head"], &first["deny_list_serial"]),
        (&json!(30), &json!(1), &json!(1), &json!(0))
    );
    assert_eq!(first["probes"].as_array().unwrap().len(), 8, "four for each of two keys");
    assert_eq!(proofs(&app).await, Vec::<Value>::new(), "nothing was shown yet");

    app.clock.set(app.clock.now() + TimeDelta::seconds(30));
    process.beat(&app).await;
    let kids: Vec<_> = app_keys(&app).await;
    let proved: Vec<_> = proofs(&app).await.iter().map(|proof| proof["kid"].clone()).collect();
    assert!(kids.iter().all(|kid| proved.contains(kid)), "{proved:?}");
    assert_eq!(proved.len(), 4, "the keys of deny lists are in the same set");

    app.clock.set(app.clock.now() + TimeDelta::seconds(30));
    process.beat(&app).await;
    let proof = proofs(&app).await[0].clone();
    assert_eq!(proof["first_proved_at"], "2026-11-20T12:00:30Z");
    assert_eq!(proof["last_proved_at"], "2026-11-20T12:01:00Z");
}

#[tokio::test]
async fn what_a_process_reports_is_listed_whole() {
    let (app, mut process) = one_process().await;
    process.beat(&app).await;
    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    assert_eq!(
        listed,
        json!({
            "items": [{
                "backend": "ai_gateway", "process_id": "gateway-1", "standing": "running",
                "forgotten_because": null, "is_live": true, "build": "build-1", "key_set_version": 1,
                "key_set_digest": process.digest, "is_published": true,
                "verifier": "token-authority-verifier/test", "algorithms": ["EdDSA"],
                "deny_list_serial": null, "enforces": null, "first_seen_at": "2026-11-20T12:00:00Z",
                "last_seen_at": "2026-11-20T12:00:00Z", "disproved_at": null, "proofs": [],
            }],
            "next_page_token": null,
        })
    );
    send(app.admin(Method::GET, "/admin/v1/backends/no_such/deployments"))
        .await
        .refused(StatusCode::NOT_FOUND, "not_found");
}

/// Nothing but the signature tells the forged from the true: whoever does not verify it accepts one.
#[tokio::test]
async fn a_stub_that_accepts_everything_proves_nothing_and_is_found_out() {
    let (app, mut process) = one_process().await;
    process.beat(&app).await;
    for verdict in process.verdicts() {
        verdict["accepted"] = json!(true);
    }
    process.beat(&app).await;
    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    assert_eq!(listed["items"][0]["disproved_at"], "2026-11-20T12:00:00Z");
    // From now on even right answers count for nothing, until another program runs.
    process.prove(&app).await;
    assert_eq!(proofs(&app).await, Vec::<Value>::new());
    process.build = "build-with-a-verifier".to_owned();
    process.verdicts().clear();
    process.prove(&app).await;
    assert_eq!(proofs(&app).await.len(), 4);
}

#[tokio::test]
async fn a_stub_that_refuses_everything_proves_nothing() {
    let (app, mut process) = one_process().await;
    process.prove(&app).await;
    assert_eq!(proofs(&app).await.len(), 4);
    for verdict in process.verdicts() {
        verdict["accepted"] = json!(false);
    }
    process.beat(&app).await;
    let proved: Vec<_> = proofs(&app).await.iter().map(|proof| proof["kid"].clone()).collect();
    assert!(
        app_keys(&app).await.iter().all(|kid| !proved.contains(kid)),
        "what it refuses is not proved any more"
    );
}

#[tokio::test]
async fn a_verdict_on_another_nonce_is_refused_and_the_process_was_seen_all_the_same() {
    let (app, mut process) = one_process().await;
    let mut other = process.clone();
    other.id = "gateway-2".to_owned();
    process.beat(&app).await;
    other.beat(&app).await;
    app.clock.set(app.clock.now() + TimeDelta::minutes(1));

    // The verdicts of another process, a made-up nonce, and what is none at all.
    let mut report = process.report();
    report["probe_results"] = other.report()["probe_results"].clone();
    let problem = process.send(&app, &report).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(problem["errors"].as_array().unwrap().len(), 8);
    let error = &problem["errors"][0];
    assert_eq!(
        (&error["pointer"], &error["code"]),
        (&json!("/probe_results/0/nonce"), &json!("unknown_probe"))
    );

    report["probe_results"] = json!([{ "kid": "none", "nonce": "none", "accepted": true }]);
    let problem = process.send(&app, &report).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(problem["errors"][0]["pointer"], "/probe_results/0/kid");

    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    assert_eq!(listed["items"][0]["last_seen_at"], "2026-11-20T12:01:00Z");
    // Nothing was lost: its own verdicts still count.
    process.beat(&app).await;
    assert_eq!(proofs(&app).await.len(), 4);
}

#[tokio::test]
async fn a_beat_whose_answer_was_lost_can_be_sent_again() {
    let (app, mut process) = one_process().await;
    process.beat(&app).await;
    let report = process.report();
    process.send(&app, &report).await.expect(StatusCode::OK);
    process.send(&app, &report).await.expect(StatusCode::OK);
    assert_eq!(proofs(&app).await.len(), 4);
    let mut silent = report.clone();
    silent["probe_results"] = json!([]);
    for _ in 0..2 {
        process.send(&app, &silent).await.expect(StatusCode::OK);
    }
    // Four answers later the nonces are forgotten.
    process.send(&app, &report).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
}

#[tokio::test]
async fn a_digest_that_was_never_published_is_refused_and_the_process_counts_as_unproven() {
    let (app, mut process) = one_process().await;
    process.prove(&app).await;
    let known = process.digest.clone();
    for (version, digest) in [(1, format!("sha256:{}", "0".repeat(64))), (2, known)] {
        let mut report = process.report();
        (report["key_set_version"], report["key_set_digest"]) = (json!(version), json!(digest));
        process.send(&app, &report).await.refused(StatusCode::CONFLICT, "keys/unknown_key_set");
        let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
        let item = &listed["items"][0];
        assert_eq!((&item["is_published"], &item["proofs"]), (&json!(false), &json!([])));
    }
}

/// A pod keeps its name when it is rolled back.
#[tokio::test]
async fn another_program_under_the_same_name_has_proved_nothing() {
    let (app, mut process) = one_process().await;
    process.prove(&app).await;
    process.build = "build-0".to_owned();
    process.beat(&app).await;
    assert_eq!(proofs(&app).await, Vec::<Value>::new());
    process.beat(&app).await;
    assert_eq!(proofs(&app).await.len(), 4);
}

#[tokio::test]
async fn a_process_signs_off_or_is_forgotten_with_a_reason_and_counts_again_when_it_reports() {
    let (app, mut process) = one_process().await;
    process.beat(&app).await;
    let signed_off = process.sign_off(&app).await;
    assert_eq!((signed_off.status, signed_off.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(standing(&app).await, "signed_off");
    process.beat(&app).await;
    assert_eq!(standing(&app).await, "running");

    let path = "/admin/v1/backends/ai_gateway/deployments/gateway-1:forget";
    let missing = send(app.admin(Method::POST, path).json(&json!({}))).await;
    missing.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let forgotten = app.admin_post(path, json!({ "reason": "the host burned down" })).await;
    assert_eq!((&forgotten["standing"], &forgotten["is_live"]), (&json!("forgotten"), &json!(false)));
    assert_eq!(forgotten["forgotten_because"], "the host burned down");
    process.beat(&app).await;
    assert_eq!(standing(&app).await, "running");

    let stranger = app.backend.start(app.deployment().keys.path(), 1, "never-seen");
    stranger.sign_off(&app).await.refused(StatusCode::NOT_FOUND, "not_found");
}

#[tokio::test]
async fn only_a_backends_own_token_reports_for_it() {
    let (app, process) = one_process().await;
    let other =
        Backend::register(&app, "duo_workflow_service", "gitlab-duo-workflow-service", "embedded", 1).await;
    let path = process.backend.path("gateway-1");
    let send_with = async |token: Option<&str>| {
        let request = app.request(Method::PUT, &path).json(&process.report());
        send(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await
    };
    let unknown = send_with(None).await;
    unknown.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    assert_eq!(unknown.headers["www-authenticate"], "Bearer realm=\"backends\"");
    send_with(Some("tab_wrong")).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    send_with(Some(&app.deployment().admin_token)).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    send_with(Some(&other.token)).await.refused(StatusCode::FORBIDDEN, "forbidden");
    assert_eq!(app.admin_get("/admin/v1/backends/ai_gateway/deployments").await["items"], json!([]));
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_told_what_is_wrong_with_it() {
    let (app, process) = one_process().await;
    let good = process.report();
    let patched = |member: &str, value: Value| {
        let mut report = good.clone();
        report[member] = value;
        report
    };
    for (report, pointer) in [
        (patched("build", json!(" ")), "/build"),
        (patched("build", json!(7)), "/build"),
        (patched("key_set_digest", json!("sha256:00")), "/key_set_digest"),
        (patched("key_set_version", json!(-1)), "/key_set_version"),
        (patched("verifier", json!("x".repeat(256))), "/verifier"),
        (patched("deny_list_serial", json!(u64::MAX)), "/deny_list_serial"),
        (patched("algorithms", json!(["\u{0}"])), "/algorithms/0"),
        (patched("probe_results", json!([{ "kid": "a", "nonce": "b" }])), "/probe_results/0/accepted"),
    ] {
        let problem = process.send(&app, &report).await;
        let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let path = process.backend.path("a%2Fb");
    let odd = send(app.request(Method::PUT, &path).bearer_auth(&process.backend.token).json(&good)).await;
    odd.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    process.send(&app, &patched("a_member_of_tomorrow", json!(1))).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_checked_build_speaks_for_the_keys_in_it() {
    let (app, process) = one_process().await;
    let record = async |body: &Value| {
        let path = format!("/v1/backends/{}/checked-builds", process.backend.name);
        send(app.request(Method::POST, &path).bearer_auth(&process.backend.token).json(body)).await
    };
    let build = json!({ "build": "2027.1", "key_set_version": 1, "key_set_digest": process.digest });
    let recorded = record(&build).await.expect(StatusCode::OK);
    let kids = app_keys(&app).await;
    let expected = json!({ "build": "2027.1", "key_set_version": 1, "kids": kids, "floor": 1, "head": 1 });
    assert_eq!(recorded, expected);
    assert_eq!(record(&build).await.expect(StatusCode::OK), recorded, "a retry changes nothing");
    let unknown = json!({ "build": "2027.1", "key_set_version": 9, "key_set_digest": process.digest });
    record(&unknown).await.refused(StatusCode::CONFLICT, "keys/unknown_key_set");

    // Arming the key of the next set raises the floor: this build may not be deployed any more.
    let operator = Operator::of(&app);
    let key = operator.generate().await;
    operator.publish().await;
    record(&build).await.expect(StatusCode::OK);
    operator.arm(key).await;
    let below = record(&build).await.refused(StatusCode::CONFLICT, "keys/below_floor");
    assert_eq!((&below["floor"], &below["head"]), (&json!(2), &json!(2)));
    // What runs goes on, and is told where the floor is.
    let mut process = process;
    assert_eq!(process.beat(&app).await["floor"], 2);
}

#[tokio::test]
async fn the_deny_list_is_there_from_the_first_day_and_verifies() {
    let (app, mut process) = one_process().await;
    let answer = send(app.request(Method::GET, "/v1/deny-list")).await;
    assert_eq!(answer.headers["content-type"], "application/jose");
    process.read_deny_list(&app).await;
    assert_eq!(process.deny_list_serial, Some(0));
    let payload = answer.text.split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
    let list: DenyList = serde_json::from_slice(&payload).unwrap();
    assert!(list.entries.is_empty() && list.denials(system(app.clock.now())).count() == 0);
}

/// A service with one registered backend, and one process of it that has not reported yet.
async fn one_process() -> (Registered, Process) {
    let app = TestApp::start().await;
    let backend = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    let process = backend.start(app.deployment().keys.path(), 1, "gateway-1");
    (Registered { app, backend }, process)
}

/// A service, and the backend that is registered with it.
struct Registered {
    app: TestApp,
    backend: Backend,
}

impl std::ops::Deref for Registered {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

/// What the one process has proved.
async fn proofs(app: &TestApp) -> Vec<Value> {
    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    listed["items"][0]["proofs"].as_array().unwrap().clone()
}

async fn standing(app: &TestApp) -> String {
    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    listed["items"][0]["standing"].as_str().unwrap().to_owned()
}

/// The access-token keys that are published now.
async fn app_keys(app: &TestApp) -> Vec<Value> {
    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await.expect(StatusCode::OK);
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
}
