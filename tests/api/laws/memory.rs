//! Law 8: nothing is deleted silently; what was revoked, released, ended or canceled is remembered.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

use super::changes::{Books, Change, changes};
use super::{Replicas, rows};
use crate::support::app::{TestApp, send, text};

/// What a service may forget: what a retry needs for a day, an assertion for a minute, and what processes said of
/// themselves that stopped long ago.
const FORGOTTEN: [&str; 5] =
    ["assertion_uses", "deployment_proofs", "deployments", "idempotency_keys", "import_results"];

#[tokio::test]
async fn no_table_lets_a_row_go() {
    let app = TestApp::start().await;
    let books = Books::open(&app).await;
    books.instance.sync(&app, &json!({ "version": "18.0.0" })).await.expect(StatusCode::OK);
    let mut connection = app.deployment().database.connection().await;
    let tables = tables(&mut connection).await;
    assert!(tables.len() > 15 && tables.iter().any(|table| table.starts_with("issuances_2")), "{tables:?}");
    for table in tables {
        let is_filled = rows(&app, &table).await > 0;
        for statement in [format!("delete from {table}"), format!("truncate {table} cascade")] {
            let outcome = execute(&mut connection, &statement).await;
            // A partition without rows has none to lose.
            if is_filled || statement.starts_with("truncate") {
                assert_eq!(outcome, Err("23001".to_owned()), "{statement}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_final_cannot_be_taken_back_by_hand() {
    let app = TestApp::start().await;
    let books = Books::open(&app).await;
    let made =
        app.admin_post("/admin/v1/admin-tokens", json!({ "name": "x", "scopes": ["audit:read"] })).await;
    let token = format!("/admin/v1/admin-tokens/{}", text(&made["id"]));
    let etag = send(app.admin(reqwest::Method::GET, &token)).await.headers["etag"].clone();
    let revoked = send(app.admin(reqwest::Method::DELETE, &token).header("if-match", etag)).await;
    assert!(revoked.status.is_success(), "{revoked:?}");
    for change in [Change::EndPurchase, Change::Revoke, Change::Cancel] {
        books.request(&app, change).await.send(&app).await.expect(StatusCode::OK);
    }
    let mut connection = app.deployment().database.connection().await;
    for (table, undone, constraint) in [
        ("add_on_purchases", "ended_at = null", "add_on_purchases_ended_is_final"),
        ("admin_tokens", "revoked_at = null", "admin_tokens_revoked_is_final"),
        ("licenses", "revoked_at = null, revoked_reason = null", "licenses_revoked_is_final"),
        ("subscriptions", "condition = 'active'", "subscriptions_canceled_is_final"),
    ] {
        let revised = if table == "admin_tokens" { "" } else { ", revision = revision + 1" };
        let sql = format!("update {table} set {undone}{revised}");
        let refused = sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        assert_eq!(refused.constraint(), Some(constraint), "{refused}");
    }
    for table in ["audit_events", "catalogs", "key_sets", "record_revisions", "subscription_conditions"] {
        let sql = format!("update {table} set {}", first_column(&mut connection, table).await);
        assert_eq!(execute(&mut connection, &sql).await, Err("23001".to_owned()), "{sql}");
    }
    // What may change leaves behind what it was.
    sqlx::query("update customers set name = 'Another', revision = revision + 1 where id = $1::uuid")
        .bind(&books.sold.customer_id)
        .execute(&mut connection)
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar(
        "select record ->> 'name' from record_revisions where kind = 'customers' and id = $1::uuid order by revision",
    )
    .bind(&books.sold.customer_id)
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(names, ["Example GmbH", "Another"]);
}

/// Something that wants a row gone.
#[derive(Clone, Debug)]
struct Attack {
    table: prop::sample::Index,
    truncates: bool,
}

#[test]
fn every_state_that_ever_was_stays_readable() {
    let replicas = Replicas::start();
    let attack = (any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(table, truncates)| Attack { table, truncates });
    let step = (changes(), prop::option::weighted(0.3, attack));
    replicas.run(prop::collection::vec(step, 1..9), async |replicas, steps| {
        let app = &replicas.apps[0];
        let books = Books::open(app).await;
        let mut remembered = Remembered::default();
        let mut made = Vec::new();
        for (change, attack) in steps {
            app.clock.set(app.clock.now() + chrono::TimeDelta::minutes(1));
            let before = history(app).await;
            let answer = books.request(app, change).await.send(app).await;
            let after = history(app).await;
            // Each change leaves exactly one row in the audit, and a refusal none.
            assert_eq!(after[0] - before[0], i64::from(answer.status.is_success()), "{change:?} {answer:?}");
            if answer.status.is_success() {
                remembered.follow(change);
                if answer.status == StatusCode::CREATED {
                    made.push(answer.headers["location"].to_str().unwrap().to_owned());
                }
            }
            if let Some(Attack { table, truncates }) = attack {
                let mut connection = app.database().await;
                let tables = tables(&mut connection).await;
                let table = table.get(&tables);
                let sql = if truncates {
                    format!("truncate {table} cascade")
                } else {
                    format!("delete from {table}")
                };
                let outcome = execute(&mut connection, &sql).await;
                assert!(outcome.is_err() || rows(app, table).await == 0, "{sql}");
            }
            let kept = history(app).await;
            assert!(kept.iter().zip(&after).all(|(now, then)| now >= then), "history was lost");
        }
        for path in made {
            app.admin_get(&path).await;
        }
        remembered.check(app, &books).await;
    });
}

/// What the customer's records must still tell.
#[derive(Debug, Default)]
struct Remembered {
    conditions: Vec<&'static str>,
    done: BTreeMap<&'static str, usize>,
}

impl Remembered {
    fn follow(&mut self, change: Change) {
        let (action, condition) = match change {
            Change::Archive => ("customer.archive", None),
            Change::Block => ("instance.block", None),
            Change::Cancel => ("subscription.cancel", Some("canceled")),
            Change::EndPurchase => ("add_on_purchase.end", None),
            Change::Reissue => ("license.reissue", None),
            Change::Release => ("instance.release", None),
            Change::Renew => ("subscription.renew", None),
            Change::Resume => ("subscription.resume", Some("active")),
            Change::Revoke => ("license.revoke", None),
            Change::Suspend => ("subscription.suspend", Some("suspended")),
            Change::Unblock => ("instance.unblock", None),
            Change::MakeAdminToken | Change::MakeCustomer | Change::MakeLicense | Change::MakePurchase => {
                return;
            }
        };
        *self.done.entry(action).or_default() += 1;
        if let Some(condition) = condition.filter(|condition| self.conditions.last() != Some(condition)) {
            self.conditions.push(condition);
        }
    }

    fn count(&self, action: &str) -> usize {
        self.done.get(action).copied().unwrap_or_default()
    }

    async fn check(&self, app: &TestApp, books: &Books) {
        let subscription = app.admin_get(&books.subscription()).await;
        let told: Vec<_> = subscription["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| text(&condition["condition"]))
            .collect();
        assert_eq!(told[0], "active");
        assert_eq!(told[1..], self.conditions, "{subscription}");

        let license = app.admin_get(&books.license()).await;
        assert_eq!(license["revoked_at"].is_string(), self.count("license.revoke") > 0, "{license}");
        let instance = app.admin_get(&books.installation()).await;
        if self.count("instance.release") > 0 {
            assert_eq!(instance["state"], "released", "{instance}");
        }
        let purchase = app.admin_get(&books.purchase()).await;
        assert_eq!(purchase["ended_at"].is_string(), self.count("add_on_purchase.end") > 0, "{purchase}");
        let customer = app.admin_get(&books.customer()).await;
        assert_eq!(customer["archived_at"].is_string(), self.count("customer.archive") > 0, "{customer}");

        let audit = audited(app, books).await;
        for (action, times) in &self.done {
            let told = audit.iter().filter(|row| row["action"] == *action);
            let reasons: Vec<_> = told.map(|row| row["reason"].clone()).collect();
            assert_eq!(reasons.len(), *times, "{action}: {audit:?}");
        }
    }
}

/// The audit's rows on the records of this customer.
async fn audited(app: &TestApp, books: &Books) -> Vec<Value> {
    let ids: Vec<String> =
        [books.customer(), books.subscription(), books.purchase(), books.license(), books.installation()]
            .iter()
            .map(|path| path.rsplit('/').next().unwrap().to_owned())
            .collect();
    sqlx::query_scalar("select to_jsonb(e) from audit_events e where subject_id = any($1) order by id")
        .bind(ids)
        .fetch_all(&mut *app.database().await)
        .await
        .unwrap()
}

/// Everything that a change leaves behind.
async fn history(app: &TestApp) -> [i64; 3] {
    let mut history = [0; 3];
    for (count, table) in
        history.iter_mut().zip(["audit_events", "record_revisions", "subscription_conditions"])
    {
        *count = rows(app, table).await;
    }
    history
}

/// Every table that remembers, partitions too.
async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname not like '\\_sqlx%' order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    tables.into_iter().filter(|table| !FORGOTTEN.contains(&table.as_str())).collect()
}

async fn first_column(connection: &mut PgConnection, table: &str) -> String {
    let column: String = sqlx::query_scalar(
        "select attname::text from pg_attribute where attrelid = $1::regclass and attnum = 1",
    )
    .bind(table)
    .fetch_one(connection)
    .await
    .unwrap();
    format!("{column} = {column}")
}

/// The SQLSTATE of a refusal.
async fn execute(connection: &mut PgConnection, statement: &str) -> Result<u64, String> {
    match sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(error.into_database_error().unwrap().code().unwrap().into_owned()),
    }
}
