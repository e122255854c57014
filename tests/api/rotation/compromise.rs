//! The worst day: one command, and what was told before it is what then happens.

use chrono::TimeDelta;
use reqwest::StatusCode;
use token_authority::domain::key_ring::{KeyState, Kid};
use token_authority_verifier::VerifyError;

use super::{Held, instance, kid_of, sync};
use crate::support::app::{Instance, TestApp};
use crate::support::fleet::{Backend, Process};
use crate::support::rotation::Operator;

#[tokio::test]
async fn the_next_sync_anywhere_is_signed_by_the_standby_and_backends_refuse_the_key_within_a_beat() {
    let day = Day::begin().await;
    let Day { app, mut processes, standby, leaked, instances, held } = day;
    let operator = Operator::of(&app);
    let replica = app.another().await;

    // Told before: every live token, all of their instances, the last end, one beat for whoever reports.
    let told = operator.assess(leaked).await;
    let live = told.endangered[0].live;
    assert_eq!(live.tokens, i64::try_from(held.len()).unwrap());
    assert_eq!(live.instances, 2);
    assert_eq!(live.until, held.iter().map(|held| held.expires_at).max());
    assert_eq!(told.successions[0].successor, Some(standby));
    let horizons: Vec<_> = told
        .horizons
        .iter()
        .map(|horizon| (horizon.backend.as_str(), horizon.of_key.num_seconds()))
        .collect();
    assert_eq!(horizons, [("ai_gateway", 30), ("duo_workflow_service", 30)]);

    let ended = operator.compromise(leaked).await;
    assert_eq!((ended.keys[0].state, ended.deny_list_serial), (KeyState::Revoked, 1));
    assert_eq!(operator.active().await, standby);
    for (app, instance) in [(&app, &instances[0]), (&replica, &instances[1])] {
        let fresh = sync(app, instance, "17.7.0").await;
        assert!(!fresh.is_empty() && fresh.iter().all(|held| kid_of(&held.token) == standby));
        assert_accepted(&processes, &fresh, &app.clock.now());
    }

    // One beat later each token of it is refused everywhere: as many as were told.
    assert_accepted(&processes, &held, &app.clock.now());
    app.clock.set(app.clock.now() + TimeDelta::seconds(horizons[0].1));
    for process in &mut processes {
        process.beat(&app).await;
    }
    let mut refused = 0;
    for held in &held {
        let of_audience = processes.iter().filter(|process| process.backend.audience == held.audience);
        let verdicts: Vec<_> =
            of_audience.map(|process| process.verify(&held.token, app.clock.now())).collect();
        assert!(verdicts.iter().all(|verdict| *verdict == Err(VerifyError::KeyDenied)), "{verdicts:?}");
        refused += 1;
    }
    assert_eq!(refused, live.tokens);

    let again = operator.compromise(leaked).await;
    assert!(!again.is_new && again.deny_list_serial == 1, "asked again, nothing changes");
}

/// An outage of the reports must not keep a leaked key in use.
#[tokio::test]
async fn it_works_while_every_report_has_been_missing_for_an_hour_and_says_who_may_not_hear() {
    let Day { app, processes, standby, leaked, instances, .. } = Day::begin().await;
    let operator = Operator::of(&app);
    app.clock.set(app.clock.now() + TimeDelta::minutes(90));

    let told = operator.assess(leaked).await;
    assert_eq!(told.successions[0].successor, Some(standby), "its last proof counts, however old");
    let left = told.endangered[0].key.not_after - app.clock.now();
    for horizon in &told.horizons {
        assert_eq!(horizon.of_key, left, "who is not heard of may believe the key until its end");
        assert!(horizon.because.iter().all(|why| why.contains("is not heard of")), "{horizon:?}");
    }
    operator.compromise(leaked).await;
    let fresh = sync(&app, &instances[0], "17.7.0").await;
    assert!(fresh.iter().all(|held| kid_of(&held.token) == standby));
    assert_accepted(&processes, &fresh, &app.clock.now());
}

#[tokio::test]
async fn a_key_that_retired_long_ago_is_killed_in_the_old_build_that_still_holds_it() {
    let Day { app, mut processes, standby, leaked: first, held, .. } = Day::begin().await;
    let operator = Operator::of(&app);
    operator.activate(standby).await.unwrap();
    app.clock.set(app.clock.now() + TimeDelta::hours(9));
    operator.retire(first).await.unwrap();
    assert_eq!(operator.state(first).await, KeyState::Retired);

    let told = operator.assess(first).await;
    assert_eq!((told.endangered[0].live.tokens, told.successions.len()), (0, 0));
    let ended = operator.compromise(first).await;
    assert_eq!(ended.keys[0].state, KeyState::Retired, "a final state stays");
    assert_eq!(operator.active().await, standby);

    // What the old build would still have believed, it does not any more.
    let process = &mut processes[0];
    assert!(process.carries(&first.to_string()));
    let old = held.iter().find(|held| held.audience == process.backend.audience).unwrap();
    let when_it_lived = old.expires_at - TimeDelta::minutes(1);
    assert_eq!(process.verify(&old.token, when_it_lived), Ok(()));
    process.beat(&app).await;
    assert_eq!(process.verify(&old.token, when_it_lived), Err(VerifyError::KeyDenied));
}

#[tokio::test]
async fn without_a_ready_standby_minting_stops_and_an_override_brings_it_back() {
    let app = TestApp::start().await;
    let instance = instance(&app).await;
    Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    let operator = Operator::of(&app);
    let (leaked, standby) = (operator.active().await, operator.keys(KeyState::Published).await[0]);
    let told = operator.assess(leaked).await;
    assert_eq!(told.successions[0].successor, None);
    assert_eq!(told.successions[0].not_ready, [format!("{standby} is not armed")]);
    let ended = operator.compromise(leaked).await;
    assert_eq!(ended.silenced.len(), 1);
    let stopped = instance.sync(&app, &serde_json::json!({ "version": "17.6.1" })).await;
    stopped.refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable");

    operator.arm(standby).await;
    let waiver = token_authority::domain::key_ring::Waiver {
        names: ["ai_gateway".to_owned()].into(),
        reason: "customers are down".to_owned(),
    };
    operator.activate(standby).await.unwrap_err();
    let activated = operator.activate_past(standby, Some(waiver)).await.unwrap();
    assert_eq!(activated.passed_over.len(), 1);
    assert!(sync(&app, &instance, "17.6.1").await.iter().all(|held| kid_of(&held.token) == standby));
}

/// A connection that holds the fence and does nothing must not hold up the emergency.
#[tokio::test]
async fn whoever_holds_mints_up_for_five_seconds_is_ended() {
    let Day { app, standby, leaked, .. } = Day::begin().await;
    let mut stuck = app.deployment().database.connection().await;
    sqlx::raw_sql("begin; select pg_advisory_xact_lock_shared(7629665, 0)")
        .execute(&mut stuck)
        .await
        .unwrap();
    assert_eq!(i64::from(token_authority::storage::fences::MINT_FENCE), 7_629_665);

    let operator = Operator::of(&app);
    let ended = operator.compromise(leaked).await;
    assert_eq!(ended.ended_connections, 1);
    assert_eq!(operator.active().await, standby);
    assert!(sqlx::raw_sql("commit").execute(&mut stuck).await.is_err(), "what it had begun is gone");
}

/// Replicas lose a private half from their memory when they hear of the change; the database has lost it already.
#[tokio::test]
async fn the_private_half_is_gone_from_the_database_at_once_and_from_memory_soon() {
    let Day { app, leaked, .. } = Day::begin().await;
    let kid = leaked.to_string();
    assert!(app.app.keystore.signer(&kid).is_some());
    Operator::of(&app).compromise(leaked).await;
    let mut connection = app.database().await;
    let sealed = sqlx::query_scalar::<_, bool>("select sealed is not null from signing_keys where kid = $1");
    assert!(!sealed.bind(&kid).fetch_one(&mut *connection).await.unwrap());
    token_authority::app::forget_signers(&app.app).await.unwrap();
    assert!(app.app.keystore.signer(&kid).is_none());
}

/// Two backends whose processes have proved the standby, and tokens under the key that will leak.
struct Day {
    app: TestApp,
    processes: Vec<Process>,
    standby: Kid,
    leaked: Kid,
    instances: Vec<Instance>,
    held: Vec<Held>,
}

impl Day {
    async fn begin() -> Self {
        let app = TestApp::start().await;
        let ai = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 2).await;
        let flow =
            Backend::register(&app, "duo_workflow_service", "gitlab-duo-workflow-service", "embedded", 1)
                .await;
        let keys_dir = app.deployment().keys.path();
        let mut processes = vec![
            ai.start(keys_dir, 1, "ai-1"),
            ai.start(keys_dir, 1, "ai-2"),
            flow.start(keys_dir, 1, "flow-1"),
        ];
        let operator = Operator::of(&app);
        let (leaked, standby) = (operator.active().await, operator.keys(KeyState::Published).await[0]);
        operator.arm(standby).await;
        app.clock.set(app.clock.now() + TimeDelta::seconds(30));
        for process in &mut processes {
            process.prove(&app).await;
            process.beat(&app).await;
        }
        let instances = vec![instance(&app).await, instance(&app).await];
        let mut held = Vec::new();
        for instance in &instances {
            held.extend(sync(&app, instance, "17.6.1").await);
        }
        Self { app, processes, standby, leaked, instances, held }
    }
}

fn assert_accepted(processes: &[Process], held: &[Held], now: &chrono::DateTime<chrono::Utc>) {
    for held in held {
        for process in processes.iter().filter(|process| process.backend.audience == held.audience) {
            assert_eq!(process.verify(&held.token, *now), Ok(()), "{}", process.id);
        }
    }
}
