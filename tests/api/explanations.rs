//! `token explain` and `catalog diff`: why a token was issued so, and what another catalog would change, on the command
//! line of whoever runs the deployment.

use std::fs;
use std::path::Path;

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Sold, TestApp, activate, fresh_uuid, sell, send, text};
use crate::support::program::{Deployment, answer, complaint};

/// The commands of the app's operator.
fn operator(app: &TestApp) -> Deployment {
    let mut operator = Deployment::on(&app.deployment().database.url());
    operator.set("TOKEN_AUTHORITY_ENVIRONMENT", "development");
    operator
}

async fn run(operator: &Deployment, arguments: &[&str]) -> std::process::Output {
    tokio::task::block_in_place(|| operator.run(arguments))
}

fn names(reasons: &Value) -> Vec<String> {
    reasons.as_array().unwrap().iter().map(|reason| text(&reason["unit_primitive"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_explained_by_what_was_recorded_when_it_was_issued() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let body = json!({ "version": "17.6.1", "backends": ["ai_gateway"] });
    let synced = instance.sync(&app, &body).await.expect(StatusCode::OK);
    let token = text(&synced["tokens"][0]["token"]);
    // Since then everything has changed.
    app.clock.set(app.clock.now() + TimeDelta::minutes(5));
    cancel(&app, &sold).await;

    let operator = operator(&app);
    let explained = answer(&run(&operator, &["token", "explain", &token, "--format", "json"]).await);
    assert_eq!(names(&explained["granted"]), names_of(&synced["tokens"][0]["unit_primitives"]));
    let chat =
        explained["granted"].as_array().unwrap().iter().find(|one| one["unit_primitive"] == "duo_chat");
    assert_eq!(chat.unwrap()["code"], "add_on:duo_pro", "{explained}");
    let left_out = explained["left_out"].as_array().unwrap();
    let epic = left_out.iter().find(|one| one["unit_primitive"] == "ask_epic").unwrap();
    assert_eq!(epic["code"], "add_on_not_purchased");
    assert!(!names(&explained["left_out"]).contains(&"security_scans".to_owned()), "another backend's");
    assert_eq!((&explained["backend"], &explained["contradictions"]), (&json!("ai_gateway"), &json!([])));

    // By the jti alone, and for people.
    let jti = text(&explained["jti"]);
    let again = answer(&run(&operator, &["token", "explain", &jti, "--format", "json"]).await);
    assert_eq!((&again["granted"], again.get("contradictions")), (&explained["granted"], None));
    let table = String::from_utf8(run(&operator, &["token", "explain", &jti]).await.stdout).unwrap();
    assert!(table.contains("duo_chat") && table.contains("add_on:duo_pro"), "{table}");

    // A token that says more than the ledger was altered; one of others is unknown.
    let altered = forged(&token, |claims| claims["scopes"].as_array_mut().unwrap().push(json!("ask_epic")));
    let told = answer(&run(&operator, &["token", "explain", &altered, "--format", "json"]).await);
    assert_eq!(told["contradictions"], json!(["scopes"]));
    let unknown = forged(&token, |claims| claims["jti"] = json!(fresh_uuid()));
    for (given, part) in [(unknown.as_str(), "was issued here"), ("nonsense", "malformed")] {
        let output = run(&operator, &["token", "explain", given]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(part), "{}", complaint(&output));
    }
}

async fn cancel(app: &TestApp, sold: &Sold) {
    let path = format!("/admin/v1/subscriptions/{}", sold.subscription_id);
    let current = send(app.admin(Method::GET, &path)).await;
    let cancel = app
        .admin(Method::POST, &format!("{path}:cancel"))
        .header("if-match", current.headers["etag"].clone())
        .json(&json!({ "reason": "not paid" }));
    assert!(send(cancel).await.status.is_success());
}

fn names_of(unit_primitives: &Value) -> Vec<String> {
    unit_primitives.as_array().unwrap().iter().map(text).collect()
}

/// The token with other claims under the same signature.
fn forged(token: &str, change: impl Fn(&mut Value)) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    change(&mut claims);
    format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_is_compared_with_the_one_that_decides_and_with_what_was_sold() {
    let app = TestApp::start().await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    activate(&app, &sell(&app, Some("duo_enterprise"), 1).await.activation_code).await;
    activate(&app, &sell(&app, None, 1).await.activation_code).await;
    let operator = operator(&app);
    let folder = tempfile::tempdir().unwrap();
    let (catalog, next) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog"), folder.path().join("next"));
    copy(&catalog, &next);
    let diff = async |more: &[&str]| {
        let arguments = [&["catalog", "diff", next.to_str().unwrap()], more].concat();
        run(&operator, &arguments).await
    };

    // 1. Nothing differs.
    let same = answer(&diff(&["--refuse-losses", "--format", "json"]).await);
    assert_eq!((&same["before"], &same["changed"]), (&same["after"], &json!([])));
    assert_eq!(same["effects"], json!({ "instances": 3, "gained": [], "lost": [] }), "{same}");

    // 2. The chat is taken out of one add-on and into none, and scans are to end in the future.
    edit(&next, "unit_primitives/duo_chat.yml", |text| text.replace("  - duo_pro\n", ""));
    edit(&next, "unit_primitives/security_scans.yml", |text| {
        format!("{text}cut_off_date: 2027-03-01T00:00:00Z\nadd_ons:\n  - observability\n")
    });
    let changed = answer(&diff(&["--format", "json"]).await);
    let records: Vec<_> =
        changed["changed"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(records, ["duo_chat", "security_scans"], "{changed}");
    assert_eq!(changed["changed"][1]["members"][1]["after"], "2027-03-01T00:00:00Z");
    let lost = changed["effects"]["lost"].as_array().unwrap();
    assert_eq!(
        (&lost[0]["unit_primitive"], &lost[0]["instances"], &lost[0]["some"]),
        (&json!("duo_chat"), &json!(1), &json!([instance.uid]))
    );
    assert_eq!(
        (&lost[1]["unit_primitive"], &lost[1]["instances"], &lost[1]["subscriptions"], &lost[1]["at"]),
        (&json!("security_scans"), &json!(3), &json!(3), &json!("2027-03-01T00:00:00Z"))
    );
    assert_eq!((lost.len(), &changed["effects"]["gained"]), (2, &json!([])));
    let output = diff(&["--refuse-losses"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("2 unit primitives would be lost"), "{}", complaint(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("duo_chat") && table.contains("lost"), "{table}");

    // 3. Two folders are compared without any database.
    let against = ["--against", catalog.to_str().unwrap(), "--format", "json"];
    let compared = answer(&diff(&against).await);
    assert_eq!((&compared["changed"], compared.get("effects")), (&changed["changed"], None));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn edit(folder: &Path, file: &str, change: impl Fn(String) -> String) {
    let path = folder.join(file);
    let before = fs::read_to_string(&path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after, "{file}");
    fs::write(path, after).unwrap();
}
