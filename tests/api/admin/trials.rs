//! `validate_only=true` on every route that changes something: the same answer, and nothing has changed.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::changes::{tables_changed_since, whole_database};
use super::etag;
use crate::support::app::{Instance, Sold, TestApp, activate, sell, send, text};
use crate::support::fleet::Backend;
use crate::support::installation::Installation;

/// A change that succeeds, under the name of its operation.
pub(super) struct Change {
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    /// The record that it is made on.
    pub(super) record: Option<String>,
    pub(super) body: Value,
}

impl Change {
    /// On no record that is there.
    fn new(operation: &'static str, path: &str, body: Value) -> Self {
        Self { operation, method: Method::POST, path: path.to_owned(), record: None, body }
    }

    /// A verb on a record.
    fn verb(operation: &'static str, record: &str, verb: &str, body: Value) -> Self {
        let path = format!("{record}:{verb}");
        Self { operation, method: Method::POST, path, record: Some(record.to_owned()), body }
    }

    fn on(operation: &'static str, method: Method, record: &str, body: Value) -> Self {
        Self { operation, method, path: record.to_owned(), record: Some(record.to_owned()), body }
    }
}

/// Every change of one kind or another, in an order in which each can be made.
pub(super) async fn changes(app: &TestApp) -> Vec<Change> {
    let sold: Sold = sell(app, Some("duo_pro"), 3).await;
    let instance: Instance = activate(app, &sold.activation_code).await;
    contest(app, &instance).await;
    let installation = Installation::new(7);
    let keyed = app.request(Method::POST, "/v1/instances");
    let keyed = send(keyed.json(&installation.activation(app, &sold.activation_code))).await;
    let keyed = text(&keyed.expect(StatusCode::CREATED)["instance_uid"]);
    let customer = format!("/admin/v1/customers/{}", sold.customer_id);
    let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let purchases = format!("{subscription}/add-on-purchases");
    let purchase = format!("{purchases}/{}", text(&app.admin_get(&purchases).await["items"][0]["id"]));
    let license = format!("/admin/v1/licenses/{}", sold.license_id);
    let [instance, keyed] = [instance.uid, keyed].map(|uid| format!("/admin/v1/instances/{uid}"));
    let registered =
        Backend::register(app, "security_gateway", "gitlab-security-gateway", "embedded", 1).await;
    registered.start(app.deployment().keys.path(), 1, "pod-1").beat(app).await;
    let backend = "/admin/v1/backends/security_gateway";
    let process = format!("{backend}/deployments/pod-1");
    let token = json!({ "name": "other", "scopes": ["audit:read"] });
    let made = app.admin_post("/admin/v1/admin-tokens", token.clone()).await;
    let admin_token = format!("/admin/v1/admin-tokens/{}", text(&made["id"]));
    let hook = json!({ "url": "https://1.1.1.1/hooks" });
    let made = app.admin_post("/admin/v1/webhooks", hook.clone()).await;
    let webhook = format!("/admin/v1/webhooks/{}", text(&made["id"]));
    let term = json!({ "starts_at": "2026-11-20", "ends_at": "2027-11-10" });
    let with = |mut body: Value, member: &str, value: Value| {
        body[member] = value;
        body
    };
    let enterprise = with(with(term, "add_on", json!("duo_enterprise")), "quantity", json!(1));
    let renewal = json!({ "ends_at": "2028-11-10", "reason": "paid" });
    let reason = json!({ "reason": "because" });
    vec![
        Change::new("customers_create", "/admin/v1/customers", json!({ "name": "Another" })),
        Change::on("customers_amend", Method::PATCH, &customer, json!({ "name": "Renamed" })),
        Change::new(
            "subscriptions_create",
            "/admin/v1/subscriptions",
            super::new_subscription(&json!(sold.customer_id)),
        ),
        Change::new("add_on_purchases_create", &purchases, enterprise),
        Change::on("add_on_purchases_amend", Method::PATCH, &purchase, json!({ "ends_at": "2027-01-01" })),
        Change::on("add_on_purchases_end", Method::DELETE, &purchase, json!({})),
        Change::on(
            "subscriptions_amend",
            Method::PATCH,
            &subscription,
            json!({ "license_type": "ultimate" }),
        ),
        Change::verb("subscriptions_suspend", &subscription, "suspend", reason.clone()),
        Change::verb("subscriptions_resume", &subscription, "resume", reason.clone()),
        Change::verb("subscriptions_renew", &subscription, "renew", renewal),
        Change::new(
            "licenses_create",
            "/admin/v1/licenses",
            json!({ "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 1 }),
        ),
        Change::on("licenses_amend", Method::PATCH, &license, json!({ "max_instances": 5 })),
        Change::verb("licenses_reissue", &license, "reissue", json!({})),
        Change::verb("instances_allow_reactivation", &keyed, "allow-reactivation", json!({})),
        Change::verb(
            "instances_settle_identity",
            &instance,
            "settle-identity",
            json!({ "finding": "restored", "reason": "told by their administrator" }),
        ),
        Change::verb("instances_block", &instance, "block", reason.clone()),
        Change::verb("instances_unblock", &instance, "unblock", json!({})),
        Change::verb("instances_release", &instance, "release", json!({})),
        Change::verb("licenses_revoke", &license, "revoke", reason.clone()),
        Change::verb("subscriptions_cancel", &subscription, "cancel", reason),
        Change::verb("customers_archive", &customer, "archive", json!({})),
        Change::new(
            "backends_create",
            "/admin/v1/backends",
            json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "discovery", "min_live": 0 }),
        ),
        Change::on("backends_amend", Method::PATCH, backend, json!({ "trust": "discovery" })),
        Change::new("deployments_forget", &format!("{process}:forget"), json!({ "reason": "gone" })),
        Change::verb("backends_rotate_token", backend, "rotate-token", json!({})),
        Change::new("admin_tokens_create", "/admin/v1/admin-tokens", token),
        Change::on("admin_tokens_revoke", Method::DELETE, &admin_token, json!({})),
        Change::new("webhooks_create", "/admin/v1/webhooks", hook),
        Change::on("webhooks_amend", Method::PATCH, &webhook, json!({ "description": "orders" })),
        Change::verb("webhooks_replay", &webhook, "replay", json!({ "cursor": "0" })),
        Change::verb("webhooks_rotate_secret", &webhook, "rotate-secret", json!({})),
        Change::on("webhooks_delete", Method::DELETE, &webhook, json!({})),
    ]
}

/// Lets two installations come back with one identity.
async fn contest(app: &TestApp, instance: &Instance) {
    let sync = async |value: &Value| {
        let body = json!({ "version": "17.6.1", "sync_value": value });
        instance.sync(app, &body).await.expect(StatusCode::OK)["sync_value"].clone()
    };
    let mut original = sync(&Value::Null).await;
    let mut copy = original.clone();
    for _ in 0..2 {
        original = sync(&original).await;
        copy = sync(&copy).await;
    }
}

#[tokio::test]
async fn every_trial_answers_like_its_change_and_leaves_no_trace() {
    let app = TestApp::start().await;
    let changes = changes(&app).await;
    let tried: BTreeSet<_> = changes.iter().map(|change| change.operation.to_owned()).collect();
    for Change { operation, method, path, record, body } in changes {
        let tag = match &record {
            Some(record) => Some(etag(&app, record).await),
            None => None,
        };
        let request = |path: &str| {
            let request = app.admin(method.clone(), path).json(&body);
            match &tag {
                Some(tag) => request.header("if-match", tag),
                None => request,
            }
        };
        let before = whole_database(&app).await;
        let trial = send(request(&format!("{path}?validate_only=true")).header("idempotency-key", "k")).await;
        let changed: [&str; 0] = [];
        assert_eq!(tables_changed_since(&app, &before).await, changed, "{operation}");
        // The tag of the record as it still is; nothing is at the address of what would be new.
        let told = trial.headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        assert!(tag.is_none() || told == tag, "{operation}");
        assert!(trial.status != StatusCode::CREATED || told.is_none(), "{operation}");
        assert!(!trial.headers.contains_key("location"), "{operation}");

        let real = send(request(&path)).await;
        assert!(real.status.is_success(), "{operation}: {real:?}");
        assert_eq!(trial.status, real.status, "{operation}: {trial:?}");
        let (mut trial, mut real) = (trial.json(), real.json());
        assert_eq!(trial["validate_only"], true, "{operation}");
        assert_ne!(tables_changed_since(&app, &before).await, changed, "{operation}");
        if real.get("id").is_some() && record.is_none() {
            assert_ne!(trial["id"], real["id"], "{operation}");
        }
        for once in ["validate_only", "activation_code", "token", "secret"] {
            assert!(once == "validate_only" || trial.get(once).is_none(), "{operation}: {trial}");
            trial[once] = Value::Null;
            real[once] = Value::Null;
        }
        if trial.get("id").is_some() && record.is_none() {
            trial["id"] = Value::Null;
            real["id"] = Value::Null;
        }
        assert_eq!(trial, real, "{operation}");
    }
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let mut offered = BTreeSet::new();
    for operation in
        description["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        let takes = |parameter: &Value| parameter["name"] == "validate_only";
        if operation["parameters"].as_array().is_some_and(|parameters| parameters.iter().any(takes)) {
            offered.insert(text(&operation["operationId"]));
        }
    }
    // An import has a test of its own.
    offered.remove("imports_create");
    assert_eq!(tried, offered);
}

#[tokio::test]
async fn whoever_may_change_but_not_read_learns_the_tag_by_a_trial() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let record = format!("/admin/v1/instances/{}", instance.uid);
    let scopes = json!({ "name": "security", "scopes": ["instances:write"] });
    let token = text(&app.admin_post("/admin/v1/admin-tokens", scopes).await["token"]);
    let refused = send(app.request(Method::GET, &record).bearer_auth(&token)).await;
    refused.refused(StatusCode::FORBIDDEN, "forbidden");
    let block = |query: &str, tag: &str| {
        let request = app.request(Method::POST, &format!("{record}:block{query}")).bearer_auth(&token);
        send(request.header("if-match", tag).json(&json!({ "reason": "stolen" })))
    };
    let trial = block("?validate_only=true", "*").await;
    assert_eq!(trial.expect(StatusCode::OK)["hostname"], "gitlab.example.com");
    let tag = trial.headers["etag"].to_str().unwrap();
    assert_eq!(tag, etag(&app, &record).await);
    // Made on what was seen, or not at all.
    block("", tag).await.expect(StatusCode::OK);
    block("", tag).await.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
}
