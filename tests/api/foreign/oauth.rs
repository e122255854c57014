//! OAuth clients that we did not write get tokens, which verifiers that discover their keys accept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, ClientSecret, Scope, TokenResponse, TokenUrl};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::Write;

use super::packages::{Registry, install};
use crate::support::app::{Instance, TestApp, activate, sell, send, text};
use crate::support::installation::Installation;

const AUDIENCE: &str = "gitlab-ai-gateway";

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi_and_openid_client_get_tokens_that_jose_verifies() {
    let folder = javascript();
    let mut node = Command::new("node");
    node.arg(scripts().join("oauth.mjs")).arg(&folder);
    for (algs, alg) in [("EdDSA", "EdDSA"), ("EdDSA,RS256", "RS256")] {
        check(&mut node, algs, alg, 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib_gets_tokens_that_pyjwt_and_joserfc_verify() {
    let folder = python();
    let mut python = Command::new(folder.join("bin/python"));
    python.arg(scripts().join("oauth.py"));
    for (algs, alg) in [("EdDSA", "EdDSA"), ("EdDSA,RS256", "RS256")] {
        check(&mut python, algs, alg, 2).await;
    }
}

#[tokio::test]
async fn the_oauth2_crate_gets_a_token_with_its_defaults() {
    let (app, instance, _) = started("EdDSA", "EdDSA").await;
    let client = BasicClient::new(ClientId::new(instance.uid.clone()))
        .set_client_secret(ClientSecret::new(instance.secret.clone()))
        .set_auth_uri(AuthUrl::new(format!("{}/unused", app.base_url)).unwrap())
        .set_token_uri(TokenUrl::new(format!("{}/oauth/token", app.base_url)).unwrap());
    let http = reqwest::Client::new();
    // The crate's way to bring any HTTP client along.
    let send = |request: oauth2::HttpRequest| {
        let http = http.clone();
        async move {
            let answer = http.execute(request.try_into().unwrap()).await?;
            let mut response = http::Response::builder().status(answer.status());
            *response.headers_mut().unwrap() = answer.headers().clone();
            Ok::<_, reqwest::Error>(response.body(answer.bytes().await?.to_vec()).unwrap())
        }
    };
    let asked = client.exchange_client_credentials().add_extra_param("resource", AUDIENCE);
    let token = asked.add_scope(Scope::new("duo_chat".to_owned())).request_async(&send).await.unwrap();
    assert_eq!(token.scopes().unwrap().len(), 1);
    let more = client.exchange_client_credentials().add_extra_param("resource", AUDIENCE);
    let refusal = more.add_scope(Scope::new("ask_epic".to_owned())).request_async(&send).await.unwrap_err();
    assert!(format!("{refusal:?}").contains("invalid_scope"), "{refusal:?}");
}

/// Runs a script against a service whose backend was registered with `alg`, and looks at what its clients got.
async fn check(command: &mut Command, algs: &str, alg: &str, clients: usize) {
    let (app, instance, keyed) = started(algs, alg).await;
    let question = json!({
        "issuer": app.base_url, "audience": AUDIENCE, "uid": instance.uid, "secret": instance.secret,
        "keyed": { "uid": keyed.0, "jwk": keyed.1.private_key() },
    });
    let mut running =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = told.as_object().unwrap();
    assert_eq!(told.len(), clients, "{told:?}");
    for (client, outcome) in told {
        let subject =
            if client.contains("private_key_jwt") { &keyed.1.instance_id } else { &instance.instance_id };
        assert_eq!(outcome["more"], "invalid_scope", "{client}: {outcome}");
        assert_eq!(outcome["narrowed"]["scopes"], json!(["duo_chat"]), "{client}");
        let whole = &outcome["whole"];
        assert_eq!((&whole["alg"], text(&whole["sub"])), (&json!(alg), subject.clone()), "{client}");
        assert!(whole["scopes"].as_array().unwrap().len() > 5, "{client}: {whole}");
    }
}

/// A service at its own issuer, an instance with a secret, and one with a key.
async fn started(algs: &str, alg: &str) -> (TestApp, Instance, (String, Installation)) {
    let app = TestApp::start_discoverable(&[("TOKEN_ALGS", algs)]).await;
    let backend = json!({ "name": "ai_gateway", "alg": alg, "trust": "discovery", "min_live": 0 });
    app.admin_post("/admin/v1/backends", backend).await;
    let sold = sell(&app, Some("duo_pro"), 2).await;
    let instance = activate(&app, &sold.activation_code).await;
    let installation = Installation::new(9);
    let body = installation.activation(&app, &sold.activation_code);
    let activated = send(app.request(Method::POST, "/v1/instances").json(&body)).await;
    let uid = text(&activated.expect(StatusCode::CREATED)["instance_uid"]);
    (app, instance, (uid, installation))
}

/// The folder with the JavaScript libraries, installed.
pub(super) fn javascript() -> PathBuf {
    let folder = folder("oauth-js");
    install(&folder, Registry::Npm, &["oauth4webapi@3.8.8", "openid-client@6.9.0", "jose@6.2.17"]);
    folder
}

/// The virtual environment with the Python libraries, installed.
pub(super) fn python() -> PathBuf {
    let folder = folder("oauth-py");
    let packages =
        ["Authlib==1.9.10", "joserfc==1.8.0", "requests==2.32.5", "PyJWT==2.15.1", "cryptography==50.0.2"];
    install(&folder, Registry::PyPi, &packages);
    folder
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-jwt").join(name)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign")
}
