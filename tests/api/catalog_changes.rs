//! A catalog that is changed while the service runs: compared first, then replaced as a whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::deployment::{Client, admin_token};
use crate::support::program::{Deployment, answer};

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_replaces_the_catalog_whole_and_a_bad_one_changes_nothing() {
    let mut deployment = Deployment::initialized().await;
    let catalog = deployment.path("catalog");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog"), &catalog);
    deployment.set("TOKEN_AUTHORITY_CATALOG_DIR", catalog.to_str().unwrap());
    let admin = admin_token(&deployment);
    let serving = deployment.serve();
    let client = Client::new(&serving);
    let instance = client.activate(&admin).await;
    let before = client.sync(&instance).await;
    assert!(has(&before, "duo_chat"), "{before}");
    let digest = before["catalog"]["digest"].as_str().unwrap().to_owned();

    // 1. One more record, and one fewer for everybody: looked at before it is done.
    let file = catalog.join("unit_primitives/duo_chat.yml");
    let told = fs::read_to_string(&file).unwrap();
    fs::write(&file, without(&told, "backend_services")).unwrap();
    fs::write(catalog.join("license_types/starter.yml"), "name: starter\ndescription: A small plan\n")
        .unwrap();
    let diff = answer(&deployment.run(&["catalog", "diff", "--format", "json"]));
    assert_eq!(diff["before"], json!(digest));
    let changes: Vec<String> = changes(&diff);
    assert_eq!(changes, ["license_types/starter added", "unit_primitives/duo_chat changed"]);
    assert_eq!(diff["effects"]["instances"], 1);
    assert_eq!((&diff["effects"]["gained"], &diff["effects"]["lost"]), (&json!([]), &json!([])), "{diff}");

    // 2. A hangup.
    serving.hang_up();
    let digest = eventually("another catalog decides", async || {
        let now = client.sync(&instance).await["catalog"]["digest"].as_str().unwrap().to_owned();
        (now != digest).then_some(now)
    })
    .await;
    assert_eq!(diff["after"], json!(digest));
    assert!(!has(&client.sync(&instance).await, "duo_chat"), "no backend hosts it any more");
    let audited = audited(&client, &admin).await;
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert_eq!(audited[0]["after"]["digest"], json!(digest));
    assert_eq!(self::changes(&audited[0]["after"]), changes);
    let log = serving.log_text();
    assert!(log.contains("1 records added, 1 changed, 0 removed"), "{log}");
    assert!(log.contains("catalog: license_types/starter was added"), "{log}");

    // 3. A plan that loses what it had: told beforehand, with how many it hits.
    fs::write(&file, format!("{}license_types: [starter]\n", without(&told, "license_types"))).unwrap();
    let diff = answer(&deployment.run(&["catalog", "diff", "--format", "json"]));
    let lost = &diff["effects"]["lost"][0];
    assert_eq!((&lost["unit_primitive"], &lost["instances"]), (&json!("duo_chat"), &json!(1)), "{diff}");

    // 4. One bad file among the good: nothing of it counts.
    fs::write(catalog.join("license_types/bad.yml"), "name: bad\nprice: 3\n").unwrap();
    serving.hang_up();
    eventually("the bad catalog is told", async || {
        serving.log_text().contains("the catalog was not replaced, the earlier one goes on").then_some(())
    })
    .await;
    assert!(serving.log_text().contains("unknown_field"), "{}", serving.log_text());
    assert_eq!(client.sync(&instance).await["catalog"]["digest"], json!(digest));
    assert_eq!(self::audited(&client, &admin).await.len(), 1);

    // 5. Mended; the same again changes nothing.
    fs::remove_file(catalog.join("license_types/bad.yml")).unwrap();
    fs::write(&file, &told).unwrap();
    fs::remove_file(catalog.join("license_types/starter.yml")).unwrap();
    serving.hang_up();
    eventually("the first catalog is back", async || {
        has(&client.sync(&instance).await, "duo_chat").then_some(())
    })
    .await;
    serving.hang_up();
    eventually("nothing changes", async || serving.log_text().contains("and is the same").then_some(()))
        .await;
    assert_eq!(self::audited(&client, &admin).await.len(), 2);
}

/// What a difference says of each record, sorted.
fn changes(difference: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    for word in ["added", "changed", "removed"] {
        for one in difference[word].as_array().unwrap() {
            let text = |member: &str| one[member].as_str().unwrap();
            changes.push(format!("{}/{} {word}", text("kind"), text("name")));
        }
    }
    changes.sort();
    changes
}

async fn audited(client: &Client, admin: &str) -> Vec<Value> {
    let url = client.url("/admin/v1/audit-events?action=catalog.activate");
    let page: Value = client.http.get(url).bearer_auth(admin).send().await.unwrap().json().await.unwrap();
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
}

fn has(synced: &Value, name: &str) -> bool {
    let tokens = synced["tokens"].as_array().unwrap().iter();
    tokens.flat_map(|token| token["unit_primitives"].as_array().unwrap()).any(|one| one == name)
}

/// A file without one of its members, which is a list.
fn without(text: &str, member: &str) -> String {
    let mut kept = String::new();
    let mut is_left_out = false;
    for line in text.lines() {
        if !line.starts_with([' ', '-']) {
            is_left_out = line.starts_with(&format!("{member}:"));
        }
        if !is_left_out {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn copy(from: &Path, to: &PathBuf) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, copied).unwrap();
        }
    }
}

async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
