//! A deployment as its operator lives with it: from an empty database to tokens, a clean stop, and clear refusals.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::foreign::library::Library;
use crate::foreign::question::{Case, Question};
use crate::support::durable::durable_cluster;
use crate::support::program::{DATABASE_PASSWORD, Deployment, ISSUER, KEK, Serving, answer, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_database_to_tokens_that_libraries_we_did_not_write_accept() {
    let deployment = Deployment::initialized().await;
    let admin = admin_token(&deployment);
    let mut serving = deployment.serve();
    let client = Client::new(&serving);

    let health = deployment.run(&["health"]);
    assert!(!health.status.success(), "the port is another one: {}", complaint(&health));
    let ready = client.get("/health/ready").await;
    assert_eq!((ready.0, &ready.1["status"]), (200, &json!("ready")));

    let activated = client.activate(&admin).await;
    let synced = client.sync(&activated).await;
    let tokens: Vec<&Value> = synced["tokens"].as_array().unwrap().iter().collect();
    assert!(!tokens.is_empty(), "{synced}");

    let jwks_file = deployment.path("keys/staging/0001.jwks.json");
    let jwks: Value = serde_json::from_slice(&fs::read(&jwks_file).unwrap()).unwrap();
    let mut cases = Vec::new();
    for token in &tokens {
        let (text, audience) = (token["token"].as_str().unwrap(), token["audience"].as_str().unwrap());

        let key_set = jwks_file.to_str().unwrap();
        let ours =
            ["token", "verify", text, "--key-set", key_set, "--audience", audience, "--issuer", ISSUER];
        let verified = deployment.run(&ours);
        assert!(verified.status.success(), "{}", complaint(&verified));

        cases.extend(shown(text, audience));
    }
    for library in [Library::Jose, Library::PyJwt] {
        let question = Question { jwks: &jwks, issuer: ISSUER, leeway: 30, cases: &cases };
        let verdicts = library.ask(&question).unwrap();
        for (name, why) in &verdicts {
            assert_eq!(name.ends_with("as it came"), why.is_none(), "{library:?}: {name}: {why:?}");
        }
    }

    let metrics = reqwest::get(&serving.metrics_url).await.unwrap().text().await.unwrap();
    for line in [
        "token_authority_syncs_total{code=\"issued\"} 1",
        "token_authority_batch_size_count 1",
        "token_authority_oldest_waiting_seconds 0",
        "token_authority_queue_depth 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("purpose=\"access_tokens\"} 1"), "{metrics}");

    serving.terminate();
    assert_eq!(serving.wait(), Some(0), "{}", serving.log_text());
    assert_eq!(serving.log_lines().last().unwrap()["message"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_that_a_run_issues_or_reads_is_ever_logged() {
    let mut deployment = Deployment::initialized().await;
    // Everything that our own code can say, and what the libraries say at `debug`.
    deployment
        .set("TOKEN_AUTHORITY_LOG_FILTER", "debug,token_authority=trace,token_authority_verifier=trace");
    let admin = admin_token(&deployment);
    let mut serving = deployment.serve();
    let client = Client::new(&serving);

    let activated = client.activate(&admin).await;
    let synced = client.sync(&activated).await;
    let rotated = client.post_as(&activated, "/v1/instances/me/credential", &json!({})).await;
    // Refusals and malformed requests talk more than successes do.
    let code = activated.code.clone();
    for (path, body) in [
        ("/v1/instances", json!({"activation_code": code, "instance_id": "no uuid"})),
        ("/v1/instances", json!({"activation_code": format!("{code}x")})),
        ("/v1/sync", json!([code])),
    ] {
        let answered = client.post_as(&activated, path, &body).await;
        assert!(answered.0 >= 400, "{answered:?}");
    }
    let wrong = Activated { secret: format!("{}x", activated.secret), ..activated.clone() };
    assert_eq!(client.post_as(&wrong, "/v1/sync", &json!({"version": "18.5.0"})).await.0, 401);
    let refused = client.http.get(client.url("/admin/v1/customers?nonsense=1")).bearer_auth(&admin).send();
    assert_eq!(refused.await.unwrap().status(), 422);
    serving.terminate();
    assert_eq!(serving.wait(), Some(0));

    let log = serving.log_text();
    assert!(log.contains("\"http.route\":\"/v1/sync\""), "the log says nothing about a sync: {log}");
    let root = fs::read_to_string(deployment.path("root")).unwrap();
    let mut secrets = vec![
        ("the key-encryption key", KEK.trim().trim_end_matches('=').to_owned()),
        ("the database's password", DATABASE_PASSWORD.to_owned()),
        ("the root's private half", root.lines().find(|line| line.len() > 40).unwrap().to_owned()),
        ("the admin token", admin),
        ("the activation code", activated.code.clone()),
        ("the instance's secret", activated.secret.clone()),
        ("a new secret", rotated.1["instance_secret"].as_str().unwrap().to_owned()),
        ("what Basic authentication sends", basic(&activated)),
    ];
    for token in synced["tokens"].as_array().unwrap() {
        secrets.push(("a token", token["token"].as_str().unwrap().to_owned()));
    }
    for (name, secret) in secrets {
        // A part is as bad as the whole; a prefix that all of a kind share is none.
        let telling = &secret[secret.len() / 2..];
        assert!(telling.len() >= 10 && !log.contains(telling), "the log holds {name}: {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_has_begun() {
    let deployment = Deployment::initialized().await;
    let admin = admin_token(&deployment);
    let mut serving = deployment.serve();
    let client = Client::new(&serving);
    let activated = client.activate(&admin).await;

    // Nothing can be recorded, so all of them are in the middle of it when the signal comes.
    let mut connection = deployment.connection().await;
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("lock table issuances in access exclusive mode").execute(&mut *tx).await.unwrap();
    let syncs: Vec<_> = (0..SYNCS)
        .map(|_| {
            let (client, activated) = (client.clone(), activated.clone());
            tokio::spawn(async move { client.sync(&activated).await })
        })
        .collect();
    while waiting(&serving).await < SYNCS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    serving.terminate();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(client.http.get(client.url("/health/live")).send().await.is_err(), "it takes new connections");
    tx.rollback().await.unwrap();

    for sync in syncs {
        let answer = sync.await.unwrap();
        assert!(!answer["tokens"].as_array().unwrap().is_empty(), "{answer}");
    }
    let (exit, serving) = tokio::task::spawn_blocking(move || (serving.wait(), serving)).await.unwrap();
    assert_eq!(exit, Some(0), "{}", serving.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_told_and_its_return_needs_no_restart() {
    let cluster = durable_cluster().await;
    let deployment = Deployment::on(&cluster.url());
    deployment.initialize();
    let admin = admin_token(&deployment);
    let mut serving = deployment.serve();
    let client = Client::new(&serving);
    let activated = client.activate(&admin).await;
    let synced = client.sync(&activated).await;

    for is_crash in [true, false] {
        if is_crash {
            cluster.crash().await;
        } else {
            cluster.stop().await;
        }
        let request =
            client.http.post(client.url("/v1/sync")).basic_auth(&activated.uid, Some(&activated.secret));
        let refused = request.json(&json!({"version": "18.5.0"})).send().await.unwrap();
        assert_eq!(refused.status(), 503);
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "unavailable", "{problem}");
        let ready = client.get("/health/ready").await;
        assert_eq!(ready.0, 503);
        assert!(ready.1.to_string().contains("the database cannot be reached"), "{}", ready.1);
        assert_eq!(client.get("/health/live").await.0, 200);

        cluster.start().await;
        // The very next request: nothing needs time to recover.
        let again = client.sync(&activated).await;
        assert_eq!(again["tokens"], synced["tokens"], "what was promised is kept");
        assert_eq!(client.get("/health/ready").await.0, 200);
    }

    serving.terminate();
    assert_eq!(serving.wait(), Some(0));
    assert!(!serving.log_text().contains(&activated.secret));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_refused_with_its_remedy() {
    let mut deployment = Deployment::prepare().await;
    let refusal = |deployment: &Deployment, arguments: &[&str]| {
        let output = deployment.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} was not refused: {}", complaint(&output));
        complaint(&output)
    };

    assert!(refusal(&deployment, &["serve"]).contains("run `token-authority migrate`"));
    assert!(refusal(&deployment, &["migrate", "--check"]).contains("run `token-authority migrate`"));
    assert_eq!(answer(&deployment.run(&["migrate", "--format", "json"]))["applied"][0], 1);
    assert_eq!(answer(&deployment.run(&["--format", "json", "migrate"])), json!({"applied": []}));
    assert!(deployment.run(&["migrate", "--check"]).status.success());
    assert!(refusal(&deployment, &["serve"]).contains("run `token-authority init`"));
    assert!(
        refusal(&deployment, &["admin-token", "create", "--name", "a"]).contains("`token-authority init`")
    );
    assert!(deployment.run(&["init"]).status.success());

    fs::write(deployment.path("kek"), "b3RoZXIgYnl0ZXMgdGhhdCBub2JvZHkgZ3Vlc3NlcyE\n").unwrap();
    assert!(refusal(&deployment, &["serve"]).contains("`kek_file`"));
    fs::write(deployment.path("kek"), "too short\n").unwrap();
    assert!(refusal(&deployment, &["serve"]).contains("openssl rand -base64 32"));
    fs::remove_file(deployment.path("kek")).unwrap();
    assert!(refusal(&deployment, &["serve"]).contains("TOKEN_AUTHORITY_KEK_FILE"));
    deployment.set("TOKEN_AUTHORITY_KEK_FILE", "");
    deployment.set("TOKEN_AUTHORITY_ISSUER", "");
    let told = refusal(&deployment, &["serve"]);
    assert!(told.contains("`kek_file` is not set") && told.contains("`issuer` is not set"), "{told}");

    deployment.set("TOKEN_AUTHORITY_KEY_FILE", "x");
    assert!(refusal(&deployment, &["serve"]).contains("did you mean `kek_file`?"));
    assert_eq!(deployment.run(&["serve", "--nonsense"]).status.code(), Some(2));
    assert_eq!(deployment.run(&[]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_refused_and_leaves_nothing_behind() {
    let mut deployment = Deployment::initialized().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["LISTEN", "METRICS_LISTEN"] {
        deployment.set(&format!("TOKEN_AUTHORITY_{setting}"), &address);
        let output = deployment.run(&["serve"]);
        assert_eq!(output.status.code(), Some(1));
        let told = complaint(&output);
        assert!(told.contains(&setting.to_lowercase()) && told.contains(&address), "{told}");
        deployment.set(&format!("TOKEN_AUTHORITY_{setting}"), "127.0.0.1:0");
    }
}

/// Clients and load balancers connect ahead of need.
#[tokio::test(flavor = "multi_thread")]
async fn connections_on_which_nothing_was_asked_do_not_hold_a_stop_up() {
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "10m");
    let mut serving = deployment.serve();
    let address = serving.base_url.strip_prefix("http://").unwrap().to_owned();
    let never_asked = std::net::TcpStream::connect(&address).unwrap();
    // One that asked before, and is kept for the next request.
    let client = Client::new(&serving);
    assert_eq!(client.get("/health/live").await.0, 200);
    serving.terminate();
    assert_eq!(serving.wait(), Some(0), "{}", serving.log_text());
    drop(never_asked);
}

const SYNCS: usize = 16;

/// How many syncs were taken and not yet answered, where none was answered before.
async fn waiting(serving: &Serving) -> usize {
    let metrics = reqwest::get(&serving.metrics_url).await.unwrap().text().await.unwrap();
    let value = |name: &str| -> usize {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    value("token_authority_queue_depth") + value("token_authority_batch_size_sum")
}

pub(crate) fn admin_token(deployment: &Deployment) -> String {
    let output = deployment.run(&["--format", "json", "admin-token", "create", "--name", "tests"]);
    let made = answer(&output);
    assert_eq!(made["scopes"].as_array().unwrap().len(), 7);
    made["token"].as_str().unwrap().to_owned()
}

/// Asks the service over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    base_url: String,
}

/// What an instance holds after its activation.
#[derive(Clone, Debug)]
pub(crate) struct Activated {
    code: String,
    pub(crate) license_id: String,
    pub(crate) uid: String,
    pub(crate) secret: String,
}

impl Client {
    pub(crate) fn new(serving: &Serving) -> Self {
        Self { http: reqwest::Client::new(), base_url: serving.base_url.clone() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answered = self.http.get(self.url(path)).send().await.unwrap();
        (answered.status().as_u16(), answered.json().await.unwrap())
    }

    /// Sells a customer everything, and activates an instance with it.
    pub(crate) async fn activate(&self, admin: &str) -> Activated {
        let sell = async |path: &str, body: Value| {
            let request =
                self.http.post(self.url(&format!("/admin/v1/{path}"))).bearer_auth(admin).json(&body);
            let answered = request.send().await.unwrap();
            let (status, body) = (answered.status().as_u16(), answered.json::<Value>().await.unwrap());
            assert_eq!(status, 201, "{path}: {body}");
            body
        };
        let customer = sell("customers", json!({"name": "A customer"})).await;
        let terms = json!({"customer_id": customer["id"], "license_type": "ultimate", "seats": 10, "trial": false,
            "starts_at": "2026-01-01", "ends_at": "2099-01-01"});
        let subscription = sell("subscriptions", terms).await;
        let purchases = format!("subscriptions/{}/add-on-purchases", subscription["id"].as_str().unwrap());
        let purchase = json!({"add_on": "duo_enterprise", "quantity": 10, "starts_at": "2026-01-01",
            "ends_at": "2099-01-01"});
        sell(&purchases, purchase).await;
        let license = json!({"subscription_id": subscription["id"], "kind": "online", "max_instances": 1});
        let license = sell("licenses", license).await;
        let code = license["activation_code"].as_str().unwrap().to_owned();

        let body = json!({"activation_code": code, "instance_id": crate::support::app::fresh_uuid(),
            "hostname": "gitlab.example.com", "version": "18.5.0", "deployment": "self_managed"});
        let answered = self.http.post(self.url("/v1/instances")).json(&body).send().await.unwrap();
        let activated: Value = answered.json().await.unwrap();
        let text = |member: &str| {
            activated[member].as_str().unwrap_or_else(|| panic!("no {member} in {activated}")).to_owned()
        };
        let license_id = license["id"].as_str().unwrap().to_owned();
        Activated { code, license_id, uid: text("instance_uid"), secret: text("instance_secret") }
    }

    pub(crate) async fn sync(&self, instance: &Activated) -> Value {
        let (status, synced) = self.post_as(instance, "/v1/sync", &json!({"version": "18.5.0"})).await;
        assert_eq!(status, 200, "{synced}");
        synced
    }

    pub(crate) async fn post_as(&self, instance: &Activated, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).basic_auth(&instance.uid, Some(&instance.secret));
        let answered = request.json(body).send().await.unwrap();
        (answered.status().as_u16(), answered.json().await.unwrap())
    }
}

fn basic(instance: &Activated) -> String {
    BASE64_STANDARD.encode(format!("{}:{}", instance.uid, instance.secret))
}

/// A token as it came, what an attacker could make of it without any private half, and where it is no use.
fn shown(token: &str, audience: &str) -> Vec<Case> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token} is no compact JWS") };
    let decoded = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL.decode(part).unwrap()).unwrap();
    let with = |part: &str, member: &str, value: Value| {
        let mut changed = decoded(part);
        changed[member] = value;
        BASE64_URL.encode(changed.to_string())
    };
    let mut flipped = BASE64_URL.decode(signature).unwrap();
    flipped[20] ^= 1;
    let claims = decoded(payload);
    let later = claims["exp"].as_i64().unwrap() + 3_600;
    let mut scopes = claims["scopes"].as_array().unwrap().clone();
    scopes.push(json!("everything"));
    let mut cases: Vec<Case> = [
        ("as it came", token.to_owned()),
        ("a longer life", format!("{header}.{}.{signature}", with(payload, "exp", json!(later)))),
        ("more scopes", format!("{header}.{}.{signature}", with(payload, "scopes", json!(scopes)))),
        ("a bit of its signature flipped", format!("{header}.{payload}.{}", BASE64_URL.encode(&flipped))),
        ("no signature", format!("{header}.{payload}.")),
        ("unsecured", format!("{}.{payload}.", with(header, "alg", json!("none")))),
        ("symmetric", format!("{}.{payload}.{signature}", with(header, "alg", json!("HS256")))),
        ("an unknown key", format!("{}.{payload}.{signature}", with(header, "kid", json!("x")))),
        ("another type", format!("{}.{payload}.{signature}", with(header, "typ", json!("JWT")))),
    ]
    .map(|(what, token)| Case {
        name: format!("{audience}, {what}"),
        token,
        audience: audience.to_owned(),
        now: None,
    })
    .into();
    let elsewhere = format!("{audience}, at another backend");
    cases.push(Case { name: elsewhere, audience: "another-backend".to_owned(), ..cases[0].clone() });
    cases
}
