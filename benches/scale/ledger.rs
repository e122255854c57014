//! A ledger of many rows against an empty one: what a sync costs, an explanation of last month, and a dropped month.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use token_authority::clock::Clock;
use token_authority::domain::ids::Jti;
use token_authority::storage::issued_tokens::{self, IssuanceFilter};
use token_authority::storage::{facts, issuances};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::cpu::Meter;
use super::databases::{Databases, connect};
use super::fleet::Asked;
use super::load;
use super::outcome::{Fault, Outcome};
use super::sizes::{filled, row, usual};
use super::{Arguments, show, tell};

/// Instances whose tokens the rows are.
const INSTANCES: usize = 100_000;
/// Over how long the rows are spread: the whole of last month is in it.
const DAYS: i32 = 92;
/// Months that ended earlier are dropped: at least one, and last month never.
const KEPT: TimeDelta = TimeDelta::days(35);
const EXPLANATIONS: usize = 300;

pub(crate) fn run(arguments: &Arguments, runtime: &Runtime, url: &str, rows: u64) -> Outcome<()> {
    let databases = runtime.block_on(Databases::on(url))?;
    let (deployment, fleet) = filled(runtime, &databases, "ledger", INSTANCES)?;
    let now = Clock::system().now();
    let mut connection = runtime.block_on(connect(deployment.database_url()))?;
    // The service makes scope sets and keys of the ledger's rows: a few syncs bring them.
    let service = deployment.serve()?;
    let meter = Meter { service: service.process(), postmaster: Some(databases.postmaster) };
    let syncs = fleet.syncs(Asked::EveryToken);
    let measure = || load::run(service.address, usual(arguments), &syncs, &meter);

    runtime.block_on(databases.settle())?;
    show("    ledger    syncs/s   service µs   database µs   p50 ms   p99 ms");
    let empty = measure()?;
    show(&row(0, &empty));
    let explained = runtime.block_on(explain(&mut connection, now, now + TimeDelta::hours(1)))?;
    show(&format!(
        "explaining a token of this hour, with little else there: {:.2} ms at the median",
        explained
    ));

    let began = Instant::now();
    runtime.block_on(fill(&mut connection, now, rows))?;
    tell(&format!("{rows} rows of the ledger, filled in {:.0} s", began.elapsed().as_secs_f64()));
    runtime.block_on(databases.settle())?;
    let full = measure()?;
    show(&row(usize::try_from(rows)?, &full));
    let (since, until) = last_month(runtime, &mut connection)?;
    let explained = runtime.block_on(explain(&mut connection, since, until))?;
    show(&format!("explaining a token of last month: {explained:.2} ms at the median"));

    // A month goes while instances sync.
    let dropping = std::thread::spawn({
        let url = deployment.database_url().to_owned();
        let wait = Duration::from_secs(3) + Duration::from_secs(arguments.seconds) / 2;
        move || -> Outcome<String> {
            std::thread::sleep(wait);
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                let mut connection = connect(&url).await?;
                let began = Instant::now();
                let dropped = issuances::drop_partitions(&mut connection, now - KEPT).await?;
                let took = began.elapsed();
                let tokens: i64 = dropped.iter().map(|month| month.about_tokens).sum();
                let mebibytes: i64 = dropped.iter().map(|month| month.bytes >> 20).sum();
                Ok(format!(
                    "dropping {} months of about {tokens} rows and {mebibytes} MiB: {:.0} ms",
                    dropped.len(),
                    took.as_secs_f64() * 1e3
                ))
            })
        }
    });
    let meanwhile = measure()?;
    show(&dropping.join().map_err(|_| Fault::new("the month was not dropped"))??);
    show(&row(usize::try_from(rows)?, &meanwhile));
    for loaded in [&empty, &full, &meanwhile] {
        if let Some(error) = &loaded.first_error {
            return Err(Fault::new(format!("{} syncs failed: {error}", loaded.errors)));
        }
    }
    Ok(())
}

/// Writes rows as the service would have, oldest first, spread evenly over the months and the instances.
async fn fill(connection: &mut PgConnection, now: DateTime<Utc>, rows: u64) -> Outcome<()> {
    connection.execute("set session_replication_role = replica; set synchronous_commit = off").await?;
    for months in 0..=DAYS / 28 {
        let made = "select make_issuance_partitions($1 - make_interval(months => $2), 0)";
        sqlx::query(made).bind(now).bind(months).execute(&mut *connection).await?;
    }
    let mut done = 0;
    while done < rows {
        let chunk = CHUNK.min(rows - done);
        let statement = format!(
            "insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, scope_set, key_number, \
                                    catalog_number, ends_with_grant) \
             select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) \
                     || 'a' || substr(noise, 4, 15))::uuid, \
                    1 + (n::bigint * 7919) % {INSTANCES}, at, at + interval '8 hours', decode(noise, 'hex'), \
                    (select min(number) from scope_sets), (select key_number from issuances limit 1), \
                    (select min(number) from catalogs), false \
             from (select n, md5(n::text) as noise, \
                          $1::timestamptz - interval '1 day' \
                          - make_interval(secs => {DAYS} * 86400.0 * (1 - n::float8 / {rows})) as at \
                   from generate_series({done}, {done} + {chunk} - 1) as n) as made"
        );
        sqlx::query(AssertSqlSafe(statement)).bind(now).execute(&mut *connection).await?;
        done += chunk;
    }
    connection.execute("set session_replication_role = origin; set synchronous_commit = on").await?;
    connection.execute("vacuum analyze issuances").await?;
    Ok(())
}

const CHUNK: u64 = 500_000;

/// Looks tokens of a time up by their jti, with whom they were issued to and how that one stands: the median, in ms.
async fn explain(connection: &mut PgConnection, since: DateTime<Utc>, until: DateTime<Utc>) -> Outcome<f64> {
    let bound = |instant: DateTime<Utc>| {
        let millis = instant.timestamp_millis().unsigned_abs();
        uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
    };
    let some: Vec<Uuid> =
        sqlx::query_scalar("select jti from issuances where jti between $1 and $2 limit 100000")
            .bind(bound(since))
            .bind(bound(until))
            .fetch_all(&mut *connection)
            .await?;
    if some.is_empty() {
        return Err(Fault::new("there is no token to explain"));
    }
    let step = (some.len() / EXPLANATIONS).max(1);
    let mut took = Vec::new();
    for jti in some.iter().step_by(step) {
        let began = Instant::now();
        let filter = IssuanceFilter { jti: Some(Jti::from(*jti)), ..IssuanceFilter::default() };
        let found = issued_tokens::list(connection, &filter, None, 1).await?;
        let token = found.first().ok_or_else(|| Fault::new("a token of the ledger is not found"))?;
        facts::find_situation(connection, token.instance_uid).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1e3)
}

fn last_month(runtime: &Runtime, connection: &mut PgConnection) -> Outcome<(DateTime<Utc>, DateTime<Utc>)> {
    let bounds = "select date_trunc('month', now()) - interval '1 month', date_trunc('month', now())";
    Ok(runtime.block_on(sqlx::query_as(bounds).fetch_one(connection))?)
}
