//! `simulate fleet` against a service that is restarted in the middle: no instance is ever without a valid token.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::program::{Deployment, Serving, answer};

/// Two seconds for an hour, and eight of them for the life of a token: the usual ratio.
const INTERVAL: &str = "2s";
const LIFETIME: &str = "16s";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_instances_see_no_gap_while_the_service_restarts() {
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_SYNC_INTERVAL", INTERVAL);
    deployment.set("TOKEN_AUTHORITY_TOKEN_LIFETIME", LIFETIME);
    deployment.set("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "5s");
    let mut serving = deployment.serve();
    let code = sell(&deployment, &serving, 200).await;
    let port = serving.base_url.rsplit_once(':').unwrap().1.to_owned();

    let fleet = Command::new(env!("CARGO_BIN_EXE_token-authority"))
        .args(["simulate", "fleet", "--format", "json", "--instances", "200", "--intervals", "12"])
        .args(["--lost-per-mille", "30", "--restarts-per-mille", "20", "--url", &serving.base_url])
        .env("ACTIVATION_CODE", code)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    // In the middle, once half of the time is over, it goes away and comes back at the same address.
    wait_for_syncs(&deployment, 200 * 5).await;
    serving.terminate();
    serving.wait();
    deployment.set("TOKEN_AUTHORITY_LISTEN", &format!("127.0.0.1:{port}"));
    let _serving: Serving = deployment.serve();

    let output = tokio::task::spawn_blocking(|| fleet.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{tally}");
    assert_eq!(tally["instances"], 200);
    assert_eq!((&tally["worst_gap_ms"], &tally["instances_with_a_gap"]), (&json!(0), &json!(0)), "{tally}");
    assert_eq!(tally["contested"], 0, "lost answers and restarts are no copies: {tally}");
    assert!(tally["syncs"].as_u64().unwrap() > 200 * 8, "{tally}");
    assert!(
        tally["lost_answers"].as_u64().unwrap() > 0 && tally["restarts"].as_u64().unwrap() > 0,
        "{tally}"
    );
    assert!(tally["unanswered"].as_u64().unwrap() > 0, "the restart was not noticed: {tally}");
}

async fn sell(deployment: &Deployment, serving: &Serving, instances: u32) -> String {
    let scopes = ["--scope", "fulfillment:write", "--scope", "fulfillment:read"];
    let arguments = ["admin-token", "create", "--name", "fleet", "--format", "json"];
    let token = answer(&deployment.run(&[&arguments[..], &scopes[..]].concat()));
    let token = token["token"].as_str().unwrap().to_owned();
    let client = reqwest::Client::new();
    let post = async |path: &str, body: Value| -> Value {
        let url = format!("{}/admin/v1/{path}", serving.base_url);
        let answer = client.post(url).bearer_auth(&token).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    };
    let customer = post("customers", json!({ "name": "Fleet" })).await;
    let subscription = json!({
        "customer_id": customer["id"], "license_type": "premium", "seats": 10, "trial": false,
        "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2096-01-01T00:00:00Z",
    });
    let subscription = post("subscriptions", subscription).await;
    let license =
        json!({ "subscription_id": subscription["id"], "kind": "online", "max_instances": instances });
    post("licenses", license).await["activation_code"].as_str().unwrap().to_owned()
}

async fn wait_for_syncs(deployment: &Deployment, syncs: i64) {
    let mut connection = deployment.connection().await;
    let waiting = async {
        loop {
            let issued: i64 =
                sqlx::query_scalar("select count(distinct (instance_number, issued_at)) from issuances")
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
            if issued >= syncs {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("the fleet does not sync");
}
