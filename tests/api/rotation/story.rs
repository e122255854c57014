//! A whole rotation in a world as it is: at no time does a live process meet a token that it cannot verify.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, StatusCode};
use serde_json::json;
use token_authority::domain::key_ring::{Blocker, KeyRefusal, KeyState, LEEWAY};
use token_authority::rotation::RotationError;
use token_authority::rotation::plan::Step;
use token_authority_verifier::{KeySet, Kid, Verifier};

use super::{Held, instance, kid_of, sync};
use crate::support::app::{ISSUER, Instance, TestApp, send};
use crate::support::fleet::{Backend, Process, system};
use crate::support::rotation::Operator;

#[tokio::test]
async fn a_whole_rotation_never_shows_a_live_process_a_token_that_it_cannot_verify() {
    let mut world = World::begin().await;
    let first = world.operator().active().await;
    world.pass(TimeDelta::minutes(1)).await;

    // A key is made and published; backends rebuild, each in its own time.
    let key = world.operator().generate().await;
    let published = world.operator().publish().await;
    assert_eq!((published.version, published.published), (2, [key].into()));
    world.pass(TimeDelta::minutes(10)).await;
    world.replace("ai-1", "ai-1b", 2).await;
    world.replace("ai-2", "ai-2b", 2).await;
    world.replace("flow-1", "flow-1b", 2).await;
    world.replace("flow-2", "flow-2b", 2).await;
    world.pass(TimeDelta::minutes(10)).await;
    // One is rolled back after it had proved the key, before the key is armed.
    assert!(world.process("ai-2b").carries(&key.to_string()));
    world.roll("ai-2b", 1);
    world.pass(TimeDelta::minutes(1)).await;

    // Armed: whatever was proved before counts for nothing. The gate names everyone who blocks.
    let armed = world.operator().arm(key).await;
    assert_eq!(armed.floor, 2);
    world.pass(TimeDelta::minutes(1)).await;
    let blockers = world.blockers(key).await;
    let named =
        ["ai_gateway", "ai_gateway/ai-2b", "ai_gateway/ai-3", "observability_backend", "security_gateway"];
    assert_eq!(blockers, named);
    assert_eq!(world.operator().active().await, first);
    let steps = world.operator().plan().await;
    let step = steps.iter().find(|step| step.kid == Some(key)).unwrap();
    assert_eq!((step.step, step.earliest, step.blockers.len()), (Step::Activate, None, 5));

    // One process proved the key since, and is cut off from the service; it serves on.
    world.cut_off("flow-2b");
    // The others catch up: rolled forward, replaced, checked in the pipeline.
    world.roll("ai-2b", 2);
    world.replace("ai-3", "ai-3b", 2).await;
    world.record_checked_build(2).await;
    world.pass(TimeDelta::minutes(2)).await;
    assert_eq!(world.blockers(key).await, ["observability_backend"], "whose cache time alone empties");
    for _ in 0..25 {
        world.pass(TimeDelta::minutes(59)).await;
    }

    // The gate holds. From now on everything is signed by the new key, and everyone verifies it.
    let activated = world.operator().activate(key).await.unwrap();
    assert_eq!((activated.demoted, activated.passed_over.len()), (Some(first), 0));
    let issued = world.pass(TimeDelta::seconds(1)).await;
    assert!(!issued.is_empty() && issued.iter().all(|held| kid_of(&held.token) == key));
    assert_eq!(world.operator().state(first).await, KeyState::Retiring);
    let again = world.operator().activate(key).await.unwrap();
    assert!(!again.is_new, "asked again, nothing changes");

    // The old key drains by the ledger: until its last token is dead.
    let last =
        world.held.iter().filter(|held| kid_of(&held.token) == first).map(|held| held.expires_at).max();
    let until = last.unwrap() + LEEWAY;
    let refusal = world.operator().retire(first).await.unwrap_err();
    assert!(
        matches!(&refusal, RotationError::Refused(KeyRefusal::NotDrained { until: told, .. }) if *told == until),
        "{refusal}"
    );
    while world.now() <= until {
        world.pass(TimeDelta::minutes(30)).await;
    }
    let retired = world.operator().retire(first).await.unwrap();
    assert_eq!((retired.version, retired.retired), (3, [first].into()));
    assert_eq!(world.operator().state(first).await, KeyState::Retired);

    // What was scaled to zero wakes with the build that was checked, and goes on.
    world.start("security_gateway", "scan-1", 2);
    world.pass(TimeDelta::minutes(1)).await;
    assert!(world.checked > 500, "{} tokens were verified", world.checked);
}

/// A deployment, its instances, its backends, and all tokens that are alive.
struct World {
    app: TestApp,
    backends: Vec<Backend>,
    processes: Vec<Process>,
    /// Those that serve on, but report no more and hear of nothing.
    cut_off: Vec<String>,
    /// The one that discovers keys, with the JWKS that it holds since then.
    discovering: (Verifier, DateTime<Utc>),
    instances: Vec<Instance>,
    held: Vec<Held>,
    syncs: u32,
    checked: u32,
}

impl World {
    async fn begin() -> Self {
        let app = TestApp::start().await;
        let backends = vec![
            Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 2).await,
            Backend::register(&app, "duo_workflow_service", "gitlab-duo-workflow-service", "embedded", 1)
                .await,
            Backend::register(&app, "security_gateway", "gitlab-security-gateway", "embedded", 1).await,
            Backend::register(&app, "observability_backend", "gitlab-observability-backend", "discovery", 0)
                .await,
        ];
        let instances = vec![instance(&app).await, instance(&app).await];
        let discovering = (discover(&app).await, app.clock.now());
        let mut world = Self {
            app,
            backends,
            processes: Vec::new(),
            cut_off: Vec::new(),
            discovering,
            instances,
            held: Vec::new(),
            syncs: 0,
            checked: 0,
        };
        for id in ["ai-1", "ai-2", "ai-3"] {
            world.start("ai_gateway", id, 1);
        }
        for id in ["flow-1", "flow-2"] {
            world.start("duo_workflow_service", id, 1);
        }
        world
    }

    fn operator(&self) -> Operator<'_> {
        Operator::of(&self.app)
    }

    fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    fn start(&mut self, backend: &str, id: &str, version: u32) {
        let backend = self.backends.iter().find(|known| known.name == backend).unwrap();
        self.processes.push(backend.start(self.app.deployment().keys.path(), version, id));
    }

    /// A deployment: the new process serves before the old one signs off.
    async fn replace(&mut self, old: &str, new: &str, version: u32) {
        let backend = self.process(old).backend.name;
        self.start(backend, new, version);
        let place = self.processes.iter().position(|process| process.id == old).unwrap();
        let gone = self.processes.remove(place);
        assert_eq!(gone.sign_off(&self.app).await.status, StatusCode::NO_CONTENT);
    }

    /// The same pod, another build.
    fn roll(&mut self, id: &str, version: u32) {
        let place = self.processes.iter().position(|process| process.id == id).unwrap();
        let backend = self.processes[place].backend.clone();
        self.processes[place] = backend.start(self.app.deployment().keys.path(), version, id);
    }

    fn cut_off(&mut self, id: &str) {
        self.cut_off.push(id.to_owned());
    }

    fn process(&self, id: &str) -> &Process {
        self.processes.iter().find(|process| process.id == id).unwrap()
    }

    async fn record_checked_build(&self, version: u32) {
        let asleep = &self.backends[2];
        let build = asleep.start(self.app.deployment().keys.path(), version, "never-started");
        let body =
            json!({ "build": build.build, "key_set_version": version, "key_set_digest": build.digest });
        let path = format!("/v1/backends/{}/checked-builds", asleep.name);
        let request = self.app.request(Method::POST, &path).bearer_auth(&asleep.token).json(&body);
        send(request).await.expect(StatusCode::OK);
    }

    /// Who keeps the key from signing, as a refused activation names them.
    async fn blockers(&self, kid: Kid) -> Vec<String> {
        match self.operator().activate(kid).await {
            Err(RotationError::Refused(KeyRefusal::NotReady { blockers, .. })) => {
                let mut names: Vec<_> = blockers.iter().map(Blocker::name).collect();
                names.sort();
                names
            }
            other => panic!("not refused for want of proof: {other:?}"),
        }
    }

    /// Lets time pass: processes beat twice, instances sync, and every token that lives is shown to every
    /// process that lives. Returns the tokens of this round.
    async fn pass(&mut self, time: TimeDelta) -> Vec<Held> {
        self.app.clock.set(self.now() + time);
        let cut_off = self.cut_off.clone();
        for process in self.processes.iter_mut().filter(|process| !cut_off.contains(&process.id)) {
            process.prove(&self.app).await;
        }
        // What discovers keys looks again when the longest time is over for which anyone keeps a JWKS.
        if self.now() - self.discovering.1 > TimeDelta::hours(24) + TimeDelta::minutes(5) {
            self.discovering = (discover(&self.app).await, self.now());
        }
        self.syncs += 1;
        let version = format!("17.6.{}", self.syncs);
        let mut fresh = Vec::new();
        for instance in &self.instances {
            fresh.extend(sync(&self.app, instance, &version).await);
        }
        self.held.extend(fresh.iter().cloned());
        let now = self.now();
        self.held.retain(|held| now < held.expires_at);
        self.show_everything();
        fresh
    }

    fn show_everything(&mut self) {
        let now = self.now();
        for held in &self.held {
            for process in self.processes.iter().filter(|process| process.backend.audience == held.audience) {
                let verdict = process.verify(&held.token, now);
                assert!(verdict.is_ok(), "{} at {now}: {verdict:?}", process.id);
                self.checked += 1;
            }
            if held.audience == "gitlab-observability-backend" {
                let verdict = self.discovering.0.verify(&held.token, system(now));
                assert!(verdict.is_ok(), "discovering, at {now}: {verdict:?}");
                self.checked += 1;
            }
        }
    }
}

/// What a backend that discovers keys holds until it looks again.
async fn discover(app: &TestApp) -> Verifier {
    let jwks = send(app.request(Method::GET, "/.well-known/jwks.json")).await;
    let keys = KeySet::parse(jwks.text.as_bytes()).unwrap();
    Verifier::from_key_set(&keys, ISSUER, "gitlab-observability-backend")
}
