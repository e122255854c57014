//! RS256 beside EdDSA: a key of each, chosen for each backend by what it was registered with.

use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::{Algorithm, KeySet, Verifier};

use crate::support::app::{ISSUER, TestApp, activate, beginning, sell, send, text};

/// Registers the backend of the AI gateway as one that verifies RS256 alone.
async fn register(app: &TestApp, name: &str, alg: &str) {
    let backend = json!({ "name": name, "alg": alg, "trust": "embedded", "min_live": 0 });
    app.admin_post("/admin/v1/backends", backend).await;
}

fn header(token: &str) -> Value {
    let header = jsonwebtoken::decode_header(token).unwrap();
    json!({ "alg": format!("{:?}", header.alg), "typ": header.typ, "kid": header.kid })
}

#[tokio::test]
async fn each_backend_gets_tokens_of_the_algorithm_that_it_was_registered_with() {
    let app = TestApp::start_with(&[("TOKEN_ALGS", "EdDSA,RS256")]).await;
    register(&app, "ai_gateway", "RS256").await;
    register(&app, "duo_workflow_service", "EdDSA").await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    let body = json!({ "version": "17.6.1" });
    let synced = instance.sync(&app, &body).await.expect(StatusCode::OK);

    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await;
    let keys = KeySet::parse(jwks.text.as_bytes()).unwrap();
    let algs: Vec<_> = keys.iter().map(token_authority_verifier::Jwk::algorithm).collect();
    assert_eq!(
        algs.iter().filter(|alg| **alg == Algorithm::Rs256).count(),
        2,
        "one that signs, one beside it"
    );
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(beginning().timestamp().unsigned_abs());
    let tokens = synced["tokens"].as_array().unwrap();
    assert!(tokens.len() >= 2, "{synced}");
    for token in tokens {
        let (compact, audience) = (text(&token["token"]), text(&token["audience"]));
        let expected = if token["backend"] == "ai_gateway" { "RS256" } else { "EdDSA" };
        assert_eq!(header(&compact)["alg"], expected, "{token}");
        assert_eq!(header(&compact)["typ"], "at+jwt");
        Verifier::from_key_set(&keys, ISSUER, audience).verify(&compact, now).unwrap();
    }

    // The same again is a retry, byte for byte: RSA signatures of this kind have no randomness in them.
    let again = instance.sync(&app, &body).await.expect(StatusCode::OK);
    assert_eq!(again["tokens"], synced["tokens"]);
    let discovery = send(app.request(Method::GET, "/.well-known/openid-configuration")).await;
    let discovery = discovery.expect(StatusCode::OK);
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["EdDSA", "RS256"]));
}

#[tokio::test]
async fn a_backend_whose_algorithm_has_no_key_gets_no_token_and_the_others_go_on() {
    let app = TestApp::start().await;
    // As if minting with its algorithm had been stopped after it was registered.
    sqlx::query(
        "insert into backends (name, alg, trust, min_live, created_at, updated_at) \
         values ('ai_gateway', 'RS256', 'embedded', 0, now(), now())",
    )
    .execute(&mut *app.database().await)
    .await
    .unwrap();
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    let synced = instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    let backends: Vec<_> =
        synced["tokens"].as_array().unwrap().iter().map(|one| text(&one["backend"])).collect();
    assert!(!backends.is_empty() && !backends.contains(&"ai_gateway".to_owned()), "{synced}");

    // It is told, and when to ask again; the others' answers do not suffer.
    let withheld = &synced["withheld"];
    assert_eq!(
        (&withheld[0]["backend"], &withheld[0]["code"], &withheld[1]),
        (&json!("ai_gateway"), &json!("no_signing_key"), &Value::Null)
    );
    assert!(text(&withheld[0]["detail"]).contains("RS256") && !text(&withheld[0]["remedy"]).is_empty());
    let refresh_after: chrono::DateTime<chrono::Utc> = text(&synced["refresh_after"]).parse().unwrap();
    assert!(refresh_after <= beginning() + chrono::TimeDelta::minutes(5), "{synced}");
    let ready = send(app.request(Method::GET, "/health/ready")).await.expect(StatusCode::OK);
    let told = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "signing_key");
    assert!(text(&told.unwrap()["detail"]).contains("ai_gateway (RS256)"), "{ready}");

    let only = json!({ "version": "17.6.1", "backends": ["ai_gateway"] });
    instance.sync(&app, &only).await.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");

    // With a key there is nothing to tell.
    sqlx::query("update backends set alg = 'EdDSA'").execute(&mut *app.database().await).await.unwrap();
    let served = instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    assert_eq!(served["withheld"], Value::Null, "{served}");
    assert!(served["tokens"].as_array().unwrap().iter().any(|token| token["backend"] == "ai_gateway"));
}

/// A verifier refuses whatever a key signs after its end: then nothing is signed, and that is told.
#[tokio::test]
async fn a_key_that_has_come_to_its_end_signs_nothing_and_readiness_says_so() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    sqlx::raw_sql(
        "set session_replication_role = replica; \
         update signing_keys set not_after = '2026-11-20T12:00:20Z', generated_at = '2026-01-01Z' \
         where purpose = 'access_tokens' and state = 'active'; \
         set session_replication_role = origin",
    )
    .execute(&mut *app.database().await)
    .await
    .unwrap();
    let refused = instance.sync(&app, &json!({ "version": "17.6.1" })).await;
    refused.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    app.clock.set(beginning() + chrono::TimeDelta::minutes(1));
    let ready = send(app.request(Method::GET, "/health/ready")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");
    assert!(ready.text.contains("no signing key is active"), "{ready:?}");
}

/// The joint token of an older instance, and whom it names.
async fn joint(app: &TestApp) -> (Value, Vec<String>) {
    let sold = sell(app, Some("duo_pro"), 1).await;
    let license = json!({
        "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 1, "legacy_bearer": true,
    });
    let license = app.admin_post("/admin/v1/licenses", license).await;
    let ask = async |query: String| {
        send(app.request(Method::POST, "/graphql").json(&json!({ "query": query })))
            .await
            .expect(StatusCode::OK)
    };
    let (code, id) = (text(&license["activation_code"]), crate::support::app::fresh_uuid());
    let activated = ask(format!(
        "mutation {{ cloudActivationActivate(input: {{activationCode: {code:?}, instanceIdentifier: {id:?}, \
         uniqueInstanceId: {id:?}, gitlabVersion: \"17.6.1\", hostname: \"h.example\"}}) {{ licenseKey errors }} }}"
    ))
    .await;
    let key = text(&activated["data"]["cloudActivationActivate"]["licenseKey"]);
    let access = ask(format!(
        "{{ cloudConnectorAccess(licenseKey: {key:?}, gitlabVersion: \"17.6.1\") {{ serviceToken {{ token }} }} }}"
    ))
    .await;
    let compact = text(&access["data"]["cloudConnectorAccess"]["serviceToken"]["token"]);
    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await;
    let keys = KeySet::parse(jwks.text.as_bytes()).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(app.clock.now().timestamp().unsigned_abs());
    let payload = token_authority_verifier::Unverified::decode(&compact).unwrap().payload().to_owned();
    let claims: Value = serde_json::from_str(&payload).unwrap();
    let audiences: Vec<String> = claims["aud"].as_array().unwrap().iter().map(text).collect();
    // Whoever is named can verify it.
    for audience in &audiences {
        Verifier::from_key_set(&keys, ISSUER, audience.clone()).verify(&compact, now).unwrap();
    }
    (header(&compact)["alg"].clone(), audiences)
}

#[tokio::test]
async fn a_joint_token_has_an_algorithm_that_everyone_in_it_verifies() {
    let both = [("TOKEN_ALGS", "EdDSA,RS256")];
    let all = [
        "gitlab-ai-gateway",
        "gitlab-duo-workflow-service",
        "gitlab-observability-backend",
        "gitlab-security-gateway",
    ];
    let without_ai = &all[1..];

    // 1. All of them know the same one.
    let app = TestApp::start_with(&both).await;
    assert_eq!(joint(&app).await, (json!("EdDSA"), all.map(str::to_owned).to_vec()));
    for name in ["ai_gateway", "duo_workflow_service", "observability_backend", "security_gateway"] {
        register(&app, name, "RS256").await;
    }
    assert_eq!(joint(&app).await, (json!("RS256"), all.map(str::to_owned).to_vec()));

    // 2. They differ: the configured algorithm decides, and whoever does not know it is left out.
    let app = TestApp::start_with(&both).await;
    register(&app, "ai_gateway", "RS256").await;
    let (alg, audiences) = joint(&app).await;
    assert_eq!(
        (alg, audiences.as_slice()),
        (json!("EdDSA"), &*without_ai.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    );
    let rsa = app.another_with(&[("JOINT_TOKEN_ALG", "RS256"), both[0]]).await;
    assert_eq!(joint(&rsa).await, (json!("RS256"), vec![all[0].to_owned()]));
}
