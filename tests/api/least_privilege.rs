//! A service that runs as a role of its own does all its work, and cannot rewrite what it remembers.

use std::fs;

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::deployment::{Client, admin_token};
use crate::support::app::fresh_uuid;
use crate::support::database::Database;
use crate::support::program::{Deployment, complaint};

/// A role of the server that all tests share; gone with this value's [`Role::forget`].
struct Role {
    name: String,
    url: String,
}

impl Role {
    async fn make(database: &Database) -> Self {
        let name = format!("service_{}", fresh_uuid().replace('-', ""));
        let mut owner = database.connection().await;
        owner.execute(AssertSqlSafe(format!("create role {name} login"))).await.unwrap();
        let mut url = url::Url::parse(database.url().expose_secret()).unwrap();
        url.set_username(&name).unwrap();
        Self { name, url: url.to_string() }
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn forget(self, database: &Database) {
        let mut owner = database.connection().await;
        let sql = format!("drop owned by {0}; drop role {0}", self.name);
        owner.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_works_as_a_role_that_cannot_alter_audit_ledger_or_key_sets() {
    let database = Database::unmigrated().await;
    let deployment = Deployment::on(&database.url());
    deployment.initialize();
    let admin = admin_token(&deployment);
    let role = Role::make(&database).await;
    let output = deployment.run(&["migrate", "--service-role", &role.name]);
    assert!(output.status.success(), "{}", complaint(&output));
    // From here on nothing knows how to be the owner.
    fs::write(deployment.path("database_url"), &role.url).unwrap();

    let mut serving = deployment.serve();
    let client = Client::new(&serving);
    let instance = client.activate(&admin).await;
    let synced = client.sync(&instance).await;
    assert!(!synced["tokens"].as_array().unwrap().is_empty());
    works(&client, &admin).await;
    let rotated = client.post_as(&instance, "/v1/instances/me/credential", &json!({})).await;
    assert_eq!(rotated.0, 201, "{}", rotated.1);

    let mut service = role.connect().await;
    for (attempt, sql) in ATTEMPTS {
        let refused = service.execute(sqlx::raw_sql(*sql)).await.err();
        let refused = refused.unwrap_or_else(|| panic!("it can {attempt}"));
        let code =
            refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        // Not a trigger refuses, which its owner could take away, but the privilege.
        assert_eq!(code, "42501", "{attempt}: {refused}");
    }
    serving.terminate();
    assert_eq!(serving.wait(), Some(0));
    assert!(!serving.log_text().contains("permission denied"), "{}", serving.log_text());
    drop(service);
    role.forget(&database).await;
}

/// Whatever else a service does: imports, webhooks, retries, reports of backends, its lists.
async fn works(client: &Client, admin: &str) {
    let request =
        |method: Method, path: &str| client.http.request(method, client.url(path)).bearer_auth(admin);
    let expect = async |what: &str, request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{what}: {status} {text}");
        assert!(!text.contains("\"refused\""), "{what}: {text}");
        serde_json::from_str(&text).unwrap_or(json!(null))
    };
    let lines = [
        json!({ "type": "customer", "external_ref": "C-1", "name": "Imported" }),
        json!({ "type": "subscription", "external_ref": "S-1", "customer_external_ref": "C-1", "license_type": "premium",
                "seats": 1, "starts_at": "2026-01-01", "ends_at": "2099-01-01" }),
    ];
    let body = lines.map(|line| format!("{line}\n")).concat();
    let import = request(Method::POST, "/admin/v1/imports").header("content-type", "application/x-ndjson");
    expect("an import", import.body(body)).await;
    let hook = json!({ "url": "https://hooks.example.com/" });
    let hook = expect("a webhook", request(Method::POST, "/admin/v1/webhooks").json(&hook)).await;
    let rotate = format!("/admin/v1/webhooks/{}:rotate-secret", hook["id"].as_str().unwrap());
    expect("its next secret", request(Method::POST, &rotate).header("idempotency-key", "a")).await;
    expect("the same again", request(Method::POST, &rotate).header("idempotency-key", "a")).await;
    let backend = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 0 });
    let made = request(Method::POST, "/admin/v1/backends").json(&backend).send().await.unwrap().status();
    assert!(made.is_success() || made == 409, "{made}");
    let rotated =
        expect("a backend's token", request(Method::POST, "/admin/v1/backends/ai_gateway:rotate-token"))
            .await;
    let process = client.url("/v1/backends/ai_gateway/deployments/pod-1");
    let set = expect("a key set", client.http.get(client.url("/v1/key-sets/latest"))).await;
    let beat = json!({ "build": "1", "key_set_version": 1, "key_set_digest": set["digest"], "verifier": "test/1",
                       "algorithms": ["EdDSA"], "deny_list_serial": null, "probe_results": [] });
    let token = rotated["token"].as_str().unwrap();
    expect("a beat", client.http.put(&process).bearer_auth(token).json(&beat)).await;
    expect("a process's end", client.http.delete(&process).bearer_auth(token)).await;
    expect("the deny list", client.http.get(client.url("/v1/deny-list"))).await;
    expect("a checkpoint", request(Method::GET, "/admin/v1/audit-events/checkpoint")).await;
    expect("the feed", request(Method::GET, "/admin/v1/events")).await;
    let token = json!({ "name": "x", "scopes": ["audit:read"] });
    expect("a token", request(Method::POST, "/admin/v1/admin-tokens").json(&token)).await;
}

const ATTEMPTS: &[(&str, &str)] = &[
    ("change the audit", "update audit_events set actor = 'nobody'"),
    ("delete from the audit", "delete from audit_events"),
    ("empty the audit", "truncate audit_events cascade"),
    ("change an event", "update events set digest = sha256('')"),
    ("delete events", "delete from events"),
    ("change the ledger", "update issuances set seats = 1"),
    ("delete from the ledger", "delete from issuances"),
    ("empty the ledger", "truncate issuances"),
    ("drop the ledger", "drop table issuances"),
    ("detach a partition", "alter table issuances detach partition issuances_default"),
    ("write past the ledger into a partition", "delete from issuances_default"),
    ("forge a key set", "insert into key_sets select * from key_sets"),
    ("change a key set", "update key_sets set jwks_digest = sha256('')"),
    ("delete a key set", "delete from key_sets"),
    ("pin a root", "insert into key_roots select * from key_roots"),
    ("insert a key", "insert into signing_keys (kid) values ('x')"),
    ("activate a key", "update signing_keys set state = 'active'"),
    ("lower the floor", "update key_rings set floor = 0"),
    ("take a secret of the deployment", "update sealed_secrets set sealed = ''"),
    ("rewrite the past", "delete from record_revisions"),
    ("take a trigger away", "alter table audit_events disable trigger all"),
    ("drop a trigger", "drop trigger audit_events_append_only on audit_events"),
    (
        "replace what a trigger does",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return null; end'",
    ),
    ("play a replica", "set session_replication_role = replica"),
    ("make a table", "create table mine (id integer)"),
    ("make a function", "create function mine() returns integer language sql as 'select 1'"),
    ("become the owner", "set role postgres"),
    ("make itself powerful", "alter role current_user superuser"),
    ("pretend to have migrated", "delete from _sqlx_migrations"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_nothing_holds_back_is_refused() {
    let database = Database::unmigrated().await;
    let deployment = Deployment::on(&database.url());
    deployment.initialize();
    let refused = |role: &str| {
        let output = deployment.run(&["migrate", "--service-role", role]);
        assert_eq!(output.status.code(), Some(1), "{role}: {}", complaint(&output));
        complaint(&output)
    };
    let mut owner = database.connection().await;
    let own: String = sqlx::query_scalar("select current_user::text").fetch_one(&mut owner).await.unwrap();
    assert!(refused(&own).contains("superuser"));
    assert!(refused("nobody_knows").contains("create role"));
    let member = Role::make(&database).await;
    owner.execute(AssertSqlSafe(format!("grant {own} to {}", member.name))).await.unwrap();
    assert!(refused(&member.name).contains("owns the tables"));
    member.forget(&database).await;
}
