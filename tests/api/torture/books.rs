//! What the database says after a run: the ledger, the reigns of keys, and what could be granted to whom and when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _};

use super::account::{Account, Grant, Reign, Row, Span};
use super::people::ADD_ON;

/// Adds everything that the database remembers to an account.
pub(super) async fn read(connection: &mut PgConnection, account: &mut Account) {
    account.rows = ledger(connection).await;
    account.reigns = reigns(connection).await;
    let catalog = token_authority::catalog_files::example().unwrap();
    let names = |of: &dyn Fn(&token_authority::domain::catalog::UnitPrimitive) -> bool| -> BTreeSet<String> {
        let primitives = catalog.unit_primitives().iter().filter(|primitive| of(primitive));
        primitives.map(|primitive| primitive.name.as_str().to_owned()).collect()
    };
    let eligible = |primitive: &token_authority::domain::catalog::UnitPrimitive| {
        let types = &primitive.license_types;
        types.is_empty() || types.iter().any(|name| name.as_str() == "premium")
    };
    // Read here once more, by other means than the program's: who has which scope, from when to when.
    let always = names(&|primitive| {
        eligible(primitive) && (primitive.cut_off_date.is_none() || primitive.add_ons.is_empty())
    });
    let bought = names(&|primitive| {
        eligible(primitive) && primitive.add_ons.iter().any(|add_on| add_on.as_str() == ADD_ON)
    });
    let mut free: Vec<Grant> = vec![Grant { scopes: always, span: Span { from: i64::MIN, until: None } }];
    for primitive in catalog.unit_primitives().iter().filter(|primitive| eligible(primitive)) {
        if let Some(cut_off) = primitive.cut_off_date {
            let span = Span { from: i64::MIN, until: Some(cut_off.timestamp_millis()) };
            free.push(Grant { scopes: [primitive.name.as_str().to_owned()].into(), span });
        }
    }
    for (uid, span) in purchases(connection).await {
        let grant = Grant { scopes: bought.clone(), span };
        account.grants.entry(uid).or_insert_with(|| free.clone()).push(grant);
    }
    for uid in account.rows.iter().map(|row| &row.uid) {
        account.grants.entry(uid.clone()).or_insert_with(|| free.clone());
    }
    account.stops = stops(connection).await;
}

async fn ledger(connection: &mut PgConnection) -> Vec<Row> {
    let rows = sqlx::query(
        "select t.jti::text, i.uid::text, k.kid, s.scopes from issuances t \
         join instances i on i.number = t.instance_number join signing_keys k on k.number = t.key_number \
         join scope_sets s on s.number = t.scope_set",
    );
    let rows = rows.fetch_all(connection).await.unwrap();
    let row = |row: &sqlx::postgres::PgRow| {
        let jti: String = row.get(0);
        // The first 48 bits of a UUID of version 7 are its milliseconds (RFC 9562 §5.7).
        let at = i64::from_str_radix(&jti.replace('-', "")[..12], 16).unwrap();
        let scopes: Vec<String> = row.get(3);
        Row { jti, uid: row.get(1), at, kid: row.get(2), scopes: scopes.into_iter().collect() }
    };
    rows.iter().map(row).collect()
}

async fn reigns(connection: &mut PgConnection) -> BTreeMap<String, Reign> {
    let rows = sqlx::query(
        "select subject_id, min(at) filter (where action = 'key.activated') as begins, \
                min(at) filter (where action in ('key.demoted', 'key.revoked')) as ends \
         from audit_events where subject_kind = 'signing_key' group by subject_id",
    );
    let mut reigns = BTreeMap::new();
    for row in rows.fetch_all(connection).await.unwrap() {
        let begins: Option<DateTime<Utc>> = row.get("begins");
        if let Some(from) = begins {
            reigns.insert(row.get("subject_id"), span(from, row.get("ends")));
        }
    }
    reigns
}

async fn purchases(connection: &mut PgConnection) -> Vec<(String, Span)> {
    let rows = sqlx::query(
        "select i.uid::text, p.created_at, p.ended_at from add_on_purchases p \
         join licenses l using (subscription_id) join instances i on i.license_id = l.id where p.add_on = $1",
    );
    let rows = rows.bind(ADD_ON).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| (row.get(0), span(row.get(1), row.get(2)))).collect()
}

/// The times in which a license is revoked or a subscription suspended.
async fn stops(connection: &mut PgConnection) -> BTreeMap<String, Vec<Span>> {
    let rows = sqlx::query(
        "select i.uid::text, c.since, lead(c.since) over (partition by i.uid order by c.sequence) as until, \
                c.condition <> 'active' as stops \
         from subscription_conditions c join licenses l using (subscription_id) join instances i on i.license_id = l.id",
    );
    let mut stops: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for row in rows.fetch_all(&mut *connection).await.unwrap() {
        if row.get("stops") {
            stops.entry(row.get(0)).or_default().push(span(row.get("since"), row.get("until")));
        }
    }
    let revoked = sqlx::query(
        "select i.uid::text, l.revoked_at from licenses l join instances i on i.license_id = l.id \
         where l.revoked_at is not null",
    );
    for row in revoked.fetch_all(connection).await.unwrap() {
        stops.entry(row.get(0)).or_default().push(span(row.get(1), None));
    }
    stops
}

fn span(from: DateTime<Utc>, until: Option<DateTime<Utc>>) -> Span {
    Span { from: from.timestamp_millis(), until: until.map(|until| until.timestamp_millis()) }
}
