//! The audit as it leaves the database: the command line, and everything in it that a restore needs.

use std::collections::BTreeMap;

use serde_json::Value;
use token_authority::audit::export;
use token_authority::rotation::manifests;

use crate::support::program::{Deployment, answer, complaint};

#[tokio::test]
async fn an_export_proves_itself_and_tells_the_state_of_every_key() {
    let deployment = Deployment::initialized().await;
    let file = deployment.path("audit.ndjson");
    let output = deployment.run(&["audit", "export", "--output", &file.display().to_string()]);
    assert!(output.status.success(), "{}", complaint(&output));
    // What is there is never overwritten.
    assert!(!deployment.run(&["audit", "export", "--output", &file.display().to_string()]).status.success());

    let text = std::fs::read_to_string(&file).unwrap();
    let mut states = BTreeMap::new();
    let read = export::read(text.as_bytes(), |event| {
        if event.subject_kind == "signing_key" {
            states.insert(event.subject_id, event.after.unwrap()["state"].as_str().unwrap().to_owned());
        }
    })
    .unwrap();
    let mut connection = deployment.connection().await;
    let known = manifests::list(&mut connection, "staging").await.unwrap();
    let checkpoint = read.prove(|jws| manifests::verify_checkpoint(&known, jws)).unwrap();
    assert_eq!(checkpoint.environment, "staging");
    let stored: Vec<(String, String)> = sqlx::query_as("select kid, state from signing_keys order by kid")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), {
        let mut stored = stored;
        stored.sort();
        stored
    });

    // Another export's checkpoint proves nothing here.
    let shorter: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert!(export::read(shorter.as_bytes(), |_| {}).is_err());
}

#[tokio::test]
async fn the_command_line_signs_and_verifies() {
    let deployment = Deployment::initialized().await;
    let verified = answer(&deployment.run(&["audit", "verify", "--format", "json"]));
    assert_eq!((&verified["valid"], &verified["checkpoint"]), (&Value::Bool(true), &Value::Null));

    let signed = answer(&deployment.run(&["audit", "checkpoint", "--format", "json"]));
    assert_eq!(signed["sequence"], verified["end"]);
    assert_eq!(signed["digest"], verified["digest"]);
    let [json, bare] = ["checkpoint.json", "checkpoint.jws"].map(|name| deployment.path(name));
    std::fs::write(&json, signed.to_string()).unwrap();
    std::fs::write(&bare, format!("{}\n", signed["checkpoint"].as_str().unwrap())).unwrap();
    for file in [&json, &bare] {
        let file = file.display().to_string();
        let verified =
            answer(&deployment.run(&["audit", "verify", "--format", "json", "--checkpoint", &file]));
        assert_eq!(verified["checkpoint"], signed["sequence"]);
    }

    let mut connection = deployment.connection().await;
    super::tamper(&mut connection, "update audit_events set actor = 'nobody' where action = 'key.activated'")
        .await;
    let output = deployment.run(&["audit", "verify", "--checkpoint", &json.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("was altered"), "{}", complaint(&output));
    let output = deployment.run(&["audit", "verify", "--format", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["valid"], found["findings"].as_array().unwrap().len()), (&Value::Bool(false), 3));

    std::fs::write(&bare, "nothing.of.this").unwrap();
    let output = deployment.run(&["audit", "verify", "--checkpoint", &bare.display().to_string()]);
    assert!(complaint(&output).contains("the checkpoint is refused"), "{}", complaint(&output));
}
