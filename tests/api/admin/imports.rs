//! Imports: many records from another system, each line once, whatever happens on the way.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::changes::{tables_changed_since, whole_database};
use super::{changed, complaints};
use crate::support::app::{Answer, TestApp, activate, send, text};

/// A customer with all that it may have, each line naming the one before by its reference.
fn order(number: usize) -> [Value; 4] {
    [
        json!({ "type": "customer", "external_ref": format!("C-{number}"), "name": format!("Customer {number}") }),
        json!({
            "type": "subscription", "external_ref": format!("S-{number}"), "customer_external_ref": format!("C-{number}"),
            "license_type": "premium", "seats": 10, "starts_at": "2026-11-10", "ends_at": "2027-11-10",
            "time_zone": "Europe/Berlin",
        }),
        json!({
            "type": "add_on_purchase", "external_ref": format!("P-{number}"), "subscription_external_ref": format!("S-{number}"),
            "add_on": "duo_pro", "quantity": 5, "starts_at": "2026-11-10", "ends_at": "2027-11-10",
        }),
        json!({
            "type": "license", "external_ref": format!("L-{number}"), "subscription_external_ref": format!("S-{number}"),
            "kind": "online", "max_instances": 2,
        }),
    ]
}

fn file(lines: impl IntoIterator<Item = Value>) -> String {
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

fn import(app: &TestApp, body: impl Into<reqwest::Body>) -> RequestBuilder {
    app.admin(Method::POST, "/admin/v1/imports").header("content-type", "application/x-ndjson").body(body)
}

/// What is told of each line.
#[track_caller]
fn results(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcomes(results: &[Value]) -> Vec<(i64, &str)> {
    let outcome =
        |result: &Value| (result["line"].as_i64().unwrap(), result["outcome"].as_str().unwrap().to_owned());
    let known = ["created", "unchanged", "refused"];
    results
        .iter()
        .map(outcome)
        .map(|(line, outcome)| (line, *known.iter().find(|known| **known == outcome).unwrap()))
        .collect()
}

async fn progress(app: &TestApp, answer: &Answer) -> Value {
    app.admin_get(answer.headers["location"].to_str().unwrap()).await
}

#[tokio::test]
async fn lines_become_records_that_activate_and_sync() {
    let app = TestApp::start().await;
    let answer = send(import(&app, file(order(1)))).await;
    let told = results(&answer);
    assert_eq!(outcomes(&told), [(1, "created"), (2, "created"), (3, "created"), (4, "created")]);
    assert_eq!((&told[0]["type"], &told[0]["external_ref"]), (&json!("customer"), &json!("C-1")));
    let subscription = app.admin_get(&format!("/admin/v1/subscriptions/{}", text(&told[1]["id"]))).await;
    assert_eq!(subscription["customer_id"], told[0]["id"]);
    assert_eq!(
        (&subscription["starts_on"], &subscription["starts_at"]),
        (&json!("2026-11-10"), &json!("2026-11-09T23:00:00Z"))
    );
    let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", text(&told[1]["id"]));
    assert_eq!(app.admin_get(&purchases).await["items"][0]["id"], told[2]["id"]);

    let instance = activate(&app, &text(&told[3]["activation_code"])).await;
    let synced = instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    let granted: BTreeSet<_> = synced["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|token| token["unit_primitives"].as_array().unwrap())
        .map(text)
        .collect();
    assert!(granted.contains("code_suggestions"), "{granted:?}");

    let import = progress(&app, &answer).await;
    for (member, value) in [
        ("state", json!("finished")),
        ("last_line", json!(4)),
        ("created", json!(4)),
        ("unchanged", json!(0)),
        ("refused", json!(0)),
    ] {
        assert_eq!(import[member], value, "{import}");
    }
    assert_eq!(import["bytes_read"], import["bytes_expected"]);
    assert_eq!(app.admin_get("/admin/v1/imports?state=finished").await["items"], json!([import]));
    let mut connection = app.deployment().database.connection().await;
    let audited: Vec<(String, String)> = sqlx::query_as(
        "select action, subject_id from audit_events where reason like 'import %' order by id",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let expected = ["customer.create", "subscription.create", "add_on_purchase.create", "license.create"];
    let made: BTreeSet<_> =
        expected.iter().zip(&told).map(|(action, told)| ((*action).to_owned(), text(&told["id"]))).collect();
    assert_eq!(audited.into_iter().collect::<BTreeSet<_>>(), made);
}

#[tokio::test]
async fn each_record_comes_with_its_row_in_the_audit_and_its_event_in_one_transaction() {
    let app = TestApp::start().await;
    let bad = json!({ "type": "customer", "external_ref": "C-2", "name": "" });
    let request = import(&app, file(order(1).into_iter().chain([bad]))).header("x-request-id", "nightly-7");
    let told = results(&send(request).await);
    let made = &told[..4];
    for result in made {
        let id = text(&result["id"]);
        let feed = app.admin_get(&format!("/admin/v1/events?subject_id={id}")).await;
        let audit = app.admin_get(&format!("/admin/v1/audit-events?subject_id={id}")).await;
        let ([event], [row]) = (items(&feed).as_slice(), items(&audit).as_slice()) else {
            panic!("not one of each: {feed} {audit}")
        };
        assert_eq!((&event["id"], &event["sequence"]), (&row["id"], &row["sequence"]));
        assert_eq!((&row["before"], &row["after"]), (&Value::Null, &event["data"]));
        assert_eq!(row["request_id"], "nightly-7");
        assert!(text(&row["actor"]).ends_with(" test") && row["after"]["id"] == id, "{row}");
    }
    // The refused line left neither: besides the import's own, there are these four.
    let rows = app.admin_get("/admin/v1/audit-events?request_id=nightly-7").await;
    let changed = items(&rows).iter().filter(|row| row["subject_kind"] != "import").count();
    assert_eq!(changed, 4, "{rows}");

    // Where an event cannot be written, there is no record either.
    let mut connection = app.deployment().database.connection().await;
    sqlx::raw_sql(
        "create function refuse_event() returns trigger language plpgsql as $$ begin raise exception 'full'; end $$; \
         create trigger refused before insert on events for each row execute function refuse_event()",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let lines = file(order(3));
    // However the answer ends.
    if let Ok(answer) = import(&app, lines).send().await {
        let _ = answer.bytes().await;
    }
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from customers where external_ref = 'C-3') \
              + (select count(*) from audit_events where after->>'external_ref' = 'C-3')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap()
}

#[tokio::test]
async fn the_same_file_twice_changes_nothing_even_where_a_record_was_amended_since() {
    let app = TestApp::start().await;
    let lines = file((1..=3).flat_map(order));
    let first = results(&send(import(&app, lines.clone())).await);
    let subscription = format!("/admin/v1/subscriptions/{}", text(&first[1]["id"]));
    changed(&app, Method::PATCH, &subscription, &subscription, json!({ "seats": 20 })).await;
    let before = whole_database(&app).await;
    let again = results(&send(import(&app, lines)).await);
    assert!(again.iter().all(|told| told["outcome"] == "unchanged"), "{again:?}");
    let ids = |told: &[Value]| told.iter().map(|told| told["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&first));
    // A code is told once.
    assert!(again.iter().all(|told| told.get("activation_code").is_none()));
    assert_eq!(tables_changed_since(&app, &before).await, ["import_results", "imports"]);
}

#[tokio::test]
async fn a_bad_line_is_told_with_its_number_and_does_not_stop_the_rest() {
    let app = TestApp::start().await;
    let [customer, subscription, purchase, license] = order(1);
    let with = |line: &Value, member: &str, value: Value| {
        let mut line = line.clone();
        line[member] = value;
        line.to_string()
    };
    let nested = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let lines = [
        ("{ no json".to_owned(), "invalid_request", vec![]),
        ("[1]".to_owned(), "invalid_parameters", vec![("", "wrong_type")]),
        (nested, "invalid_parameters", vec![("", "too_deep")]),
        ("{}".to_owned(), "invalid_parameters", vec![("/type", "missing"), ("/external_ref", "missing")]),
        (with(&customer, "type", json!("person")), "invalid_parameters", vec![("/type", "invalid")]),
        (with(&customer, "nmae", json!("x")), "invalid_parameters", vec![("/nmae", "unknown_member")]),
        (
            with(&customer, "name", json!("x".repeat(10_000))),
            "invalid_parameters",
            vec![("/name", "too_long")],
        ),
        (
            with(&subscription, "seats", json!(10)),
            "invalid_parameters",
            vec![("/customer_external_ref", "unknown")],
        ),
        (customer.to_string(), "", vec![]),
        (with(&subscription, "seats", json!(-1)), "invalid_parameters", vec![("/seats", "out_of_range")]),
        (with(&subscription, "seats", json!("ten")), "invalid_parameters", vec![("/seats", "wrong_type")]),
        (
            with(&subscription, "ends_at", json!("2026-11-09")),
            "invalid_parameters",
            vec![("/ends_at", "out_of_range")],
        ),
        (
            with(&subscription, "license_type", json!("gold")),
            "invalid_parameters",
            vec![("/license_type", "unknown")],
        ),
        (
            with(&subscription, "customer_id", json!("x")),
            "invalid_parameters",
            vec![("/customer_external_ref", "invalid")],
        ),
        (subscription.to_string(), "", vec![]),
        (with(&purchase, "add_on", json!("duo_prp")), "invalid_parameters", vec![("/add_on", "unknown")]),
        (purchase.to_string(), "", vec![]),
        (with(&purchase, "quantity", json!(6)), "conflict", vec![]),
        (
            with(&license, "subscription_external_ref", json!("S-9")),
            "invalid_parameters",
            vec![("/subscription_external_ref", "unknown")],
        ),
        (format!("{{\"padding\": \"{}\"}}", "x".repeat(100_000)), "too_large", vec![]),
        (license.to_string(), "", vec![]),
    ];
    let body: String = lines.iter().map(|(line, _, _)| format!("{line}\n")).collect();
    let answer = send(import(&app, body)).await;
    let told = results(&answer);
    assert_eq!(told.len(), lines.len());
    for (number, (told, (line, code, pointers))) in told.iter().zip(&lines).enumerate() {
        assert_eq!(told["line"], number + 1);
        if code.is_empty() {
            assert_eq!(told["outcome"], "created", "{told}");
            continue;
        }
        assert_eq!(
            (&told["outcome"], &told["problem"]["code"]),
            (&json!("refused"), &json!(code)),
            "{line:.100} {told}"
        );
        if !pointers.is_empty() {
            assert_eq!(complaints(&told["problem"]), *pointers, "{told}");
        }
    }
    // A collision names what is there.
    assert_eq!(told[17]["problem"]["existing"], told[16]["id"]);
    let import = progress(&app, &answer).await;
    assert_eq!(
        (&import["created"], &import["refused"], &import["state"]),
        (&json!(4), &json!(17), &json!("finished"))
    );

    // Results can be read again, page by page, less the codes.
    let results = format!("{}/results", answer.headers["location"].to_str().unwrap());
    let mut read = Vec::new();
    let mut path = format!("{results}?limit=4");
    loop {
        let page = app.admin_get(&path).await;
        read.extend(page["items"].as_array().unwrap().clone());
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("{results}?limit=4&page_token={token}");
    }
    let mut expected = told.clone();
    expected.iter_mut().for_each(|told| _ = told.as_object_mut().unwrap().remove("activation_code"));
    assert_eq!(read, expected);
    let refused = app.admin_get(&format!("{results}?outcome=refused")).await;
    assert_eq!(refused["items"].as_array().unwrap().len(), 17);
}

#[tokio::test]
async fn an_import_that_was_cut_off_goes_on_when_it_is_sent_again() {
    let app = TestApp::start().await;
    let lines = file((1..=100).flat_map(order));
    let half = lines.len() / 2 + 7;
    let (started, cut) = tokio::sync::oneshot::channel::<()>();
    let first = lines.as_bytes()[..half].to_vec();
    let stream =
        futures_util::stream::once(async move { Ok(first) }).chain(futures_util::stream::once(async move {
            let _ = cut.await;
            Err(std::io::Error::other("the cable was pulled"))
        }));
    let body = reqwest::Body::wrap_stream(stream);
    let response = import(&app, body).header("idempotency-key", "file-1").send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    // What came is told while the rest is awaited.
    let mut told = response.bytes_stream();
    let piece = told.next().await.unwrap().unwrap();
    let earlier: Value = serde_json::from_slice(piece.split(|byte| *byte == b'\n').nth(3).unwrap()).unwrap();
    let running = app.admin_get(&location).await;
    assert_eq!(running["state"], "running");
    assert!(running["last_line"].as_i64().unwrap() >= 4, "{running}");
    started.send(()).unwrap();
    while let Some(piece) = told.next().await {
        if piece.is_err() {
            break;
        }
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let interrupted = loop {
        let import = app.admin_get(&location).await;
        if import["state"] == "interrupted" {
            break import;
        }
        assert!(tokio::time::Instant::now() < deadline, "{import}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let dealt_with = interrupted["last_line"].as_i64().unwrap();
    assert!((100..400).contains(&dealt_with), "{interrupted}");

    let answer = send(import(&app, lines.clone()).header("idempotency-key", "file-1")).await;
    assert_eq!(answer.headers["location"], location.as_str());
    let again = results(&answer);
    assert_eq!(again.len(), 400);
    for told in &again {
        let was_there = told["line"].as_i64().unwrap() <= dealt_with;
        assert_eq!(told["outcome"], "created", "{told}");
        assert_eq!(told.get("replayed").is_some(), was_there, "{told}");
    }
    // The code of a license that was made before the cut, but perhaps never arrived.
    assert_eq!(again[3]["activation_code"], earlier["activation_code"]);
    assert!(again[3]["activation_code"].as_str().unwrap().len() > 20);
    let finished = app.admin_get(&location).await;
    assert_eq!((&finished["created"], &finished["state"]), (&json!(400), &json!("finished")));
    let mut connection = app.deployment().database.connection().await;
    let counts: (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from customers), (select count(*) from licenses), \
                (select count(*) from audit_events where reason like 'import %')",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(counts, (100, 100, 400));

    // Another file under the same key is another request.
    let mut other: Vec<Value> = order(1).into();
    other[0]["name"] = json!("Other");
    let told = results(&send(import(&app, file(other)).header("idempotency-key", "file-1")).await);
    assert_eq!(told[0]["problem"]["code"], "idempotency_key_reused");
    assert_eq!(told[1]["replayed"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_of_the_same_records_at_once_make_each_of_them_once() {
    let app = TestApp::start().await;
    let other = app.another().await;
    // In opposite orders, so that each holds what the other needs.
    let forward: Vec<_> = (1..=60).collect();
    let backward: Vec<_> = (1..=60).rev().collect();
    let sent = |app: &TestApp, numbers: &[usize]| {
        send(import(app, file(numbers.iter().flat_map(|number| order(*number)))))
    };
    let (one, two, three) =
        tokio::join!(sent(&app, &forward), sent(&other, &backward), sent(&app, &backward));
    let told: Vec<_> = [one, two, three].iter().flat_map(results).collect();
    assert_eq!(told.len(), 3 * 240);
    let created = told.iter().filter(|told| told["outcome"] == "created").count();
    let unchanged = told.iter().filter(|told| told["outcome"] == "unchanged").count();
    assert_eq!((created, unchanged), (240, 480));
}

#[tokio::test]
async fn a_trial_tells_what_would_become_of_each_line_and_leaves_no_trace() {
    let app = TestApp::start().await;
    let mut lines: Vec<Value> = order(1).into();
    lines.push(json!({ "type": "customer", "external_ref": "C-1", "name": "Other" }));
    let before = whole_database(&app).await;
    let request = app.admin(Method::POST, "/admin/v1/imports?validate_only=true");
    let answer = send(
        request
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", "k")
            .body(file(lines.clone())),
    )
    .await;
    let changed: [&str; 0] = [];
    assert_eq!(tables_changed_since(&app, &before).await, changed);
    assert!(!answer.headers.contains_key("location"));
    let trial = results(&answer);
    let mut real = results(&send(import(&app, file(lines))).await);
    for real in &mut real {
        let real = real.as_object_mut().unwrap();
        if real["outcome"] == "created" {
            real.remove("id");
            real.remove("activation_code");
        }
    }
    let without_problem = |told: &Value| {
        let mut told = told.clone();
        told.as_object_mut().unwrap().remove("problem");
        told
    };
    assert_eq!(
        trial.iter().map(without_problem).collect::<Vec<_>>(),
        real.iter().map(without_problem).collect::<Vec<_>>()
    );
    assert_eq!(trial[4]["problem"]["code"], "conflict");

    let many = file(
        (0..1001)
            .map(|number| json!({ "type": "customer", "external_ref": number.to_string(), "name": "x" })),
    );
    let request = app.admin(Method::POST, "/admin/v1/imports?validate_only=true");
    let answer = send(request.header("content-type", "application/x-ndjson").body(many)).await;
    answer.refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
}

#[tokio::test]
async fn what_is_no_import_is_refused_before_a_line_is_read() {
    let app = TestApp::start().await;
    let lines = file(order(1));
    let other_type = app.admin(Method::POST, "/admin/v1/imports").header("content-type", "application/json");
    send(other_type.body(lines.clone()))
        .await
        .refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    let unknown = app
        .admin(Method::POST, "/admin/v1/imports?dry_run=true")
        .header("content-type", "application/x-ndjson");
    send(unknown.body(lines.clone())).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let nobody =
        app.request(Method::POST, "/admin/v1/imports").header("content-type", "application/x-ndjson");
    send(nobody.body(lines)).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    let empty = send(import(&app, "\n \n")).await;
    assert_eq!(results(&empty), Vec::<Value>::new());
    assert_eq!(progress(&app, &empty).await["state"], "finished");
    assert_eq!(app.admin_get("/admin/v1/customers").await["items"], json!([]));
}
