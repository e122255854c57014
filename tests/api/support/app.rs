//! A running service on a database of its own, with a clock that the test moves.

use std::net::TcpListener;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tempfile::TempDir;
use token_authority::app::App;
use token_authority::catalog_files;
use token_authority::clock::Clock;
use token_authority::config::Settings;
use token_authority::domain::admin_scope::AdminScope;
use token_authority::domain::key_ring::Algorithm;
use token_authority::domain::sealed::SecretName;
use token_authority::fulfillment::admin_tokens::{self, NewAdminToken};
use token_authority::http;
use token_authority::keystore::Keystore;
use token_authority::keystore::sealing::{KeyEncryption, LocalKek};
use token_authority::rotation::init;
use token_authority::storage::{self, sealed_secrets};

use super::database::Database;

/// One replica.
pub(crate) struct TestApp {
    pub(crate) base_url: String,
    pub(crate) clock: Clock,
    pub(crate) app: Arc<App>,
    /// What it shows where it speaks TLS.
    pub(crate) certificate: Option<Arc<http::Certificate>>,
    deployment: Arc<Deployment>,
    client: reqwest::Client,
}

/// What replicas share: the database, the keys, and a credential for the admin API.
pub(crate) struct Deployment {
    pub(crate) database: Database,
    pub(crate) admin_token: String,
    pub(crate) keys: TempDir,
    pub(crate) kek: Arc<dyn KeyEncryption>,
    issuer: String,
}

/// What a request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

/// The instant at which every test begins.
pub(crate) fn beginning() -> DateTime<Utc> {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

impl TestApp {
    /// A service on a fresh database with the example catalog.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with settings of its own: names as in the environment, less the prefix.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_deployment(ISSUER.to_owned(), Clock::pinned(beginning()), settings, loopback()).await
    }

    /// A service whose issuer is the address where it answers, on the time it is: for clients that discover it,
    /// and have a clock of their own.
    pub(crate) async fn start_discoverable(settings: &[(&str, &str)]) -> Self {
        let listener = loopback();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        Self::start_deployment(issuer, Clock::system(), settings, listener).await
    }

    /// The same, with keys that were made and published so long ago; from now on its clock stands still.
    pub(crate) async fn start_discoverable_since(age: TimeDelta, settings: &[(&str, &str)]) -> Self {
        let listener = loopback();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let now = Clock::system().now();
        let app = Self::start_deployment(issuer, Clock::pinned(now - age), settings, listener).await;
        app.clock.set(now);
        app
    }

    async fn start_deployment(
        issuer: String,
        clock: Clock,
        settings: &[(&str, &str)],
        listener: TcpListener,
    ) -> Self {
        let database = Database::fresh().await;
        let keys = TempDir::new().unwrap();
        let kek: Arc<dyn KeyEncryption> = Arc::new(LocalKek::new(&[7; 32]).unwrap());
        let storage = database.storage();
        let token_algs = settings.iter().find(|(name, _)| *name == "TOKEN_ALGS");
        let token_algs = token_algs.map_or("EdDSA", |(_, algs)| algs).split(',');
        let token_algs: Vec<Algorithm> = token_algs.map(|alg| alg.parse().unwrap()).collect();
        let root_key_file = keys.path().join("root.pem");
        let birth = init::Birth {
            environment: "development",
            issuer: &issuer,
            keys_dir: keys.path(),
            kek: &*kek,
            root_key_file: Some(&root_key_file),
            token_algs: &token_algs,
            is_development: true,
            actor: "test",
        };
        init::init(&storage, &birth, &clock).await.unwrap();
        let mut tx = storage.begin().await.unwrap();
        let keystore = open_keystore(&mut tx, Arc::clone(&kek)).await;
        let new = NewAdminToken { name: "test".into(), scopes: AdminScope::ALL.to_vec(), expires_at: None };
        let (_, token) = admin_tokens::create(&mut tx, &keystore, beginning(), None, new).await.unwrap();
        tx.commit().await.unwrap();
        let admin_token = token.expose().to_owned();
        let deployment = Arc::new(Deployment { database, admin_token, keys, kek, issuer });
        Self::start_replica(deployment, clock, settings, listener).await
    }

    /// One more replica of the same deployment, on the same clock.
    pub(crate) async fn another(&self) -> Self {
        Self::start_replica(Arc::clone(&self.deployment), self.clock.clone(), &[], loopback()).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn another_with(&self, settings: &[(&str, &str)]) -> Self {
        Self::start_replica(Arc::clone(&self.deployment), self.clock.clone(), settings, loopback()).await
    }

    pub(crate) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    async fn start_replica(
        deployment: Arc<Deployment>,
        clock: Clock,
        extra: &[(&str, &str)],
        listener: TcpListener,
    ) -> Self {
        let own = [("ISSUER", deployment.issuer.as_str()), ("ENVIRONMENT", "development"), ("WORKERS", "1")];
        let variables = own.iter().chain(extra);
        let variables =
            variables.map(|(name, value)| (format!("TOKEN_AUTHORITY_{name}"), (*value).to_owned()));
        let settings = Arc::new(Settings::from_sources(None, variables).unwrap());
        let storage: storage::Database = deployment.database.storage();
        let mut tx = storage.begin().await.unwrap();
        let kek = Arc::clone(&deployment.kek);
        let keystore = open_keystore(&mut tx, kek).await;
        drop(tx);
        let app = App::start(
            clock.clone(),
            settings,
            deployment.issuer.clone(),
            storage,
            Arc::new(keystore),
            catalog_files::example().unwrap(),
        );
        let app = Arc::new(app.await.unwrap());
        let (running, serving) = http::serve(Arc::clone(&app), listener).unwrap();
        tokio::spawn(serving);
        let base_url = format!("http://{}", running.address);
        let certificate = running.certificate;
        Self { base_url, clock, app, certificate, deployment, client: reqwest::Client::new() }
    }

    /// A connection to the database, for looking at rows.
    pub(crate) async fn database(&self) -> PoolConnection<Postgres> {
        self.app.database.pool().acquire().await.unwrap()
    }

    /// A request without any credential.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base_url))
    }

    /// A request by an administrator with every scope.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&self.deployment.admin_token)
    }

    /// What an administrator reads, which must be there.
    pub(crate) async fn admin_get(&self, path: &str) -> Value {
        send(self.admin(Method::GET, path)).await.expect(StatusCode::OK)
    }

    /// What an administrator makes, which must succeed.
    pub(crate) async fn admin_post(&self, path: &str, body: Value) -> Value {
        let answer = send(self.admin(Method::POST, path).json(&body)).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer.json()
    }
}

fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

async fn open_keystore(connection: &mut PgConnection, kek: Arc<dyn KeyEncryption>) -> Keystore {
    let digest_key = sealed_secrets::find_latest(connection, "development", SecretName::DigestKey).await;
    Keystore::open(kek, &digest_key.unwrap().unwrap()).unwrap()
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(&self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// The body of a refusal, checked for everything that each refusal has.
    #[track_caller]
    pub(crate) fn refused(&self, status: StatusCode, code: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status.as_u16(), "{problem}");
        assert_eq!(problem["type"], format!("{ISSUER}/problems/{code}"), "{problem}");
        assert_eq!(problem["request_id"], self.headers["x-request-id"].to_str().unwrap(), "{problem}");
        for member in ["title", "detail", "remedy"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}

/// Sends a request and reads all of the answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// A customer with a subscription, a purchase and a license, made through the admin API.
pub(crate) struct Sold {
    pub(crate) customer_id: String,
    pub(crate) subscription_id: String,
    pub(crate) license_id: String,
    pub(crate) activation_code: String,
}

/// Sells `premium` from ten days ago for a year, with the add-on, to up to `max_instances` installations.
pub(crate) async fn sell(app: &TestApp, add_on: Option<&str>, max_instances: u32) -> Sold {
    let customer = app.admin_post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
    let subscription = app
        .admin_post(
            "/admin/v1/subscriptions",
            json!({
                "customer_id": customer["id"], "license_type": "premium", "seats": 10, "trial": false,
                "starts_at": "2026-11-10T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
            }),
        )
        .await;
    let subscription_id = text(&subscription["id"]);
    if let Some(add_on) = add_on {
        let path = format!("/admin/v1/subscriptions/{subscription_id}/add-on-purchases");
        let purchase = json!({
            "add_on": add_on, "quantity": 10,
            "starts_at": "2026-11-10T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
        });
        app.admin_post(&path, purchase).await;
    }
    let license =
        json!({ "subscription_id": subscription_id, "kind": "online", "max_instances": max_instances });
    let license = app.admin_post("/admin/v1/licenses", license).await;
    Sold {
        customer_id: text(&customer["id"]),
        subscription_id,
        license_id: text(&license["id"]),
        activation_code: text(&license["activation_code"]),
    }
}

/// What an activated installation holds.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) uid: String,
    pub(crate) instance_id: String,
    pub(crate) secret: String,
}

impl Instance {
    /// A request with this instance's secret.
    pub(crate) fn request(&self, app: &TestApp, method: Method, path: &str) -> RequestBuilder {
        app.request(method, path).basic_auth(&self.uid, Some(&self.secret))
    }

    /// One sync.
    pub(crate) async fn sync(&self, app: &TestApp, body: &Value) -> Answer {
        send(self.request(app, Method::POST, "/v1/sync").json(body)).await
    }
}

/// What an installation sends to be activated.
pub(crate) fn activation(code: &str, instance_id: &str) -> Value {
    json!({
        "activation_code": code, "instance_id": instance_id, "hostname": "gitlab.example.com",
        "version": "17.6.1", "deployment": "self_managed",
    })
}

/// A new installation, activated.
pub(crate) async fn activate(app: &TestApp, code: &str) -> Instance {
    let instance_id = fresh_uuid();
    let activated =
        send(app.request(Method::POST, "/v1/instances").json(&activation(code, &instance_id))).await;
    let activated = activated.expect(StatusCode::CREATED);
    Instance {
        uid: text(&activated["instance_uid"]),
        instance_id,
        secret: text(&activated["instance_secret"]),
    }
}

/// A string of a JSON answer.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// An id as an installation gives itself one.
#[expect(clippy::disallowed_methods, reason = "a test stands for the outside, which makes its own ids")]
pub(crate) fn fresh_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What tokens of the tests name as `iss`.
pub(crate) const ISSUER: &str = "http://127.0.0.1:9";
