//! `import`: what an order system's operator runs, against the real service.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{send, text};
use crate::support::program::{Deployment, Serving, answer, complaint};

/// Orders of four lines each, as another system would write them.
fn write_orders(path: &Path, orders: usize) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for number in 0..orders {
        let lines = [
            json!({ "type": "customer", "external_ref": format!("C-{number}"), "name": format!("Customer {number}") }),
            json!({
                "type": "subscription", "external_ref": format!("S-{number}"), "license_type": "premium", "seats": 10,
                "customer_external_ref": format!("C-{number}"), "starts_at": "2026-11-10", "ends_at": "2027-11-10",
            }),
            json!({
                "type": "add_on_purchase", "external_ref": format!("P-{number}"), "add_on": "duo_pro", "quantity": 5,
                "subscription_external_ref": format!("S-{number}"), "starts_at": "2026-11-10", "ends_at": "2027-11-10",
            }),
            json!({
                "type": "license", "external_ref": format!("L-{number}"), "kind": "online", "max_instances": 2,
                "subscription_external_ref": format!("S-{number}"),
            }),
        ];
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }
}

/// A deployment whose service comes back to the same port, and an admin token in the file `token`.
async fn prepare() -> (Deployment, String) {
    let mut deployment = Deployment::initialized().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    deployment.set("TOKEN_AUTHORITY_LISTEN", &format!("127.0.0.1:{port}"));
    let token = answer(&deployment.run(&["admin-token", "create", "--name", "orders", "--format", "json"]));
    let token = text(&token["token"]);
    fs::write(deployment.path("token"), format!("{token}\n")).unwrap();
    (deployment, token)
}

fn arguments<'a>(serving: &'a Serving, file: &'a str, token_file: &'a str) -> [&'a str; 8] {
    ["import", file, "--url", &serving.base_url, "--token-file", token_file, "--format", "json"]
}

fn told(path: &str) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test]
async fn a_file_is_sent_and_what_became_of_it_is_kept_for_its_owner_alone() {
    let (deployment, _) = prepare().await;
    let [file, token_file] = ["orders", "token"].map(|name| deployment.path(name).display().to_string());
    write_orders(Path::new(&file), 5);
    let mut appended = fs::OpenOptions::new().append(true).open(&file).unwrap();
    appended.write_all(b"\n{\"type\":\"customer\",\"external_ref\":\"C-9\",\"name\":7}\n").unwrap();
    let serving = deployment.serve();
    let arguments = arguments(&serving, &file, &token_file);
    let output = deployment.run(&arguments);
    assert_eq!(code(&output), Some(1), "{}", complaint(&output));
    assert_eq!(complaint(&output), "error: 1 of 21 lines were refused; mend them, and send the file again\n");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = format!("{file}.results");
    assert_eq!(
        (&summary["created"], &summary["refused"], &summary["results"]),
        (&json!(20), &json!(1), &json!(results))
    );
    let first = told(&results);
    assert_eq!(first.len(), 21);
    assert!(first[3]["activation_code"].is_string());
    assert_eq!(first[20]["problem"]["errors"][0]["pointer"], "/name");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&results).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // What may hold codes is not overwritten.
    let again = deployment.run(&arguments);
    assert!(code(&again) == Some(1) && complaint(&again).contains("may hold activation codes"));
    fs::rename(&results, format!("{results}.1")).unwrap();
    // The same file within a day is the same import: the codes are told again, nothing is done again.
    let table = deployment.run(&arguments[..6]);
    let shown = String::from_utf8(table.stdout).unwrap();
    assert!(
        shown.contains("/name must be a string")
            && shown.contains("20 created, 0 unchanged, 1 refused (20 lines"),
        "{shown}"
    );
    assert_eq!(told(&results)[3]["activation_code"], first[3]["activation_code"]);

    let mut wrong = arguments;
    let other_file = format!("{file}.other");
    fs::write(&other_file, "x").unwrap();
    wrong[1] = &other_file;
    wrong[5] = &other_file;
    let refused = deployment.run(&wrong);
    assert!(code(&refused) == Some(1) && complaint(&refused).contains("401"), "{}", complaint(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_meanwhile_loses_nothing_and_does_nothing_twice() {
    let (deployment, token) = prepare().await;
    let [file, token_file] = ["orders", "token"].map(|name| deployment.path(name).display().to_string());
    write_orders(Path::new(&file), 500);
    let serving = deployment.serve();
    let mut sending = deployment.start(&arguments(&serving, &file, &token_file));
    // Its progress can be read by anyone who may read.
    let client = Client::new();
    let base_url = serving.base_url.clone();
    let imports = async || {
        let request = client.get(format!("{base_url}/admin/v1/imports")).bearer_auth(&token);
        send(request).await.expect(StatusCode::OK)["items"].clone()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = imports().await;
        if seen[0]["last_line"].as_i64().is_some_and(|line| line >= 300) {
            assert_eq!(seen[0]["state"], "running", "{seen}");
            break;
        }
        assert!(Instant::now() < deadline, "{seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(serving);
    let serving = deployment.serve();
    let status = tokio::task::spawn_blocking(move || sending.wait().unwrap()).await.unwrap();
    assert!(status.success());
    let results = told(&format!("{file}.results"));
    assert_eq!(results.len(), 2000);
    assert!(results.iter().all(|told| told["outcome"] == "created"));
    let replayed = results.iter().filter(|told| told["replayed"] == true).count();
    assert!((300..2000).contains(&replayed), "{replayed}");
    let seen = imports().await;
    assert_eq!((&seen[0]["state"], &seen[0]["created"]), (&json!("finished"), &json!(2000)));
    let mut connection = deployment.connection().await;
    let counts: Vec<i64> = sqlx::query_scalar(
        "select count(*) from customers union all select count(*) from licenses \
         union all select count(*) from audit_events where reason like 'import %'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(counts, [500, 500, 2000]);
    drop(serving);
}

/// `cargo test --release --test api -- --ignored --nocapture a_hundred_thousand_lines`
#[tokio::test]
#[ignore = "takes minutes; prints the figures of docs/performance.md"]
async fn a_hundred_thousand_lines_take_no_more_memory_than_a_few() {
    let (deployment, _) = prepare().await;
    let [file, token_file] = ["orders", "token"].map(|name| deployment.path(name).display().to_string());
    let serving = deployment.serve();
    let [small, large] = [100, 25_000].map(|orders| {
        let _ = fs::remove_file(format!("{file}.results"));
        write_orders(Path::new(&file), orders);
        let before = peak_memory(&serving);
        let started = Instant::now();
        let summary = answer(&deployment.run(&arguments(&serving, &file, &token_file)));
        assert_eq!(summary["refused"], 0);
        let (after, taken) = (peak_memory(&serving), started.elapsed());
        println!(
            "{} lines in {taken:.1?}: {summary}; peak resident memory {before} KiB before, {after} KiB after",
            orders * 4
        );
        after
    });
    assert!(large < small + 32 * 1024, "{small} KiB, then {large} KiB");
}

/// The most memory that the service ever had, in KiB.
fn peak_memory(serving: &Serving) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", serving.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}
