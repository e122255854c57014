//! Law 9: refusals are told, each with a stable code, a remedy and a page; faults are logged, and told without detail.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::UNLIMITED;
use super::changes::Books;
use crate::support::app::{Answer, ISSUER, Instance, TestApp, fresh_uuid, send, text};
use crate::support::durable::durable_cluster;
use crate::support::program::{self, Deployment, Serving};

/// What refuses in the words of another standard, and is tested where it is.
const OTHER_FORMS: [&str; 3] = ["/api/v1/", "/graphql", "/oauth/token"];

/// Every operation of the API's description: method and path, as it is written there.
pub(super) async fn operations(client: &reqwest::Client, base_url: &str) -> Vec<(Method, String)> {
    let description: Value =
        client.get(format!("{base_url}/openapi.json")).send().await.unwrap().json().await.unwrap();
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        if OTHER_FORMS.iter().any(|other| path.starts_with(other)) {
            continue;
        }
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            if item.get(method.as_str().to_lowercase()).is_some() {
                operations.push((method, path.clone()));
            }
        }
    }
    assert!(operations.len() > 50, "the description lists too little: {operations:?}");
    operations
}

/// The path with every parameter in braces replaced.
pub(super) fn filled(path: &str, value: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, behind) = after.split_once('}').unwrap();
        filled.push_str(before);
        filled.push_str(value);
        rest = behind;
    }
    filled + rest
}

/// What may come as a body: content type and bytes.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    const JSON: &str = "application/json";
    let deep = "[".repeat(100_000);
    let nul = r#"{"name":"a\u0000b","version":"1\u0000","reason":"\u0000","activation_code":"\u0000"}"#;
    let wrong = json!({
        "customer_id": 7, "name": ["x"], "starts_at": "yesterday", "ends_at": "2026-02-30", "seats": -1, "quantity": 1e99,
        "version": {}, "instance_id": "x", "max_instances": "many", "kind": "moon", "reason": null, "scopes": "all",
        "build": 1, "key_set_version": "x", "probe_results": {}, "disabled_backends": ["nobody"], "trial": "yes",
    });
    vec![
        (JSON, Vec::new()),
        (JSON, b"{}".to_vec()),
        (JSON, b"{\"a\":".to_vec()),
        (JSON, b"[1, 2]".to_vec()),
        (JSON, b"null".to_vec()),
        (JSON, b"{\"a\": \"\xff\xfe\"}".to_vec()),
        (JSON, deep.into_bytes()),
        (JSON, nul.as_bytes().to_vec()),
        (JSON, wrong.to_string().into_bytes()),
        (JSON, vec![b' '; 2 << 20]),
        ("application/merge-patch+json", b"{\"name\": 1}".to_vec()),
        ("application/x-ndjson", b"{}\n{".to_vec()),
        ("text/plain", b"hello".to_vec()),
        ("application/json; charset=latin-1", b"{}".to_vec()),
    ]
}

/// What a caller may show.
#[derive(Clone, Copy, Debug)]
enum Credential {
    Admin,
    Garbage,
    Instance,
    None,
}

impl Credential {
    const ALL: [Self; 4] = [Self::Admin, Self::Garbage, Self::Instance, Self::None];

    fn show(self, request: RequestBuilder, admin: &str, instance: &Instance) -> RequestBuilder {
        match self {
            Self::Admin => request.bearer_auth(admin),
            Self::Garbage => request.bearer_auth("eyJhbGciOiJub25lIn0.e30."),
            Self::Instance => request.basic_auth(&instance.uid, Some(&instance.secret)),
            Self::None => request,
        }
    }
}

/// The pages of the codes that were met, each read once.
#[derive(Default)]
struct Pages(BTreeMap<String, u16>);

impl Pages {
    /// What law 9 says of an answer. Returns its code, if it is a refusal.
    async fn check(&mut self, app: &TestApp, about: &str, answer: &Answer) -> Option<String> {
        assert!(answer.status.as_u16() < 500, "{about}: {answer:?}");
        assert!(answer.headers.contains_key("x-request-id"), "{about}: {answer:?}");
        if !answer.status.is_client_error() {
            return None;
        }
        let problem = answer.json();
        let code = text(&problem["code"]);
        answer.refused(answer.status, &code);
        let needed = match answer.status {
            StatusCode::UNAUTHORIZED => Some("www-authenticate"),
            StatusCode::METHOD_NOT_ALLOWED => Some("allow"),
            StatusCode::TOO_MANY_REQUESTS => Some("retry-after"),
            _ => None,
        };
        if let Some(header) = needed {
            assert!(answer.headers.contains_key(header), "{about} lacks {header}: {answer:?}");
        }
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY {
            let errors = problem["errors"].as_array().unwrap();
            assert!(!errors.is_empty(), "{about}: {answer:?}");
            for error in errors {
                assert!(
                    error["pointer"].is_string() && !text(&error["detail"]).is_empty(),
                    "{about}: {error}"
                );
            }
        }
        if !self.0.contains_key(&code) {
            let url = text(&problem["type"]);
            let page = send(app.request(Method::GET, url.strip_prefix(ISSUER).unwrap())).await;
            assert_eq!(page.status, StatusCode::OK, "{code} has no page");
            for part in [code.as_str(), "Cause", "Remedy", "May I retry?", answer.status.as_str()] {
                assert!(page.text.contains(part), "the page of {code} lacks {part}");
            }
            self.0.insert(code.clone(), answer.status.as_u16());
        }
        // One code, one status.
        assert_eq!(self.0[&code], answer.status.as_u16(), "{about}: {code}");
        Some(code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_wherever_is_answered_or_refused_in_full() {
    let app = TestApp::start_with(UNLIMITED).await;
    let books = Books::open(&app).await;
    let client = reqwest::Client::new();
    let operations = operations(&client, &app.base_url).await;
    let admin = app.deployment().admin_token.clone();
    let mut pages = Pages::default();

    for (method, path) in &operations {
        let has_body = *method != Method::GET;
        let values = if path.contains('{') { vec!["no-such-thing", "%00%ff", ""] } else { vec![""] };
        let mut requests = Vec::new();
        for credential in Credential::ALL {
            for (content_type, body) in if has_body { bodies() } else { vec![("text/plain", Vec::new())] } {
                let path = filled(path, &fresh_uuid());
                let request = app.request(method.clone(), &path);
                let request = if has_body { request.header("content-type", content_type) } else { request };
                requests.push((credential, path, request.header("if-match", "\"x\"").body(body)));
            }
            for value in &values {
                let path = format!("{}?limit=x&page_token=y&at=z&nonsense=%ff", filled(path, value));
                requests.push((
                    credential,
                    path.clone(),
                    app.request(method.clone(), &path).json(&json!({})),
                ));
            }
        }
        // What exists is refused for other reasons than what does not.
        if let Some(path) = existing(&books, path).filter(|_| has_body) {
            for value in [Some("\"x\""), None] {
                let request = app.request(method.clone(), &path);
                let request =
                    value.into_iter().fold(request, |request, etag| request.header("if-match", etag));
                requests.push((
                    Credential::Admin,
                    path.clone(),
                    request.json(&json!({ "reason": "no reason" })),
                ));
            }
        }
        for chunk in chunks(requests, 8) {
            let sent = chunk.into_iter().map(async |(credential, path, request)| {
                let about = format!("{method} {path} with {credential:?}");
                (about, send(credential.show(request, &admin, &books.instance)).await)
            });
            for (about, answer) in join_all(sent).await {
                pages.check(&app, &about, &answer).await;
            }
        }
    }
    let paths: BTreeSet<_> = operations.iter().map(|(_, path)| path.as_str()).collect();
    let others =
        ["/docs", "/docs/", "/docs/nothing.js", "/openapi.json", "/problems/expired", "/nowhere", "/"];
    for path in paths.into_iter().chain(others) {
        let known: Vec<_> = operations.iter().filter(|(_, known)| known == path).collect();
        for method in ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if known.iter().any(|(known, _)| known == method) {
                continue;
            }
            let method: Method = method.parse().unwrap();
            let about = format!("{method} {path}");
            let answer = send(app.request(method, &filled(path, "7"))).await;
            let code = pages.check(&app, &about, &answer).await;
            assert!(
                matches!(code.as_deref(), Some("method_not_allowed" | "not_found")),
                "{about}: {answer:?}"
            );
            if ["/docs", "/docs/", "/openapi.json"].contains(&path) {
                assert_eq!(code.as_deref(), Some("method_not_allowed"), "{about}");
            }
        }
    }
    for path in ["/docs/nothing.js", "/problems/nothing", "/.well-known/nothing"] {
        let answer = send(app.request(Method::GET, path)).await;
        assert_eq!(pages.check(&app, path, &answer).await.as_deref(), Some("not_found"));
    }
    let met: Vec<_> = pages.0.keys().map(String::as_str).collect();
    for code in [
        "invalid_parameters",
        "invalid_request",
        "method_not_allowed",
        "not_found",
        "precondition_failed",
        "precondition_required",
        "too_large",
        "unauthenticated",
        "unsupported_media_type",
    ] {
        assert!(met.contains(&code), "the walk never met {code}: {met:?}");
    }
}

/// The path of a record that there is.
fn existing(books: &Books, path: &str) -> Option<String> {
    let records = [
        ("/admin/v1/customers/{id}", books.customer()),
        ("/admin/v1/instances/{uid}", books.installation()),
        ("/admin/v1/licenses/{id}", books.license()),
        ("/admin/v1/subscriptions/{id}", books.subscription()),
    ];
    let found = records.into_iter().find_map(|(pattern, record)| Some((record, path.strip_prefix(pattern)?)));
    found.filter(|(_, rest)| !rest.contains('{')).map(|(record, rest)| format!("{record}{rest}"))
}

fn chunks<T>(mut items: Vec<T>, size: usize) -> Vec<Vec<T>> {
    let mut chunks = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(items.len().min(size));
        chunks.push(std::mem::replace(&mut items, rest));
    }
    chunks
}

/// Sends every operation, with a credential of the kind that it takes and something in its body.
async fn send_all(
    serving: &Serving,
    credentials: &Credentials,
    operations: &[(Method, String)],
) -> Vec<(String, Answer)> {
    let client = reqwest::Client::new();
    // Readiness has a document of its own.
    let sent = operations.iter().filter(|(_, path)| path != "/health/ready");
    let sent = sent.map(async |(method, path)| {
        let value = if path.contains("{version}") { "7".to_owned() } else { fresh_uuid() };
        let url = format!("{}{}", serving.base_url, filled(path, &value));
        let request = client.request(method.clone(), url);
        let request = match path.as_str() {
            path if path.starts_with("/admin/") => request.bearer_auth(&credentials.admin),
            path if path.starts_with("/v1/backends/") => request.bearer_auth(&credentials.backend),
            _ => request.basic_auth(&credentials.instance.uid, Some(&credentials.instance.secret)),
        };
        let body = if path == "/v1/instances" {
            json!({
                "activation_code": credentials.activation_code, "instance_id": fresh_uuid(), "hostname": "a.example",
                "version": "18.0.0", "deployment": "self_managed",
            })
        } else {
            json!({ "version": "18.0.0" })
        };
        let request = request.header("idempotency-key", "k");
        let request = if *method == Method::GET { request } else { request.json(&body) };
        (format!("{method} {path}"), send(request).await)
    });
    join_all(sent).await
}

/// What a deployment's callers hold.
pub(super) struct Credentials {
    pub(super) admin: String,
    pub(super) backend: String,
    pub(super) activation_code: String,
    pub(super) instance: Instance,
}

impl Credentials {
    pub(super) async fn of(deployment: &Deployment, serving: &Serving) -> Self {
        let made = deployment.run(&["--format", "json", "admin-token", "create", "--name", "tests"]);
        let admin = text(&program::answer(&made)["token"]);
        let client = reqwest::Client::new();
        let post = async |path: &str, body: Value| {
            let request = client.post(format!("{}{path}", serving.base_url)).bearer_auth(&admin).json(&body);
            let answer = send(request).await;
            assert!(answer.status.is_success(), "{path}: {answer:?}");
            answer.json()
        };
        let customer = post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
        let subscription = json!({
            "customer_id": customer["id"], "license_type": "premium", "seats": 10, "trial": false,
            "starts_at": "2026-01-01", "ends_at": "2099-01-01",
        });
        let subscription = post("/admin/v1/subscriptions", subscription).await;
        let license =
            json!({ "subscription_id": subscription["id"], "kind": "online", "max_instances": 100 });
        let license = post("/admin/v1/licenses", license).await;
        let activation_code = text(&license["activation_code"]);
        let instance_id = fresh_uuid();
        let activated =
            post("/v1/instances", crate::support::app::activation(&activation_code, &instance_id)).await;
        let instance = Instance {
            uid: text(&activated["instance_uid"]),
            instance_id,
            secret: text(&activated["instance_secret"]),
        };
        let backend = json!({ "name": "ai_gateway", "alg": "EdDSA", "trust": "embedded", "min_live": 1 });
        post("/admin/v1/backends", backend).await;
        let backend = post("/admin/v1/backends/ai_gateway:rotate-token", json!({})).await;
        Self { admin, backend: text(&backend["token"]), activation_code, instance }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_told_without_detail_and_logged_once_with_its_cause() {
    let deployment = Deployment::initialized().await;
    let serving = deployment.serve();
    let credentials = Credentials::of(&deployment, &serving).await;
    let operations = operations(&reqwest::Client::new(), &serving.base_url).await;
    let mut connection = deployment.connection().await;

    // Nothing is where the program looks for it.
    hide_tables(&mut connection).await;
    let answers = send_all(&serving, &credentials, &operations).await;
    let mut failed = Vec::new();
    for (about, answer) in &answers {
        if answer.status.is_success() {
            continue; // it needs nothing from the database
        }
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{about}: {answer:?}");
        let request_id = answer.headers["x-request-id"].to_str().unwrap();
        let told = json!({
            "type": format!("{}/problems/internal", program::ISSUER), "title": "A fault of this service", "status": 500,
            "detail": "The fault was logged.", "code": "internal",
            "remedy": "Retry; if it stays, give the request id to the operator.", "request_id": request_id,
        });
        assert_eq!(answer.json(), told, "{about}");
        failed.push((about, request_id.to_owned()));
    }
    assert!(failed.len() > 50, "{failed:?}");
    let log = serving.log_lines();
    let errors: Vec<&Value> = log.iter().filter(|line| line["level"] == "ERROR").collect();
    for (about, id) in &failed {
        let told: Vec<_> = errors.iter().filter(|line| line["request.id"] == id.as_str()).collect();
        assert_eq!(told.len(), 1, "{about} is logged {} times: {told:?}", told.len());
        assert!(text(&told[0]["error"]).contains("does not exist"), "{about} without its cause: {told:?}");
    }
    assert_eq!(errors.len(), failed.len(), "faults that belong to no request: {errors:?}");
}

async fn hide_tables(connection: &mut PgConnection) {
    let mut tx = connection.begin().await.unwrap();
    for statement in ["alter schema public rename to hidden", "create schema public"] {
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_says_when_the_database_is_away_and_nothing_more() {
    let cluster = durable_cluster().await;
    let deployment = Deployment::on(&cluster.url());
    deployment.initialize();
    let serving = deployment.serve();
    let credentials = Credentials::of(&deployment, &serving).await;
    let operations = operations(&reqwest::Client::new(), &serving.base_url).await;
    cluster.crash().await;
    let mut told = 0;
    for (about, answer) in send_all(&serving, &credentials, &operations).await {
        if answer.status.is_success() {
            continue; // it needs nothing from the database
        }
        told += 1;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{about}: {answer:?}");
        let seconds: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{about}: {answer:?}");
        let expected = json!({
            "type": format!("{}/problems/unavailable", program::ISSUER), "title": "Not available right now",
            "status": 503, "detail": "The database cannot be reached.", "code": "unavailable",
            "remedy": "Retry as Retry-After says; tokens that were issued go on being valid.",
            "request_id": answer.headers["x-request-id"].to_str().unwrap(),
        });
        assert_eq!(answer.json(), expected, "{about}");
    }
    assert!(told > 50, "only {told} routes were asked");
    cluster.start().await;
    let again: Vec<_> = send_all(&serving, &credentials, &operations).await;
    assert!(again.iter().all(|(_, answer)| answer.status.as_u16() < 500), "it does not recover: {again:?}");
}
