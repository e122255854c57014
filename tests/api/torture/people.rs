//! Who uses the deployment meanwhile: instances that sync, an administrator who sells and takes away, an operator who
//! rotates keys. Each remembers everything that it was answered.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use token_authority::clock::Clock;

use super::account::{Answer, Held, Outcome, Taken};
use super::ground::{Ground, PATIENCE, REPLICAS};
use crate::support::app::{Answer as Response, activation, fresh_uuid, send, text};
use crate::support::program::{self, Deployment};

/// Each with a customer, a subscription and a license of its own.
pub(super) const INSTANCES: usize = 8;

/// What everyone shares.
pub(super) struct Scene {
    pub(super) ground: Ground,
    pub(super) instances: Vec<Installed>,
    admin: String,
    begun: Instant,
    pub(super) stops: AtomicBool,
    /// How many syncs were answered with tokens or a refusal.
    pub(super) answered: AtomicUsize,
    pub(super) answers: Mutex<Vec<Answer>>,
    pub(super) taken: Mutex<Vec<Taken>>,
}

/// One installation, and what was sold for it.
pub(super) struct Installed {
    pub(super) uid: String,
    secret: String,
    subscription_id: String,
    license_id: String,
    rounds: AtomicUsize,
    /// What was taken away and is to be given back, or the other way round.
    standing: tokio::sync::Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    purchase: Option<String>,
    is_suspended: bool,
    is_revoked: bool,
}

/// What is bought and ended.
pub(super) const ADD_ON: &str = "duo_enterprise";

impl Scene {
    pub(super) async fn prepare() -> Arc<Self> {
        let ground = Ground::prepare().await;
        let made = ground.deployment.run(&["--format", "json", "admin-token", "create", "--name", "torture"]);
        let admin = text(&program::answer(&made)["token"]);
        let mut scene = Self {
            ground,
            instances: Vec::new(),
            admin,
            begun: Instant::now(),
            stops: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            answers: Mutex::default(),
            taken: Mutex::default(),
        };
        for _ in 0..INSTANCES {
            let installed = scene.install().await;
            scene.instances.push(installed);
        }
        Arc::new(scene)
    }

    async fn install(&self) -> Installed {
        let http = client();
        let customer = self.make(&http, "customers", json!({ "name": "Example GmbH" })).await;
        let subscription = json!({
            "customer_id": customer["id"], "license_type": "premium", "seats": 10, "trial": false,
            "starts_at": "2026-01-01", "ends_at": "2099-01-01",
        });
        let subscription_id = text(&self.make(&http, "subscriptions", subscription).await["id"]);
        let license = json!({ "subscription_id": subscription_id, "kind": "online", "max_instances": 1 });
        let license = self.make(&http, "licenses", license).await;
        let body = activation(&text(&license["activation_code"]), &fresh_uuid());
        let url = format!("{}/v1/instances", self.url(0).await);
        let activated = send(http.post(url).json(&body)).await.expect(StatusCode::CREATED);
        Installed {
            uid: text(&activated["instance_uid"]),
            secret: text(&activated["instance_secret"]),
            subscription_id,
            license_id: text(&license["id"]),
            rounds: AtomicUsize::new(0),
            standing: tokio::sync::Mutex::default(),
        }
    }

    /// Milliseconds since it all began.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    /// A replica that answers, waited for.
    async fn url(&self, preferred: usize) -> String {
        let started = Instant::now();
        loop {
            if let Some(url) = self.ground.url(preferred) {
                return url;
            }
            assert!(started.elapsed() < PATIENCE, "no replica answers: {}", self.ground.replicas[0].log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Syncs this instance until everything stops, one replica and the other in turn.
    pub(super) async fn go_on_syncing(self: Arc<Self>, instance: usize) {
        let http = client();
        while !self.stops.load(Ordering::Relaxed) {
            let is_answered = self.sync(&http, instance).await;
            // Slow enough that the replicas' starts get the machine, too.
            let pause = if is_answered { 15 } else { 40 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// One sync; whether it was answered with tokens or for good.
    pub(super) async fn sync(&self, http: &reqwest::Client, instance: usize) -> bool {
        let installed = &self.instances[instance];
        let round = installed.rounds.fetch_add(1, Ordering::Relaxed);
        let url = self.url(instance + round).await;
        let asked = self.now();
        // Another version each time, or the same tokens would come again.
        let version = format!("18.{}.{}", round / 1000, round % 1000);
        let request = http.post(format!("{url}/v1/sync")).basic_auth(&installed.uid, Some(&installed.secret));
        let outcome = match request.json(&json!({ "version": version })).send().await {
            Err(_) => Outcome::Broken,
            Ok(response) => {
                let status = response.status();
                let has_hint = response.headers().contains_key("retry-after");
                match response.json::<Value>().await {
                    // A connection that breaks in the middle of an answer has shown no token that is whole.
                    Err(_) => Outcome::Broken,
                    Ok(body) if status == StatusCode::OK => Outcome::Tokens(held(&body)),
                    Ok(body) => {
                        let code = body["code"].as_str().unwrap_or_default().to_owned();
                        Outcome::Refused { status: status.as_u16(), code, has_hint }
                    }
                }
            }
        };
        let is_answered = match &outcome {
            Outcome::Tokens(_) => true,
            Outcome::Refused { status, .. } => *status == 403,
            Outcome::Broken => false,
        };
        let uid = installed.uid.clone();
        self.answers.lock().unwrap().push(Answer { uid, asked, answered: self.now(), outcome });
        self.answered.fetch_add(usize::from(is_answered), Ordering::Relaxed);
        is_answered
    }

    /// So many syncs at once, of all instances.
    pub(super) async fn burst(self: &Arc<Self>, syncs: usize) {
        let http = client();
        let all = (0..syncs).map(|n| {
            let (scene, http) = (Arc::clone(self), http.clone());
            async move { scene.sync(&http, n % INSTANCES).await }
        });
        futures_util::future::join_all(all).await;
    }

    /// Buys the add-on for an instance that has none, or ends its purchase.
    pub(super) async fn change_purchase(&self, instance: usize) {
        let installed = &self.instances[instance];
        let mut standing = installed.standing.lock().await;
        let http = client();
        let purchases = format!("subscriptions/{}/add-on-purchases", installed.subscription_id);
        match standing.purchase.take() {
            None => {
                self.give_back(instance, |taken| taken.scopes.is_some());
                let purchase = json!({
                    "add_on": ADD_ON, "quantity": 10, "starts_at": "2026-01-01", "ends_at": "2099-01-01",
                });
                standing.purchase = Some(text(&self.make(&http, &purchases, purchase).await["id"]));
            }
            Some(id) => {
                let path = format!("{purchases}/{id}");
                loop {
                    let (purchase, etag) = self.read(&http, &path).await;
                    // It may be ended already: by the request before, whose answer was lost.
                    if !purchase["ended_at"].is_null() {
                        break;
                    }
                    let request = self.admin(&http, Method::DELETE, &path).await.header("If-Match", etag);
                    if self.answer(request).await.is_some_and(|answer| answer.status.is_success()) {
                        break;
                    }
                }
                self.take(instance, Some(scopes_of_add_on()));
            }
        }
    }

    /// Suspends an instance's subscription, or lets it go on.
    pub(super) async fn suspend(&self, instance: usize) {
        let installed = &self.instances[instance];
        let mut standing = installed.standing.lock().await;
        let is_suspended = !standing.is_suspended;
        if !is_suspended {
            self.give_back(instance, |taken| taken.scopes.is_none());
        }
        let verb = if is_suspended { "suspend" } else { "resume" };
        self.change(&format!("subscriptions/{}", installed.subscription_id), verb).await;
        standing.is_suspended = is_suspended;
        if is_suspended && !standing.is_revoked {
            self.take(instance, None);
        }
    }

    pub(super) async fn revoke(&self, instance: usize) {
        let installed = &self.instances[instance];
        let mut standing = installed.standing.lock().await;
        if !standing.is_revoked {
            self.change(&format!("licenses/{}", installed.license_id), "revoke").await;
            standing.is_revoked = true;
            self.taken.lock().unwrap().push(Taken {
                uid: installed.uid.clone(),
                scopes: None,
                from: self.now(),
                until: None,
                is_final: true,
            });
        }
    }

    /// Everything that was asked before this answer is gone from now on.
    fn take(&self, instance: usize, scopes: Option<BTreeSet<String>>) {
        let uid = self.instances[instance].uid.clone();
        let taken = Taken { uid, scopes, from: self.now(), until: None, is_final: false };
        self.taken.lock().unwrap().push(taken);
    }

    /// It may be there again as soon as somebody asks for it.
    fn give_back(&self, instance: usize, which: fn(&Taken) -> bool) {
        let (uid, now) = (&self.instances[instance].uid, self.now());
        let mut taken = self.taken.lock().unwrap();
        let open = taken
            .iter_mut()
            .filter(|taken| taken.uid == *uid && !taken.is_final && taken.until.is_none() && which(taken));
        open.for_each(|taken| taken.until = Some(now));
    }

    /// Makes a record once, however often it has to be asked for.
    async fn make(&self, http: &reqwest::Client, path: &str, body: Value) -> Value {
        let key = fresh_uuid();
        loop {
            let request = self.admin(http, Method::POST, path).await.header("Idempotency-Key", &key);
            if let Some(answer) = self.answer(request.json(&body)).await {
                assert!(answer.status.is_success(), "{path}: {answer:?}");
                return answer.json();
            }
        }
    }

    async fn change(&self, path: &str, verb: &str) {
        let http = client();
        let key = fresh_uuid();
        let (_, etag) = self.read(&http, path).await;
        loop {
            let request = self.admin(&http, Method::POST, &format!("{path}:{verb}")).await;
            let request = request.header("Idempotency-Key", &key).header("If-Match", &etag);
            if let Some(answer) = self.answer(request.json(&json!({ "reason": "torture" }))).await {
                assert!(answer.status.is_success(), "{path}:{verb}: {answer:?}");
                return;
            }
        }
    }

    async fn read(&self, http: &reqwest::Client, path: &str) -> (Value, String) {
        loop {
            if let Some(answer) = self.answer(self.admin(http, Method::GET, path).await).await {
                assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
                return (answer.json(), answer.headers["etag"].to_str().unwrap().to_owned());
            }
        }
    }

    async fn admin(&self, http: &reqwest::Client, method: Method, path: &str) -> reqwest::RequestBuilder {
        let round = self.answered.load(Ordering::Relaxed);
        http.request(method, format!("{}/admin/v1/{path}", self.url(round % REPLICAS).await))
            .bearer_auth(&self.admin)
    }

    /// The answer; `None` where there was none, or one that says to come again.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Option<Response> {
        let asked = self.now();
        let response = request.send().await.ok();
        let answer = match response {
            None => None,
            Some(response) => {
                let (status, headers) = (response.status(), response.headers().clone());
                response.text().await.ok().map(|text| Response { status, headers, text })
            }
        };
        let is_wanted = answer.as_ref().is_some_and(|answer| !answer.status.is_server_error());
        if !is_wanted {
            if let Some(Response { status, headers, .. }) = &answer {
                let outcome = Outcome::Refused {
                    status: status.as_u16(),
                    code: String::new(),
                    has_hint: headers.contains_key("retry-after"),
                };
                let answer = Answer { uid: "admin".to_owned(), asked, answered: self.now(), outcome };
                self.answers.lock().unwrap().push(answer);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        answer.filter(|_| is_wanted)
    }
}

/// Lets another key sign, by the commands that an operator types; each is typed again until it is done.
pub(super) fn rotate(deployment: &Deployment) {
    let typed = |arguments: &[&str]| -> Value {
        let started = Instant::now();
        loop {
            let output = deployment.run(&[arguments, &["--format", "json"]].concat());
            if output.status.success() {
                return serde_json::from_slice(&output.stdout).unwrap();
            }
            assert!(started.elapsed() < PATIENCE, "{arguments:?}: {}", program::complaint(&output));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let kid = text(&typed(&["keys", "generate"])["kid"]);
    typed(&["keys", "publish", &kid]);
    typed(&["keys", "arm", &kid]);
    typed(&["keys", "activate", &kid]);
}

/// What the add-on grants now, and nothing else that these instances have.
fn scopes_of_add_on() -> BTreeSet<String> {
    let catalog = token_authority::catalog_files::example().unwrap();
    let now = Clock::system().now();
    let primitives = catalog.unit_primitives().iter();
    let bought = primitives.filter(|primitive| {
        primitive.cut_off_date.is_some_and(|at| at <= now)
            && primitive.add_ons.iter().any(|add_on| add_on.as_str() == ADD_ON)
    });
    bought.map(|primitive| primitive.name.as_str().to_owned()).collect()
}

fn client() -> reqwest::Client {
    // A replica that is killed, or stopped, answers nothing any more.
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}

/// What an answer holds, read from the tokens themselves.
fn held(body: &Value) -> Vec<Held> {
    let part = |token: &str, n: usize| -> Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap())
            .unwrap()
    };
    let tokens = body["tokens"].as_array().unwrap().iter();
    tokens
        .map(|token| {
            let token = text(&token["token"]);
            let (header, claims) = (part(&token, 0), part(&token, 1));
            let scopes = claims["scopes"].as_array().unwrap().iter().map(text).collect();
            Held { jti: text(&claims["jti"]), kid: text(&header["kid"]), scopes }
        })
        .collect()
}
