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
        ("imports_results", "outcome") => &["created", "refused"],
        ("webhooks_list", "state") => &["enabled", "disabled", "deleted"],
        ("keys_list", "state") => &["active", "revoked"],
        ("keys_list", "purpose") => &["access_tokens"],
        ("keys_list", "alg") => &["EdDSA", "RS256"],
        (_, "actor") => &["rare", "common"],
        (_, "action" | "type") => &["license.revoke", "customer.create", "none.such"],
        (_, "subject_kind") => &["license", "customer"],
        (_, "request_id") => &["R-19000"],
        (_, "since" | "until") => {
            &["2026-11-21T12:05:00Z", "2026-11-27T00:00:00Z", "2026-12-05T09:15:00Z", "2030-01-01T00:00:00Z"]
        }
        (_, "cursor") => &["19000"],
        (_, "kid") => &["{active}"],
        (_, "jti") => return vec![id(19_000)],
        ("issuances_list", "instance_uid") => return vec![id(1), id(19_000)],
        (_, "issued_after" | "issued_before") => &["2026-05-01T00:00:00Z", "2030-01-01T00:00:00Z"],
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

#[tokio::test]
async fn every_filter_of_every_list_reads_little_more_than_it_shows() {
    let app = TestApp::start().await;
    fill(&mut *app.database().await, 20_000).await;
    let app = explaining(&app).await;
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let active = app.admin_get("/admin/v1/keys?state=active&purpose=access_tokens").await;
    let mut seen = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let operation = &operations["get"];
        let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let query: Vec<_> =
            parameters.iter().filter(|one| one["in"] == "query").map(|one| text(&one["name"])).collect();
        if !path.starts_with("/admin/v1/") || !query.contains(&"limit".to_owned()) {
            continue;
        }
        let operation = text(&operation["operationId"]);
        let path = path.replace("{id}", &id(1)).replace("{uid}", &id(1)).replace("{name}", "ai_gateway");
        let filters = query.iter().filter(|name| !["limit", "page_token"].contains(&name.as_str()));
        let asked = filters.flat_map(|name| {
            sample(&operation, name).into_iter().map(move |value| format!("&{name}={value}"))
        });
        for filter in asked.chain([String::new()]) {
            let filter = filter.replace("{active}", &text(&active["items"][0]["kid"]));
            PLANS.get().unwrap().lock().unwrap().clear();
            let path = format!("{path}?limit=10{filter}");
            let page = app.admin_get(&path).await;
            let plans = std::mem::take(&mut *PLANS.get().unwrap().lock().unwrap());
            let listed: Vec<_> =
                plans.iter().filter(|plan| text(&plan["Query Text"]).contains("limit")).collect();
            // What there are a few dozen of in all the years is read whole.
            let is_short = ["keys_list", "key_sets_admin_list"].contains(&operation.as_str());
            assert!(is_short || !listed.is_empty(), "{path}: no plan was told");
            assert!(!plans.is_empty(), "{path}: no plan was told");
            let read: f64 = plans.iter().map(|plan| rows_read(&plan["Plan"])).sum();
            assert!(read < MOST_ROWS, "{path} reads {read} rows: {listed:#?}");
            println!("{operation}{filter}: {} of {read} rows", page["items"].as_array().unwrap().len());
        }
        seen.insert(operation);
    }
    let lists = description["paths"].as_object().unwrap().values().filter_map(|path| {
        let operation = path["get"]["operationId"].as_str().filter(|id| id.ends_with("_list"))?;
        Some(operation.to_owned()).filter(|_| path["get"]["security"][0]["admin_token"].is_array())
    });
    let lists: BTreeSet<String> = lists.collect();
    assert!(lists.is_subset(&seen) && lists.len() >= 14 && seen.len() >= 18, "{lists:?} {seen:?}");
}

/// `cargo test --release --test api -- --ignored --nocapture a_page_at_depth`
#[tokio::test]
#[ignore = "takes a minute; prints the figures of docs/performance.md"]
async fn a_page_at_depth_two_hundred_thousand_costs_what_the_first_one_costs() {
    let app = TestApp::start().await;
    fill(&mut *app.database().await, 201_000).await;
    let of_one = |list: &str| format!("{list}/{}", id(1));
    for list in [
        "admin-tokens",
        "audit-events",
        "backends/ai_gateway/deployments",
        "customers",
        "events",
        "imports",
        &format!("{}/results", of_one("imports")),
        "instances",
        &format!("{}/issuances", of_one("instances")),
        &format!("{}/reports", of_one("instances")),
        "issuances",
        "licenses",
        "subscriptions",
        &format!("{}/add-on-purchases", of_one("subscriptions")),
        "webhooks",
    ] {
        let path = format!("/admin/v1/{list}?limit=");
        let mut token = String::new();
        for _ in 0..200 {
            let page = app.admin_get(&format!("{path}1000{token}")).await;
            token = match page.get("next_cursor") {
                Some(cursor) => format!("&cursor={}", text(cursor)),
                None => format!("&page_token={}", text(&page["next_page_token"])),
            };
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
insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, scope_set, key_number, catalog_number,
                       ends_with_grant)
    select id_of(n + {rows}), i.number, now(), now() + interval '8 hours', decode(md5(n::text), 'hex'), g.number, 1, 1, false
    from generate_series(1, {rows}) n join instances i on i.uid = id_of(1) cross join scope_sets g;
insert into instance_reports (instance_uid, reported_at, version, hostname)
    select id_of(1), now(), '18.' || n || '.0', 'host' from generate_series(1, {rows}) n;
insert into admin_tokens (id, name, digest, scopes, created_at)
    select id_of(n), 'Token ' || n, sha256(n::text::bytea), '{audit:read}', now() from generate_series(1, {rows}) n;
insert into webhooks (id, url, event_types, state, state_since, sealed_secret, sealed_by, sealed_version, created_at,
                      updated_at)
    select id_of(n), 'https://example.com/' || n, '{}', s.state, now(), case when s.state <> 'deleted' then decode('00', 'hex') end,
           case when s.state <> 'deleted' then 'kek' end, case when s.state <> 'deleted' then 1 end, now(), now()
    from generate_series(1, {rows}) n
    cross join lateral (select case n % 1000 when 1 then 'disabled' when 2 then 'deleted' else 'enabled' end as state) s;
insert into webhook_positions (webhook_id, cursor, next_attempt_at)
    select id_of(n), 0, now() + interval '10 years' from generate_series(1, {rows}) n;
insert into backends (name, alg, trust, min_live, created_at, updated_at)
    values ('ai_gateway', 'EdDSA', 'embedded', 0, now(), now()) on conflict do nothing;
insert into deployments (backend, process_id, build, key_set_version, key_set_digest, is_published, verifier, algorithms,
                         first_seen_at, last_seen_at, standing)
    select 'ai_gateway', 'pod-' || n, 'build', 1, sha256('set'), true, 'verifier', '{EdDSA}', now(), now(), 'signed_off'
    from generate_series(1, {rows}) n;
insert into audit_events (id, at, actor, action, subject_kind, subject_id, request_id)
    select id_of(n), '2026-11-21T12:00:00Z'::timestamptz + n * interval '1 minute',
           case when n % 1000 = 1 then 'rare' else 'common' end,
           case when n % 1000 = 1 then 'license.revoke' else 'customer.create' end,
           case when n % 1000 = 1 then 'license' else 'customer' end, id_of(n)::text, 'R-' || n
    from generate_series(1, {rows}) n;
insert into events (sequence, audit_event_id, at, actor, action, subject_kind, subject_id, request_id, digest)
    select (select max(sequence) from events) + row_number() over (order by a.id), a.id, a.at, a.actor, a.action,
           a.subject_kind, a.subject_id, a.request_id, sha256('chain')
    from audit_events a where a.request_id like 'R-%';
analyze;
set session_replication_role = default;
";
