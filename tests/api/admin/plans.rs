//! What lists cost: the plans of the statements that are really run, over many rows.
//!
//! PostgreSQL tells the plan of each statement to whoever runs it (`auto_explain`), and the driver passes it on.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tracing::field::{Field, Visit};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use crate::support::app::{TestApp, send, text};

/// The plans that were told since the last look.
static PLANS: OnceLock<Mutex<Vec<Value>>> = OnceLock::new();

struct Notices;

impl<S: tracing::Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Message(String);
        impl Visit for Message {
            fn record_str(&mut self, field: &Field, value: &str) {
                if field.name() == "message" {
                    self.0 = value.to_owned();
                }
            }

            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let plan = message.0.split_once("plan:").and_then(|(_, plan)| serde_json::from_str(plan).ok());
        if let (Some(plan), Some(plans)) = (plan, PLANS.get()) {
            plans.lock().unwrap().push(plan);
        }
    }
}

fn listen() {
    PLANS.get_or_init(|| {
        let notices = Targets::new().with_target("sqlx::postgres::notice", tracing::Level::TRACE);
        tracing::subscriber::set_global_default(Registry::default().with(Notices.with_filter(notices)))
            .unwrap();
        Mutex::default()
    });
}

/// A service whose database tells every plan.
async fn explaining(app: &TestApp) -> TestApp {
    listen();
    let mut connection = app.database().await;
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut *connection).await.unwrap();
    for (setting, value) in [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_level", "log"),
        ("client_min_messages", "log"),
    ] {
        let sql = AssertSqlSafe(format!("alter database {name} set {setting} = '{value}'"));
        sqlx::query(sql).execute(&mut *connection).await.unwrap();
    }
    app.another().await
}

/// Rows that a plan read from tables and indexes, whether or not they were of any use.
fn rows_read(plan: &Value) -> f64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let own = match plan.get("Relation Name") {
        Some(_) => {
            let removed = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
            (number("Actual Rows") + removed) * number("Actual Loops")
        }
        None => 0.0,
    };
    own + plan["Plans"].as_array().into_iter().flatten().map(rows_read).sum::<f64>()
}

/// Rows as they come with years of business: what is asked for is rare.
async fn fill(connection: &mut PgConnection, rows: usize) {
    // Without triggers and references, which the records do not need to be listed.
    let script = FILL.replace("{rows}", &rows.to_string());
    connection.execute(sqlx::raw_sql(AssertSqlSafe(script))).await.unwrap();
}

/// The id of a record by its number.
fn id(number: usize) -> String {
    uuid::Builder::from_unix_timestamp_millis(1_780_000_000_000 + number as u64, &[0; 10])
        .into_uuid()
        .to_string()
}

/// A value that few rows have, for a filter of a list.
fn sample(operation: &str, filter: &str) -> Vec<String> {
    let words: &[&str] = match (operation, filter) {
        ("subscriptions_list", "state") => {
            &["not_started", "active", "in_grace", "expired", "suspended", "canceled"]
        }
        ("subscriptions_list", "condition") => &["active", "suspended", "canceled"],
        ("subscriptions_list", "license_type") => &["premium", "ultimate"],
        ("licenses_list", "state") => &["active", "revoked"],
        ("instances_list", "state") => &["active", "blocked", "released"],
        ("instances_list", "kind") => &["production", "staging"],
        ("imports_list", "state") => &["running", "finished"],
        (_, "outcome") => &["created", "refused"],
        (_, "archived" | "contested") => &["true", "false"],
        (_, "expires_before") => &["2026-02-01T00:00:00Z"],
        (_, "external_ref") => &["R-19000"],
        (_, "add_on") => &["duo_pro", "duo_core"],
        (_, "within") => &["24h"],
        (_, name) if name.ends_with("_id") => return vec![id(19_000)],
        _ => panic!("{operation} offers {filter}: which value of it is rare?"),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Lists whose rows this module does not fill.
const ELSEWHERE: [&str; 9] = [
    "admin_tokens_list",
    "audit_events_list",
    "backends_list",
    "deployments_list",
    "events_list",
    "issuances_list",
    "key_sets_admin_list",
    "keys_list",
    "webhooks_list",
];

#[tokio::test]
async fn every_filter_of_every_list_reads_little_more_than_it_shows() {
    let app = TestApp::start().await;
    fill(&mut *app.database().await, 20_000).await;
    let app = explaining(&app).await;
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let mut seen = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let operation = &operations["get"];
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let query: Vec<_> =
            parameters.iter().filter(|one| one["in"] == "query").map(|one| text(&one["name"])).collect();
        if !path.starts_with("/admin/v1/") || !query.contains(&"page_token".to_owned()) {
            continue;
        }
        let operation = text(&operation["operationId"]);
        if ELSEWHERE.contains(&operation.as_str()) {
            continue;
        }
        let path = path.replace("{id}", &id(1)).replace("{uid}", &id(1));
        let filters = query.iter().filter(|name| !["limit", "page_token"].contains(&name.as_str()));
        let asked = filters.flat_map(|name| {
            sample(&operation, name).into_iter().map(move |value| format!("&{name}={value}"))
        });
        for filter in asked.chain([String::new()]) {
            PLANS.get().unwrap().lock().unwrap().clear();
            let path = format!("{path}?limit=10{filter}");
            let page = app.admin_get(&path).await;
            let plans = std::mem::take(&mut *PLANS.get().unwrap().lock().unwrap());
            let listed: Vec<_> =
                plans.iter().filter(|plan| text(&plan["Query Text"]).contains("limit")).collect();
            assert!(!listed.is_empty(), "{path}: no plan was told");
            let read: f64 = plans.iter().map(|plan| rows_read(&plan["Plan"])).sum();
            assert!(read < MOST_ROWS, "{path} reads {read} rows: {listed:#?}");
            println!("{operation}{filter}: {} of {read} rows", page["items"].as_array().unwrap().len());
        }
        seen.insert(operation);
    }
    for list in ["customers_list", "subscriptions_list", "licenses_list", "instances_list", "imports_results"]
    {
        assert!(seen.contains(list), "{seen:?}");
    }
}

/// `cargo test --release --test api -- --ignored --nocapture a_page_at_depth`
#[tokio::test]
#[ignore = "takes a minute; prints the figures of docs/performance.md"]
async fn a_page_at_depth_two_hundred_thousand_costs_what_the_first_one_costs() {
    let app = TestApp::start().await;
    fill(&mut *app.database().await, 201_000).await;
    for list in ["customers", "subscriptions", "licenses", "instances"] {
        let path = format!("/admin/v1/{list}?limit=");
        let mut token = String::new();
        for _ in 0..200 {
            let page = app.admin_get(&format!("{path}1000{token}")).await;
            token = format!("&page_token={}", text(&page["next_page_token"]));
        }
        let (first, deep) = (format!("{path}100"), format!("{path}100{token}"));
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..200 {
            for (path, times) in [&first, &deep].into_iter().zip(&mut times) {
                let started = Instant::now();
                assert_eq!(app.admin_get(path).await["items"].as_array().unwrap().len(), 100);
                times.push(started.elapsed());
            }
        }
        let [first, deep] = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        let ratio = deep.as_secs_f64() / first.as_secs_f64();
        println!("{list}: first page {first:?}, page at depth 200,000 {deep:?}, ratio {ratio:.2}");
        assert!(first > Duration::ZERO);
    }
}

/// A report looks at two hundred instances in three tables for the ten that it may show.
const MOST_ROWS: f64 = 1_000.0;

const FILL: &str = "
set session_replication_role = replica;
create function id_of(number bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex(1780000000000 + number), 12, '0') || '70008000000000000000')::uuid
$$;
insert into customers (id, name, external_ref, archived_at, created_at, updated_at)
    select id_of(n), 'Customer ' || n, 'R-' || n, case when n % 1000 = 1 then now() end, now(), now()
    from generate_series(1, {rows}) n;
insert into subscriptions (id, customer_id, license_type, starts_at, ends_at, time_zone, seats, trial, condition,
                           condition_since, external_ref, created_at, updated_at)
    select id_of(n), id_of(n), case when n % 1000 = 6 then 'ultimate' else 'premium' end,
           case n % 1000 when 1 then '2025-01-01'::timestamptz when 3 then '2027-01-01' else '2026-01-01' end,
           case n % 1000 when 1 then '2026-01-01'::timestamptz when 2 then '2026-11-15' else '2028-01-01' end,
           'UTC', 1, false, case n % 1000 when 4 then 'suspended' when 5 then 'canceled' else 'active' end,
           now(), 'R-' || n, now(), now()
    from generate_series(1, {rows}) n;
insert into add_on_purchases (id, subscription_id, add_on, quantity, starts_at, ends_at, external_ref, created_at, updated_at)
    select id_of(n), id_of(1), case when n % 1000 = 1 then 'duo_core' else 'duo_pro' end, 1, '2026-01-01', '2027-01-01',
           'R-' || n, now(), now()
    from generate_series(1, {rows}) n;
insert into licenses (id, subscription_id, kind, max_instances, activation_code_digest, external_ref, revoked_at,
                      revoked_reason, created_at, updated_at)
    select id_of(n), id_of(n), 'online', 1, sha256(n::text::bytea), 'R-' || n, case when n % 1000 = 7 then now() end,
           case when n % 1000 = 7 then 'fraud' end, now(), now()
    from generate_series(1, {rows}) n;
insert into instances (uid, license_id, instance_id, hostname, version, deployment, kind, state, state_since,
                       identity_contested_at, created_at, updated_at)
    select id_of(n), id_of(n), id_of(n), 'host-' || n, '17.6.1', 'self_managed',
           case when n % 1000 = 3 then 'staging' else 'production' end,
           case n % 1000 when 1 then 'blocked' when 2 then 'released' else 'active' end, now(),
           case when n % 1000 = 4 then now() end, now(), now()
    from generate_series(1, {rows}) n;
insert into imports (id, caller, state, finished_at, last_line, created_at, updated_at, results_end_at)
    select id_of(n), 'caller', case when n % 1000 = 1 then 'running' else 'finished' end,
           case when n % 1000 = 1 then null else now() end, {rows}, now(), now(), '2027-01-01'
    from generate_series(1, {rows}) n;
insert into import_results (import_id, line, attempt, digest, outcome, result)
    select id_of(1), n, 1, sha256(n::text::bytea), case when n % 1000 = 1 then 'refused' else 'created' end, '{}'
    from generate_series(1, {rows}) n;
insert into scope_sets (audience, backend, scopes) values ('audience', 'backend', '{duo_chat}');
insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, scope_set, key_number, catalog_number,
                       ends_with_grant)
    select id_of(n), i.number, now(), now() + interval '8 hours', decode(md5(n::text), 'hex'), g.number, 1, 1, false
    from generate_series(1, {rows}) n join instances i on i.uid = id_of(n % 10 + 1) cross join scope_sets g;
analyze;
set session_replication_role = default;
";
