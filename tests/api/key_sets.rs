//! Public keys over HTTP: what is published now, and every key set under its number.

use reqwest::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority_verifier::{Digest, KeySet, SignedManifest, SignedRoot};

use crate::support::app::{TestApp, send};

#[tokio::test]
async fn the_published_keys_are_plain_jwks_at_both_addresses() {
    let app = TestApp::start().await;
    let file = app.deployment().keys.path().join("development/0001.jwks.json");
    let published = std::fs::read_to_string(file).unwrap();
    for path in ["/.well-known/jwks.json", "/oauth/discovery/keys"] {
        let answer = send(app.request(Method::GET, path)).await;
        assert_eq!((answer.status, &answer.text), (StatusCode::OK, &published), "{path}");
        assert_eq!(answer.headers[CACHE_CONTROL], "public, max-age=300");
    }
    assert_eq!(KeySet::parse(published.as_bytes()).unwrap().iter().len(), 2);

    let discovery = send(app.request(Method::GET, "/.well-known/openid-configuration")).await;
    let discovery = discovery.expect(StatusCode::OK);
    let issuer = discovery["issuer"].as_str().unwrap();
    assert_eq!(discovery["jwks_uri"], format!("{issuer}/.well-known/jwks.json"));
}

/// Whoever discovers keys must lose a revoked one at the next look.
#[tokio::test]
async fn a_revoked_key_is_published_no_longer() {
    let app = TestApp::start().await;
    let mut connection = app.deployment().database.connection().await;
    // With the triggers off: there is no command for it yet.
    let revoke = "set session_replication_role = replica; \
         update signing_keys set state = 'revoked', ended_at = now(), denial = 'always', sealed = null, \
                sealed_by = null, sealed_version = null \
         where purpose = 'access_tokens' and state = 'active'";
    sqlx::raw_sql(revoke).execute(&mut connection).await.unwrap();
    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await.expect(StatusCode::OK);
    assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_key_set_is_found_by_its_number_and_verifies_as_published() {
    let app = TestApp::start().await;
    let folder = app.deployment().keys.path().join("development");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (jwks, manifest) = (read("0001.jwks.json"), read("0001.manifest.json"));

    let list = send(app.request(Method::GET, "/v1/key-sets")).await.expect(StatusCode::OK);
    let digest = Digest::of(jwks.as_bytes()).to_string();
    let item = json!({ "version": 1, "digest": digest, "created": "2026-11-20T12:00:00Z" });
    assert_eq!(list, json!({ "items": [item], "head": 1, "floor": 1 }));

    let expected = format!(r#"{{"version":1,"digest":"{digest}","manifest":{manifest},"jwks":{jwks}}}"#);
    for (path, cache_control) in [
        ("/v1/key-sets/1", "public, max-age=31536000, immutable"),
        ("/v1/key-sets/latest", "public, max-age=300"),
    ] {
        let answer = send(app.request(Method::GET, path)).await;
        assert_eq!(
            (answer.status, &answer.text),
            (StatusCode::OK, &expected),
            "the published bytes, at {path}"
        );
        assert_eq!(answer.headers[CACHE_CONTROL], cache_control);
    }

    let root = SignedRoot::parse(read("root/1.root.json").as_bytes()).unwrap();
    let root = root.verify_pinned(root.digest()).unwrap();
    let document: Value = serde_json::from_str(&expected).unwrap();
    let manifest = SignedManifest::parse(document["manifest"].to_string().as_bytes()).unwrap();
    manifest.verify(&root).unwrap().matches(jwks.as_bytes()).unwrap();
}

#[tokio::test]
async fn who_has_the_newest_bytes_is_told_so_without_them() {
    let app = TestApp::start().await;
    for path in
        ["/.well-known/jwks.json", "/v1/key-sets", "/v1/key-sets/1", "/v1/key-sets/latest", "/v1/catalog"]
    {
        let first = send(app.request(Method::GET, path)).await;
        let etag = first.headers[ETAG].to_str().unwrap().to_owned();
        for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
            let again = send(app.request(Method::GET, path).header(IF_NONE_MATCH, known)).await;
            assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
            assert_eq!(again.headers[ETAG].to_str().unwrap(), etag);
        }
        let changed = send(app.request(Method::GET, path).header(IF_NONE_MATCH, "\"other\"")).await;
        assert_eq!((changed.status, changed.text), (StatusCode::OK, first.text), "{path}");
    }
}

#[tokio::test]
async fn what_is_no_version_is_not_found() {
    let app = TestApp::start().await;
    for version in ["0", "2", "01", "-1", "1.0", "4294967296", "head", "%31%00"] {
        let answer = send(app.request(Method::GET, &format!("/v1/key-sets/{version}"))).await;
        answer.refused(StatusCode::NOT_FOUND, "not_found");
    }
    let posted = send(app.request(Method::POST, "/v1/key-sets/1")).await;
    posted.refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
}
