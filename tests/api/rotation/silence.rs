//! A process that nobody has heard of for an hour does not hold a rotation up, and is not passed over in silence.

use chrono::TimeDelta;
use serde_json::{Value, json};
use token_authority::rotation::plan::Step;

use super::{instance, sync};
use crate::support::app::TestApp;
use crate::support::fleet::Backend;
use crate::support::rotation::Operator;

#[tokio::test]
async fn whoever_was_silent_for_an_hour_is_named_by_the_plan_the_activation_and_the_audit() {
    let app = TestApp::start().await;
    let backend = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    let keys_dir = app.deployment().keys.path();
    let mut silent = backend.start(keys_dir, 1, "cut-off");
    silent.prove(&app).await;
    let operator = Operator::of(&app);
    let key = operator.generate().await;
    operator.publish().await;
    let mut deployed = backend.start(keys_dir, 2, "deployed");
    operator.arm(key).await;
    app.clock.set(app.clock.now() + TimeDelta::minutes(59));
    deployed.prove(&app).await;
    let planned = async || {
        let steps = operator.plan().await;
        steps.into_iter().find(|step| step.kid == Some(key) && step.step == Step::Activate).unwrap()
    };
    let waiting = planned().await;
    assert_eq!((waiting.blockers.len(), waiting.silent.len()), (1, 0), "it still blocks: {waiting:?}");
    operator.activate(key).await.unwrap_err();

    app.clock.set(app.clock.now() + TimeDelta::minutes(2));
    deployed.prove(&app).await;
    let told = "ai_gateway/cut-off (silent since 2026-11-20T12:00:00Z)";
    let ahead = planned().await;
    assert_eq!((ahead.blockers.len(), ahead.silent), (0, vec![told.to_owned()]));
    let activated = operator.activate(key).await.unwrap();
    assert_eq!((activated.passed_over.len(), activated.silent), (0, vec![told.to_owned()]));
    let audited = app.admin_get("/admin/v1/audit-events?limit=100").await;
    let row = audited["items"]
        .as_array()
        .unwrap()
        .iter()
        .rfind(|row| row["action"] == "key.activated" && row["subject_id"] == key.to_string());
    let after = &row.unwrap_or_else(|| panic!("{audited}"))["after"];
    assert_eq!((&after["grounds"], &after["silent"]), (&json!("proved"), &json!(["ai_gateway/cut-off"])));

    // That is what it means: it serves on, and refuses what is signed now, until it is deployed anew.
    let instance = instance(&app).await;
    let held = sync(&app, &instance, "17.6.1").await;
    let held = held.iter().find(|held| held.audience == backend.audience).unwrap();
    assert!(silent.verify(&held.token, app.clock.now()).is_err());
    assert!(backend.start(keys_dir, 2, "cut-off").verify(&held.token, app.clock.now()).is_ok());

    // Asked again, nothing is named: nothing changed.
    let again = operator.activate(key).await.unwrap();
    assert!(!again.is_new && again.silent.is_empty());
    assert_eq!(after.get("passed_over"), None::<&Value>);
}
