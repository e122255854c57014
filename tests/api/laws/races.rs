//! Law 7: exactly one answer wins a race, whichever replicas it is run on.

use std::collections::BTreeSet;

use futures_util::future::{join, join_all};
use proptest::prelude::*;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::Connection;
use token_authority::storage::fences::MINT_FENCE;

use super::{Replicas, rows};
use crate::support::app::{
    Answer, Instance, Sold, TestApp, activate, activation, fresh_uuid, sell, send, text,
};

/// What several want at once.
#[derive(Clone, Copy, Debug)]
enum Race {
    /// To change one record, each from what it read.
    Amend,
    /// To end something, each from what it read.
    End(Ending),
    /// To make the same record of another system.
    ExternalRef,
    /// To activate installations of their own, for so many places.
    LastPlace { places: u32 },
    /// To activate one installation.
    OneInstallation,
    /// To activate an installation again and again while it syncs.
    OneInstallationAgain,
    /// To make a record with one Idempotency-Key.
    OneKey,
    /// A new secret for one instance.
    Rotate,
    /// The same sync.
    Sync,
    /// Syncs of all sorts, while something is ended.
    SyncAgainst(Ending),
    /// Syncs that differ.
    Syncs,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Block,
    Cancel,
    Release,
    Revoke,
    Suspend,
}

impl Ending {
    /// The record that is ended, the verb, and the code of what is refused from then on.
    fn of(self, sold: &Sold, uid: &str) -> (String, &'static str, &'static str) {
        let license = format!("/admin/v1/licenses/{}", sold.license_id);
        let subscription = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
        let instance = format!("/admin/v1/instances/{uid}");
        match self {
            Self::Block => (instance, "block", "instance_blocked"),
            Self::Cancel => (subscription, "cancel", "subscription_canceled"),
            Self::Release => (instance, "release", "instance_released"),
            Self::Revoke => (license, "revoke", "license_revoked"),
            Self::Suspend => (subscription, "suspend", "subscription_suspended"),
        }
    }
}

fn races() -> impl Strategy<Value = (Race, usize)> {
    let endings = [Ending::Block, Ending::Cancel, Ending::Release, Ending::Revoke, Ending::Suspend];
    let ending = prop::sample::select(endings.to_vec());
    let race = prop_oneof![
        1 => Just(Race::Amend),
        2 => ending.clone().prop_map(Race::End),
        1 => Just(Race::ExternalRef),
        1 => (1..4_u32).prop_map(|places| Race::LastPlace { places }),
        1 => Just(Race::OneInstallation),
        2 => Just(Race::OneInstallationAgain),
        1 => Just(Race::OneKey),
        1 => Just(Race::Rotate),
        1 => Just(Race::Sync),
        2 => ending.prop_map(Race::SyncAgainst),
        1 => Just(Race::Syncs),
    ];
    (race, 2..7_usize)
}

#[test]
fn exactly_one_answer_wins_a_race() {
    let replicas = Replicas::start();
    replicas.run(races(), async |replicas, (race, runners)| {
        let app = &replicas.apps[0];
        let track = Track { apps: &replicas.apps, runners };
        match race {
            Race::Amend => track.amend(&sell(app, None, 1).await).await,
            Race::End(ending) => track.end(&sell(app, None, 1).await, ending).await,
            Race::ExternalRef => track.external_ref().await,
            Race::LastPlace { places } => track.last_place(&sell(app, None, places).await, places).await,
            Race::OneInstallation => track.one_installation(&sell(app, None, 1).await).await,
            Race::OneInstallationAgain => track.one_installation_again(&sell(app, None, 1).await).await,
            Race::OneKey => track.one_key().await,
            Race::Rotate => track.rotate(&sell(app, None, 1).await).await,
            Race::Sync => track.sync(&sell(app, None, 1).await).await,
            Race::SyncAgainst(ending) => track.sync_against(&sell(app, None, 1).await, ending).await,
            Race::Syncs => track.syncs(&sell(app, None, 1).await).await,
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_does_not_hold_mints_off_for_long_behind_one_that_hangs() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let path = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let suspend = async || {
        let request = app.admin(Method::POST, &format!("{path}:suspend"));
        let request = request.header("if-match", etag(&app, &path).await);
        send(request.json(&json!({ "reason": "unpaid" }))).await
    };
    let mut connection = app.deployment().database.connection().await;
    let mut hanging = connection.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock_shared($1, 0)")
        .bind(MINT_FENCE)
        .execute(&mut *hanging)
        .await
        .unwrap();
    // The change gives up, and what waited behind it is answered, while the mint still hangs.
    let (suspended, synced) = join(suspend(), sync(&app, &instance, "18.0.0")).await;
    suspended.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    assert!(suspended.headers.contains_key("retry-after"));
    synced.expect(StatusCode::OK);
    hanging.rollback().await.unwrap();
    suspend().await.expect(StatusCode::OK);
}

struct Track<'a> {
    apps: &'a [TestApp; 2],
    runners: usize,
}

impl Track<'_> {
    fn app(&self) -> &TestApp {
        &self.apps[0]
    }

    /// Every runner runs at once, on one replica or the other.
    async fn run(&self, run: impl AsyncFn(&TestApp, usize) -> Answer) -> Vec<Answer> {
        join_all((0..self.runners).map(|n| run(&self.apps[n % 2], n))).await
    }

    async fn amend(&self, sold: &Sold) {
        let path = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
        let etag = etag(self.app(), &path).await;
        let answers = self.run(async |app, n| {
            let request = app.admin(Method::PATCH, &path).header("if-match", &etag);
            send(request.json(&json!({ "seats": 100 + n }))).await
        });
        let answers = answers.await;
        let winner =
            one_winner(&answers, StatusCode::OK, StatusCode::PRECONDITION_FAILED, "precondition_failed");
        assert_eq!(self.app().admin_get(&path).await["seats"], 100 + winner);
    }

    async fn end(&self, sold: &Sold, ending: Ending) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let (record, verb, code) = ending.of(sold, &instance.uid);
        let etag = etag(self.app(), &record).await;
        let before = rows(self.app(), "audit_events").await;
        let answers = self.run(async |app, n| {
            let request = app.admin(Method::POST, &format!("{record}:{verb}")).header("if-match", &etag);
            send(request.json(&json!({ "reason": format!("reason {n}") }))).await
        });
        one_winner(&answers.await, StatusCode::OK, StatusCode::PRECONDITION_FAILED, "precondition_failed");
        assert_eq!(rows(self.app(), "audit_events").await - before, 1);
        sync(self.app(), &instance, "18.0.0").await.refused(StatusCode::FORBIDDEN, code);
    }

    async fn external_ref(&self) {
        let external_ref = fresh_uuid();
        let answers = self.run(async |app, _| {
            let body = json!({ "name": "Example GmbH", "external_ref": external_ref });
            send(app.admin(Method::POST, "/admin/v1/customers").json(&body)).await
        });
        one_winner(&answers.await, StatusCode::CREATED, StatusCode::CONFLICT, "conflict");
    }

    async fn last_place(&self, sold: &Sold, places: u32) {
        let answers = self.run(async |app, _| {
            let body = activation(&sold.activation_code, &fresh_uuid());
            send(app.request(Method::POST, "/v1/instances").json(&body)).await
        });
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.await.into_iter().partition(|answer| answer.status == StatusCode::CREATED);
        assert_eq!(won.len(), self.runners.min(places.try_into().unwrap()), "{won:?} {lost:?}");
        for answer in lost {
            answer.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
        }
    }

    async fn one_installation(&self, sold: &Sold) {
        let instance_id = fresh_uuid();
        let answers = self.run(async |app, _| {
            let body = activation(&sold.activation_code, &instance_id);
            send(app.request(Method::POST, "/v1/instances").json(&body)).await
        });
        let answers = answers.await;
        let made = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
        assert_eq!(made, 1, "{answers:?}");
        let others = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(others, self.runners - 1, "{answers:?}");
        let uids: BTreeSet<_> = answers.iter().map(|answer| text(&answer.json()["instance_uid"])).collect();
        assert_eq!(uids.len(), 1);
        let secrets = answers.iter().map(|answer| text(&answer.json()["instance_secret"]));
        self.two_open(uids.first().unwrap(), secrets).await;
    }

    async fn one_installation_again(&self, sold: &Sold) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let body = activation(&sold.activation_code, &instance.instance_id);
        let again = async |app: &TestApp| {
            let answer = send(app.request(Method::POST, "/v1/instances").json(&body)).await;
            let secret = text(&answer.expect(StatusCode::OK)["instance_secret"]);
            Instance { secret, ..instance.clone() }
        };
        // Two live secrets, neither of them used: every use is recorded, and so is every version.
        let newer = again(self.app()).await;
        let syncs = self.run(async |app, n| {
            let who = if n % 2 == 0 { &newer } else { &instance };
            sync(app, who, &format!("18.0.{n}")).await
        });
        let activations = join_all((0..self.runners).map(|n| again(&self.apps[n % 2])));
        let (syncs, activated) = join(syncs, activations).await;
        for answer in syncs.iter().filter(|answer| answer.status != StatusCode::OK) {
            // Its secret had to make room.
            answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
        }
        let secrets = activated.into_iter().chain([newer, instance.clone()]).map(|who| who.secret);
        self.two_open(&instance.uid, secrets).await;
    }

    async fn one_key(&self) {
        let key = fresh_uuid();
        let before = rows(self.app(), "customers").await;
        let answers = self.run(async |app, _| {
            let request = app.admin(Method::POST, "/admin/v1/customers").header("idempotency-key", &key);
            send(request.json(&json!({ "name": "Example GmbH" }))).await
        });
        let answers = answers.await;
        let bodies: BTreeSet<_> =
            answers.iter().map(|answer| answer.expect(StatusCode::CREATED).to_string()).collect();
        assert_eq!(bodies.len(), 1, "{answers:?}");
        let first =
            answers.iter().filter(|answer| !answer.headers.contains_key("idempotent-replayed")).count();
        assert_eq!((first, rows(self.app(), "customers").await - before), (1, 1), "{answers:?}");
    }

    async fn rotate(&self, sold: &Sold) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let answers = self.run(async |app, _| {
            send(instance.request(app, Method::POST, "/v1/instances/me/credential")).await
        });
        // Two live at most, so that a third takes the place of the older one: whoever asked with that is out.
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.await.into_iter().partition(|answer| answer.status == StatusCode::CREATED);
        assert!(!won.is_empty());
        for answer in lost {
            answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
        }
        let secrets = won.iter().map(|answer| text(&answer.json()["instance_secret"]));
        self.two_open(&instance.uid, secrets.chain([instance.secret.clone()])).await;
    }

    /// Of several secrets of one instance, two authenticate, or the one that there is.
    async fn two_open(&self, uid: &str, secrets: impl Iterator<Item = String>) {
        let mut there_are = 0;
        let mut open = 0;
        for secret in secrets {
            there_are += 1;
            let instance = Instance { uid: uid.to_owned(), instance_id: String::new(), secret };
            let answer = send(instance.request(self.app(), Method::GET, "/v1/entitlements")).await;
            match answer.status {
                StatusCode::OK => open += 1,
                _ => _ = answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated"),
            }
        }
        assert_eq!(open, 2.min(there_are));
    }

    async fn sync(&self, sold: &Sold) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let before = rows(self.app(), "issuances").await;
        let answers = self.run(async |app, _| sync(app, &instance, "18.0.0").await).await;
        let tokens: BTreeSet<_> =
            answers.iter().map(|answer| answer.expect(StatusCode::OK)["tokens"].to_string()).collect();
        assert_eq!(tokens.len(), 1, "{answers:?}");
        assert_eq!(rows(self.app(), "issuances").await - before, tokens_in(&answers[..1]));
    }

    async fn syncs(&self, sold: &Sold) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let before = rows(self.app(), "issuances").await;
        let answers = self.run(async |app, n| sync(app, &instance, &format!("18.0.{n}")).await).await;
        let each: BTreeSet<_> = answers.iter().flat_map(jtis).collect();
        assert_eq!(i64::try_from(each.len()).unwrap(), tokens_in(&answers), "one token was given to two");
        assert_eq!(rows(self.app(), "issuances").await - before, tokens_in(&answers));
    }

    async fn sync_against(&self, sold: &Sold, ending: Ending) {
        let instance = activate(self.app(), &sold.activation_code).await;
        let (record, verb, code) = ending.of(sold, &instance.uid);
        let before = rows(self.app(), "issuances").await;
        let ended = async {
            // A sync that reports a new version is a change of the instance, too: then it is read again.
            loop {
                let etag = etag(self.app(), &record).await;
                let request = self.apps[1].admin(Method::POST, &format!("{record}:{verb}"));
                let answer = send(request.header("if-match", &etag).json(&json!({ "reason": "over" }))).await;
                if answer.status == StatusCode::OK {
                    break;
                }
                answer.refused(StatusCode::PRECONDITION_FAILED, "precondition_failed");
            }
            // Whoever asks after this answer is refused, on every replica.
            for app in self.apps {
                sync(app, &instance, "18.0.0").await.refused(StatusCode::FORBIDDEN, code);
            }
        };
        let syncs = self.run(async |app, n| sync(app, &instance, &format!("18.0.{n}")).await);
        let ((), answers) = join(ended, syncs).await;
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == StatusCode::OK);
        for answer in lost {
            answer.refused(StatusCode::FORBIDDEN, code);
        }
        assert_eq!(rows(self.app(), "issuances").await - before, tokens_in(&won));
    }
}

async fn sync(app: &TestApp, instance: &Instance, version: &str) -> Answer {
    instance.sync(app, &json!({ "version": version })).await
}

async fn etag(app: &TestApp, path: &str) -> String {
    send(app.admin(Method::GET, path)).await.headers["etag"].to_str().unwrap().to_owned()
}

/// The index of the only answer that succeeded; the others were refused alike.
fn one_winner(answers: &[Answer], won: StatusCode, lost: StatusCode, code: &str) -> usize {
    let winners: Vec<_> = (0..answers.len()).filter(|n| answers[*n].status == won).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != won) {
        answer.refused(lost, code);
    }
    winners[0]
}

fn jtis(answer: &Answer) -> Vec<String> {
    let answer = answer.expect(StatusCode::OK);
    answer["tokens"].as_array().unwrap().iter().map(|token| text(&token["token"])).collect()
}

fn tokens_in(answers: &[Answer]) -> i64 {
    answers.iter().map(|answer| jtis(answer).len() as i64).sum()
}
