//! The client credentials grant: what it gives, and each refusal in the standard's own code.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, ISSUER, Instance, TestApp, activate, fresh_uuid, sell, send, text};
use crate::support::installation::Installation;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const AI: &str = "gitlab-ai-gateway";

async fn started() -> (TestApp, Instance) {
    let app = TestApp::start().await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 3).await.activation_code).await;
    (app, instance)
}

/// An installation with a key of its own, and its uid.
async fn with_key(app: &TestApp) -> (Installation, String) {
    let sold = sell(app, Some("duo_pro"), 1).await;
    let installation = Installation::new(7);
    let body = installation.activation(app, &sold.activation_code);
    let activated = send(app.request(Method::POST, "/v1/instances").json(&body)).await;
    let uid = text(&activated.expect(StatusCode::CREATED)["instance_uid"]);
    (installation, uid)
}

fn form(app: &TestApp, pairs: &[(&str, &str)]) -> RequestBuilder {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        text.append_pair(name, value);
    }
    app.request(Method::POST, "/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(text.finish())
}

async fn ask(app: &TestApp, instance: &Instance, pairs: &[(&str, &str)]) -> Answer {
    let pairs: Vec<_> =
        [("grant_type", "client_credentials")].into_iter().chain(pairs.iter().copied()).collect();
    send(form(app, &pairs).basic_auth(&instance.uid, Some(&instance.secret))).await
}

async fn assert_by(app: &TestApp, assertion: &str, pairs: &[(&str, &str)]) -> Answer {
    let own = [
        ("grant_type", "client_credentials"),
        ("resource", AI),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ];
    send(form(app, &own.into_iter().chain(pairs.iter().copied()).collect::<Vec<_>>())).await
}

#[track_caller]
fn refused(answer: &Answer, status: StatusCode, error: &str) -> Value {
    let body = answer.expect(status);
    assert_eq!(body["error"], error, "{body}");
    assert!(!text(&body["error_description"]).is_empty());
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers.contains_key("www-authenticate"), status == StatusCode::UNAUTHORIZED);
    body
}

fn claims(token: &Value) -> Value {
    let token = text(token);
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn a_client_gets_a_token_for_one_backend_with_what_is_granted_there() {
    let (app, instance) = started().await;
    let answer = ask(&app, &instance, &[("resource", AI)]).await;
    let body = answer.expect(StatusCode::OK);
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(8 * 3600)));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let claims = claims(&body["access_token"]);
    assert_eq!(claims["aud"], json!([AI]));
    let scopes: Vec<String> = claims["scopes"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(text(&body["scope"]), scopes.join(" "));
    assert!(scopes.contains(&"duo_chat".to_owned()), "{scopes:?}");

    // The same backend by its name, and the same request again: the same token, and no row more.
    let again = ask(&app, &instance, &[("audience", "ai_gateway")]).await.expect(StatusCode::OK);
    assert_eq!(again["access_token"], body["access_token"]);
    let rows: i64 = sqlx::query_scalar("select count(*) from issuances")
        .fetch_one(&mut *app.database().await)
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn asking_for_less_gives_less_and_asking_for_more_is_refused() {
    let (app, instance) = started().await;
    let body = ask(&app, &instance, &[("resource", AI), ("scope", "duo_chat")]).await.expect(StatusCode::OK);
    assert_eq!(body["scope"], "duo_chat");
    assert_eq!(claims(&body["access_token"])["scopes"], json!(["duo_chat"]));
    for scope in ["duo_chat ask_epic", "no_such_thing", "Duo-Chat", "duo_workflow_execute_workflow"] {
        let answer = ask(&app, &instance, &[("resource", AI), ("scope", scope)]).await;
        refused(&answer, StatusCode::BAD_REQUEST, "invalid_scope");
    }
}

#[tokio::test]
async fn each_wrong_request_has_the_code_of_the_standard() {
    let (app, instance) = started().await;
    for (pairs, error) in [
        (vec![], "invalid_target"),
        (vec![("resource", "https://elsewhere.example")], "invalid_target"),
        (vec![("resource", AI), ("resource", "gitlab-duo-workflow-service")], "invalid_target"),
        (vec![("resource", AI), ("audience", "gitlab-duo-workflow-service")], "invalid_target"),
        (vec![("resource", AI), ("scope", "duo_chat"), ("scope", "duo_chat")], "invalid_request"),
        (vec![("resource", AI), ("client_secret", "tai_x")], "invalid_request"),
    ] {
        refused(&ask(&app, &instance, &pairs).await, StatusCode::BAD_REQUEST, error);
    }
    let basic = |request: RequestBuilder| request.basic_auth(&instance.uid, Some(&instance.secret));
    for (pairs, error) in [
        (vec![("resource", AI)], "invalid_request"),
        (vec![("grant_type", "password"), ("resource", AI)], "unsupported_grant_type"),
        (vec![("grant_type", ""), ("resource", AI)], "invalid_request"),
    ] {
        refused(&send(basic(form(&app, &pairs))).await, StatusCode::BAD_REQUEST, error);
    }
    let json =
        basic(app.request(Method::POST, "/oauth/token")).json(&json!({ "grant_type": "client_credentials" }));
    refused(&send(json).await, StatusCode::BAD_REQUEST, "invalid_request");
    // What stands in an address ends up in logs: refused, even beside a request that would do.
    let address = format!("/oauth/token?client_secret={}", instance.secret);
    let request = basic(app.request(Method::POST, &address))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("grant_type=client_credentials&resource={AI}"));
    refused(&send(request).await, StatusCode::BAD_REQUEST, "invalid_request");
}

#[tokio::test]
async fn unknown_wrong_and_missing_clients_are_told_alike() {
    let (app, instance) = started().await;
    let other = activate(&app, &sell(&app, None, 1).await.activation_code).await;
    let mut told = std::collections::BTreeSet::new();
    for (uid, secret) in
        [(&instance.uid, &other.secret), (&fresh_uuid(), &instance.secret), (&instance.uid, &String::new())]
    {
        let wrong = Instance { uid: uid.clone(), secret: secret.clone(), ..instance.clone() };
        let body = refused(
            &ask(&app, &wrong, &[("resource", AI)]).await,
            StatusCode::UNAUTHORIZED,
            "invalid_client",
        );
        told.insert(body.to_string());
    }
    let none = send(form(&app, &[("grant_type", "client_credentials"), ("resource", AI)])).await;
    told.insert(refused(&none, StatusCode::UNAUTHORIZED, "invalid_client").to_string());
    // A secret in the body is no way to authenticate here.
    let posted = [
        ("grant_type", "client_credentials"),
        ("resource", AI),
        ("client_id", &instance.uid),
        ("client_secret", &instance.secret),
    ];
    told.insert(
        refused(&send(form(&app, &posted)).await, StatusCode::UNAUTHORIZED, "invalid_client").to_string(),
    );
    let named = ask(&app, &instance, &[("resource", AI), ("client_id", &other.uid)]).await;
    told.insert(refused(&named, StatusCode::UNAUTHORIZED, "invalid_client").to_string());
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn id_and_secret_may_be_form_encoded_before_they_are_joined() {
    let (app, instance) = started().await;
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect()
    };
    let pair = format!("{}:{}", escaped(&instance.uid), escaped(&instance.secret));
    let request = form(&app, &[("grant_type", "client_credentials"), ("resource", AI)])
        .header("authorization", format!("Basic {}", STANDARD.encode(pair)));
    send(request).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_assertion_counts_once_an_identical_retry_apart() {
    let app = TestApp::start().await;
    let (installation, uid) = with_key(&app).await;
    let assertion = installation
        .jws(&json!({ "alg": "EdDSA", "typ": "JWT" }), &installation.assertion_claims(&app, &uid));
    let first = assert_by(&app, &assertion, &[]).await.expect(StatusCode::OK);
    let retried = assert_by(&app, &assertion, &[]).await.expect(StatusCode::OK);
    assert_eq!(retried["access_token"], first["access_token"]);
    let other = assert_by(&app, &assertion, &[("scope", "duo_chat")]).await;
    refused(&other, StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn assertions_that_are_not_exactly_right_are_refused() {
    let app = TestApp::start().await;
    let (installation, uid) = with_key(&app).await;
    let now = app.clock.now().timestamp();
    let good = || installation.assertion_claims(&app, &uid);
    let changed = |member: &str, value: Value| {
        let mut claims = good();
        claims[member] = value;
        claims
    };
    let header = json!({ "alg": "EdDSA", "typ": "JWT" });
    for (what, header, claims) in [
        ("a second audience", &header, changed("aud", json!([ISSUER, "https://elsewhere.example"]))),
        ("another audience", &header, changed("aud", json!(format!("{ISSUER}/oauth/token")))),
        ("an end an hour ahead", &header, changed("exp", json!(now + 3600))),
        ("an end that has passed", &header, changed("exp", json!(now - 60))),
        ("no end", &header, changed("exp", Value::Null)),
        ("another subject", &header, changed("sub", json!(fresh_uuid()))),
        ("no jti", &header, changed("jti", json!(""))),
        ("another type", &json!({ "alg": "EdDSA", "typ": "at+jwt" }), good()),
        ("a proof's type", &json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" }), good()),
        ("no signature", &json!({ "alg": "none", "typ": "JWT" }), good()),
        ("another algorithm", &json!({ "alg": "HS256", "typ": "JWT" }), good()),
        ("an extension", &json!({ "alg": "EdDSA", "typ": "JWT", "crit": ["b64"] }), good()),
    ] {
        let answer = assert_by(&app, &installation.jws(header, &claims), &[]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{what}: {answer:?}");
        refused(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
        app.app.failed_authentications.tidy();
    }
    let by_another = Installation::new(8).jws(&header, &good());
    refused(&assert_by(&app, &by_another, &[]).await, StatusCode::UNAUTHORIZED, "invalid_client");
}

#[tokio::test]
async fn what_stands_against_the_instance_is_an_unauthorized_client_with_a_page_on_why() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let license = send(app.admin(Method::GET, &format!("/admin/v1/licenses/{}", sold.license_id))).await;
    let revoke = app
        .admin(Method::POST, &format!("/admin/v1/licenses/{}:revoke", sold.license_id))
        .header("if-match", license.headers["etag"].clone())
        .json(&json!({ "reason": "fraud" }));
    assert!(send(revoke).await.status.is_success());
    let body = refused(
        &ask(&app, &instance, &[("resource", AI)]).await,
        StatusCode::BAD_REQUEST,
        "unauthorized_client",
    );
    assert_eq!(body["error_uri"], format!("{ISSUER}/problems/license_revoked"));
}

#[tokio::test]
async fn the_metadata_names_what_there_is() {
    let app = TestApp::start().await;
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let found = send(app.request(Method::GET, path)).await.expect(StatusCode::OK);
        assert_eq!(found["issuer"], ISSUER, "{path}");
        assert_eq!(found["token_endpoint"], format!("{ISSUER}/oauth/token"), "{path}");
        assert_eq!(found["jwks_uri"], format!("{ISSUER}/.well-known/jwks.json"), "{path}");
        assert_eq!(
            found["token_endpoint_auth_methods_supported"],
            json!(["private_key_jwt", "client_secret_basic"])
        );
    }
}
