//! Law 10: a secret is shown once, stored as a digest or sealed, and never printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use token_authority::config::Settings;
use token_authority::domain::credential::{Credential, CredentialKind};
use token_authority::keystore::root_key::RootKey;
use token_authority::keystore::sealing::LocalKek;

use super::refusals::{Credentials, filled, operations};
use crate::support::app::{Answer, TestApp, activate, fresh_uuid, sell, send, text};
use crate::support::installation::Installation;
use crate::support::program::{DATABASE_PASSWORD, Deployment, ISSUER, KEK, Serving};

/// What a whole run printed and answered, and the secrets that were in it.
struct Run {
    deployment: Deployment,
    serving: Serving,
    http: reqwest::Client,
    credentials: Credentials,
    /// Each with the place where it was shown: nowhere else may it be.
    secrets: BTreeMap<String, &'static str>,
    /// Everything else that anybody can read.
    outputs: Vec<(String, String)>,
}

impl Run {
    async fn start() -> Self {
        let mut deployment = Deployment::initialized().await;
        // Everything that our own code can say, and what the libraries say at `debug`.
        deployment
            .set("TOKEN_AUTHORITY_LOG_FILTER", "debug,token_authority=trace,token_authority_verifier=trace");
        let serving = deployment.serve();
        let credentials = Credentials::of(&deployment, &serving).await;
        let mut run = Self {
            deployment,
            serving,
            http: reqwest::Client::new(),
            credentials,
            secrets: BTreeMap::new(),
            outputs: Vec::new(),
        };
        let Credentials { admin, backend, activation_code, instance } = &run.credentials;
        let basic = BASE64_STANDARD.encode(format!("{}:{}", instance.uid, instance.secret));
        let root = fs::read_to_string(run.deployment.path("root")).unwrap();
        let root = root.lines().find(|line| line.len() > 40).unwrap().to_owned();
        for (secret, what) in [
            (admin.clone(), "the admin token"),
            (backend.clone(), "the backend's token"),
            (activation_code.clone(), "the activation code"),
            (instance.secret.clone(), "the instance's secret"),
            (basic, "what Basic authentication sends"),
            (root, "the root's private half"),
            (KEK.trim().trim_end_matches('=').to_owned(), "the key-encryption key"),
            (DATABASE_PASSWORD.to_owned(), "the database's password"),
        ] {
            run.secrets.insert(secret, what);
        }
        run
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.serving.base_url))
    }

    /// Sends what shows secrets, and takes them from the answer.
    async fn shows(&mut self, what: &'static str, request: reqwest::RequestBuilder) -> Value {
        let answer = send(request).await;
        assert!(answer.status.is_success(), "{what}: {answer:?}");
        let found = credentials_in(&answer.text);
        assert!(!found.is_empty(), "{what} was not shown: {answer:?}");
        self.secrets.extend(found.into_iter().map(|secret| (secret, what)));
        answer.json()
    }

    /// Sends anything else: its answer is an output like a log.
    async fn tells(&mut self, about: &str, request: reqwest::RequestBuilder) -> Answer {
        let answer = send(request).await;
        self.outputs
            .push((format!("the answer of {about}"), format!("{:?} {}", answer.headers, answer.text)));
        answer
    }

    /// Runs a command, whatever becomes of it.
    fn command(&mut self, arguments: &[&str]) {
        for format in ["table", "json"] {
            let output = self.deployment.run(&[arguments, &["--format", format]].concat());
            assert_ne!(output.status.code(), Some(2), "{arguments:?} is no command: {output:?}");
            for printed in [output.stdout, output.stderr] {
                let printed = String::from_utf8_lossy(&printed).into_owned();
                self.outputs.push((format!("what {} printed", arguments.join(" ")), printed));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_whole_run_is_anywhere_but_in_the_answer_that_showed_it() {
    let mut run = Run::start().await;
    let (admin, code) = (run.credentials.admin.clone(), run.credentials.activation_code.clone());
    let instance = run.credentials.instance.clone();
    let as_instance =
        |request: reqwest::RequestBuilder| request.basic_auth(&instance.uid, Some(&instance.secret));

    // Everything that shows a secret, twice with a key: the second answer comes from what was kept.
    let token = json!({ "name": "script", "scopes": ["fulfillment:read"] });
    let licenses: Value =
        send(run.request(Method::GET, "/admin/v1/licenses").bearer_auth(&admin)).await.json();
    let license = format!("/admin/v1/licenses/{}", text(&licenses["items"][0]["id"]));
    for _ in 0..2 {
        let request = run.request(Method::POST, "/admin/v1/admin-tokens").bearer_auth(&admin).json(&token);
        run.shows("another admin token", request.header("idempotency-key", "a")).await;
        let request =
            run.request(Method::POST, "/admin/v1/backends/ai_gateway:rotate-token").bearer_auth(&admin);
        run.shows("another backend's token", request.header("idempotency-key", "b").json(&json!({}))).await;
        let request = as_instance(run.request(Method::POST, "/v1/instances/me/credential"));
        run.shows("a rotated secret", request.header("idempotency-key", "c")).await;
        let request = as_instance(run.request(Method::POST, "/v1/sync"));
        run.shows("a token", request.json(&json!({ "version": "18.5.0", "explain": true }))).await;
        let new = crate::support::app::activation(&code, &fresh_uuid());
        run.shows("another instance's secret", run.request(Method::POST, "/v1/instances").json(&new)).await;
    }
    by_key(&mut run, &code).await;
    let etag = send(run.request(Method::GET, &license).bearer_auth(&admin)).await.headers["etag"].clone();
    let request = run.request(Method::POST, &format!("{license}:reissue")).bearer_auth(&admin);
    let reissued =
        run.shows("another activation code", request.header("if-match", etag).json(&json!({}))).await;
    let new_code = text(&reissued["activation_code"]);

    // Refusals and malformed requests talk more than successes do.
    let all: Vec<String> = run.secrets.keys().cloned().collect();
    let secret = all.join(" ");
    for (path, body) in [
        ("/v1/instances", json!({ "activation_code": new_code, "instance_id": "no uuid" })),
        ("/v1/instances", json!({ "activation_code": format!("{code}x") })),
        ("/v1/instances", json!({ "activation_code": [code] })),
        ("/v1/sync", json!([code])),
        (
            "/v1/sync",
            json!({ "version": "18.5.0", "hostname": 7, "usage": { "token": [secret] }, "explain": "x" }),
        ),
        ("/v1/instances/me/access", json!({ "disabled_unit_primitives": [7] })),
    ] {
        let method = if path.ends_with("access") { Method::PUT } else { Method::POST };
        let request = as_instance(run.request(method, path)).json(&body);
        let answer = run.tells(path, request).await;
        assert!(answer.status.is_client_error(), "{path}: {answer:?}");
    }
    for header in
        [format!("Bearer {admin}x"), format!("Bearer {new_code}"), format!("Basic {new_code}"), admin.clone()]
    {
        for path in ["/admin/v1/customers", "/v1/entitlements"] {
            let request = run.request(Method::GET, path).header("authorization", &header);
            let answer = run.tells(path, request).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        }
    }

    // Whatever can be read, by whoever may read most.
    for (method, path) in operations(&run.http, &run.serving.base_url).await {
        if method == Method::GET {
            let uid = if path.contains("/instances/") { instance.uid.as_str() } else { "ai_gateway" };
            let request = run.request(method, &filled(&path, uid));
            let request =
                if path.starts_with("/admin/") { request.bearer_auth(&admin) } else { as_instance(request) };
            run.tells(&path, request).await;
        }
    }
    let metrics = run.http.get(&run.serving.metrics_url);
    run.tells("the metrics", metrics).await;

    // The command line.
    let token = run.secrets.iter().find(|(_, what)| **what == "a token").unwrap().0.clone();
    let bad = format!("{token}x");
    let key_set = run.deployment.path("keys/staging/0001.jwks.json").display().to_string();
    for arguments in [
        &["keys", "list"][..],
        &["audit", "verify"],
        &["catalog", "show"],
        &["config", "show"],
        &["init"],
        &["migrate"],
        &["token", "inspect", &token],
        &[
            "token",
            "verify",
            &bad,
            "--key-set",
            &key_set,
            "--audience",
            "gitlab-ai-gateway",
            "--issuer",
            ISSUER,
        ],
        &[
            "token",
            "verify",
            &new_code,
            "--key-set",
            &key_set,
            "--audience",
            "gitlab-ai-gateway",
            "--issuer",
            ISSUER,
        ],
    ] {
        run.command(arguments);
    }

    run.serving.terminate();
    assert_eq!(run.serving.wait(), Some(0));
    let log = run.serving.log_text();
    assert!(log.contains("\"http.route\":\"/v1/sync\""), "the log says nothing about a sync: {log}");
    run.outputs.push(("the log".to_owned(), log));
    let mut connection = run.deployment.connection().await;
    run.outputs.extend(database(&mut connection).await);
    run.outputs.extend(published(&run.deployment.path("keys")));

    let kinds: BTreeSet<_> = run.secrets.values().collect();
    assert!(kinds.len() >= 15 && run.outputs.len() > 60, "{kinds:?}, {} outputs", run.outputs.len());
    for (secret, what) in &run.secrets {
        // A part is as bad as the whole; a prefix that all of a kind share is none.
        let telling = &secret[secret.len() / 2..];
        assert!(telling.len() >= 10, "{what} is too short to be looked for");
        let spelled = [telling.to_owned(), hex(secret.as_bytes()), BASE64_STANDARD.encode(secret)];
        for (place, output) in &run.outputs {
            for spelled in &spelled {
                assert!(!output.contains(spelled.trim_end_matches('=')), "{place} holds {what}: {secret}");
            }
        }
    }
}

/// An installation with a key of its own: its proofs and assertions open things, too.
async fn by_key(run: &mut Run, code: &str) {
    let installation = Installation::new(5);
    let now = now();
    let id = &installation.instance_id;
    let claims =
        json!({ "aud": ISSUER, "instance_id": id, "iat": now, "exp": now + 50, "jti": fresh_uuid() });
    let proof = installation.jws(&json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" }), &claims);
    let mut body = crate::support::app::activation(code, id);
    body["public_key"] = installation.public_key();
    body["proof"] = json!(proof);
    let activated =
        run.tells("an activation by key", run.request(Method::POST, "/v1/instances").json(&body)).await;
    let uid = text(&activated.expect(StatusCode::CREATED)["instance_uid"]);
    let claims =
        json!({ "iss": uid, "sub": uid, "aud": ISSUER, "iat": now, "exp": now + 50, "jti": fresh_uuid() });
    let assertion = installation.jws(&json!({ "alg": "EdDSA", "typ": "JWT" }), &claims);
    let request = run.request(Method::POST, "/v1/sync").bearer_auth(&assertion);
    run.shows("a token by assertion", request.json(&json!({ "version": "18.5.0" }))).await;
    // Their signatures: the claims are no secret.
    for (jws, what) in [(proof, "an activation proof"), (assertion, "a client assertion")] {
        run.secrets.insert(jws.rsplit_once('.').unwrap().1.to_owned(), what);
    }
}

/// In seconds since 1970, by the clock that the program goes by.
#[expect(clippy::disallowed_methods, reason = "the program that is tested reads the same clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Every credential in a text: by its prefix, or in the form of a compact JWS.
fn credentials_in(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let words = text.split(|c| !is_word(c)).filter(|word| word.len() > 40);
    let found = words.filter(|word| {
        ["tac_", "taa_", "tab_", "tai_"].iter().any(|prefix| word.starts_with(prefix))
            || (word.starts_with("eyJ") && word.matches('.').count() == 2)
    });
    found.map(str::to_owned).collect()
}

/// Every row of every table as text; what is binary as hexadecimal digits.
async fn database(connection: &mut PgConnection) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = 'public' and c.relkind = 'r' order by 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut texts = Vec::new();
    for table in tables {
        let sql =
            AssertSqlSafe(format!("select coalesce(string_agg(to_jsonb(t)::text, ' '), '') from {table} t"));
        let text: String = sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap();
        texts.push((format!("the table {table}"), text));
    }
    for table in ["instance_credentials", "idempotency_keys", "audit_events", "issuances"] {
        let is_filled = |(name, text): &(String, String)| name.contains(table) && !text.is_empty();
        assert!(texts.iter().any(is_filled), "nothing is in {table}");
    }
    let audited = texts.iter().find(|(name, _)| name == "the table audit_events").unwrap();
    assert!(audited.1.contains("instance.rotate_credential"), "{}", audited.1);
    texts
}

/// The files that a deployment publishes.
fn published(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(published(&path));
        } else {
            files.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    files
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_a_secret_says_nothing_of_it_when_it_is_debugged() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let secret = Credential::parse(CredentialKind::InstanceSecret, &instance.secret).unwrap();
    let root_file = app.deployment().keys.path().join("root.pem");
    let root = RootKey::read(&root_file).unwrap();
    let pem = fs::read_to_string(&root_file).unwrap();
    let kek = LocalKek::new(&[0x5a; 32]).unwrap();
    let url = "postgres://someone:correct-horse-battery@localhost/tokens";
    let settings = [("TOKEN_AUTHORITY_DATABASE_URL".to_owned(), url.to_owned())];
    let settings = Settings::from_sources(None, settings).unwrap();
    let string = SecretString::from(url);

    let debugged: Vec<(&str, String)> = vec![
        ("a credential", format!("{secret:?}")),
        ("the application", format!("{:?}", app.app)),
        ("the keystore", format!("{:?}", app.app.keystore)),
        ("the root key", format!("{root:?}")),
        ("the key-encryption key", format!("{kek:?}")),
        ("the settings", format!("{settings:?}")),
        ("a secret string", format!("{string:?}")),
    ];
    let secrets = [
        instance.secret,
        app.deployment().admin_token.clone(),
        pem.lines().find(|line| line.len() > 40).unwrap().to_owned(),
        "correct-horse-battery".to_owned(),
        // Bytes, as `Debug` writes them.
        "90, 90, 90".to_owned(),
        "7, 7, 7, 7".to_owned(),
        hex(&[0x5a; 8]),
    ];
    for (what, text) in &debugged {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{what} says {secret}: {text}");
        }
    }
}
