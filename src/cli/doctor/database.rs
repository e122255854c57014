//! The database server: reachable, new enough, durable, on time, migrated.

use chrono::{DateTime, Utc};

use super::finding::{Finding, codes};
use crate::cli::database::listed;
use crate::config::Settings;
use crate::storage::server_state::ServerState;
use crate::storage::{Database, Schema, StorageError, server_state};

/// What was found, and the server's state where it could be read.
pub(super) async fn examine(
    settings: &Settings,
    database: &Database,
    now: DateTime<Utc>,
) -> (Vec<Finding>, Option<ServerState>) {
    let schema = match database.schema().await {
        Ok(schema) => schema,
        Err(error) => {
            let unreadable = Finding::problem(
                codes::MIGRATIONS,
                format!("the schema cannot be read: {error}"),
                "give the role of `database_url` the right to use the schema",
            );
            return (vec![unreadable], None);
        }
    };
    let mut findings = vec![migrations(&schema)];
    match read(database).await {
        Ok(state) => {
            findings.extend(of_server(settings, &state, now));
            (findings, Some(state))
        }
        // Nothing can be read of a schema that is not there: that is told already.
        Err(_) if !schema.is_usable() => (findings, None),
        Err(error) => {
            findings.push(Finding::problem(
                codes::DATABASE,
                format!("the database cannot be read: {error}"),
                "give the role of `database_url` the right to read its tables",
            ));
            (findings, None)
        }
    }
}

/// Whether sessions of our own are to be had, which a pooler in transaction mode has none of.
pub(super) async fn direct_connection(database: &Database) -> Finding {
    let code = codes::DIRECT_CONNECTION;
    if !database.is_pooled() {
        return Finding::good(code, "`database_url` is taken to lead to the server itself");
    }
    match database.try_direct().await {
        Ok(()) => Finding::good(
            code,
            "`database_url` leads through a pooler, and `direct_database_url` to the server itself",
        ),
        Err(error) => Finding::problem(
            code,
            format!("`direct_database_url` cannot be reached: {error}"),
            "let it lead to the same database without the pooler: replicas listen there, and `migrate` goes there",
        ),
    }
}

async fn read(database: &Database) -> Result<ServerState, StorageError> {
    let mut tx = database.begin().await?;
    server_state::find(&mut tx).await
}

fn migrations(schema: &Schema) -> Finding {
    match schema {
        Schema::Current => Finding::good(codes::MIGRATIONS, "every migration of this program is applied"),
        Schema::Behind(versions) => Finding::problem(
            codes::MIGRATIONS,
            format!("the database lacks {}", listed(versions)),
            "run `token-authority migrate`",
        ),
        Schema::Ahead(versions) => Finding::warning(
            codes::MIGRATIONS,
            format!("a newer program added to the database ({}); this one can run on it", listed(versions)),
            "finish the upgrade: replace this program with the newer one",
        ),
        Schema::Beyond { needs } => Finding::problem(
            codes::MIGRATIONS,
            format!("a newer program took away what this one needs: migration {needs} must be known"),
            "run that program, or a newer one",
        ),
    }
}

/// The oldest server that the migrations are tried with.
const OLDEST: i32 = 150_000;
/// A replica further off than this from the database is not ready.
const MOST_SKEW_SECONDS: i64 = 5;
const SOME_SKEW_SECONDS: i64 = 1;
/// What a replica opens beside its pool: its lanes, and a spare while one is replaced.
const BESIDE_THE_POOL: i64 = 3;

fn of_server(settings: &Settings, state: &ServerState, now: DateTime<Utc>) -> Vec<Finding> {
    vec![
        version(state),
        durability(state),
        clock(state, now),
        connections(settings, state),
        role(state),
        partitions(state),
    ]
}

fn version(state: &ServerState) -> Finding {
    let says = format!("PostgreSQL {}, {} MiB", state.version_name, state.database_bytes >> 20);
    if state.version < OLDEST {
        Finding::problem(codes::DATABASE_VERSION, says, "upgrade the server to PostgreSQL 15 or newer")
    } else if state.is_standby {
        Finding::problem(
            codes::DATABASE_VERSION,
            format!("{says}; it only follows another server, and records nothing"),
            "let `database_url` lead to the primary",
        )
    } else {
        Finding::good(codes::DATABASE_VERSION, says)
    }
}

fn durability(state: &ServerState) -> Finding {
    let settings = [
        ("fsync", &state.fsync),
        ("full_page_writes", &state.full_page_writes),
        ("synchronous_commit", &state.synchronous_commit),
    ];
    let off: Vec<_> = settings.iter().filter(|(_, value)| *value == "off").map(|(name, _)| *name).collect();
    if off.is_empty() {
        let says = format!(
            "a commit is on disk when it is told (synchronous_commit = {})",
            state.synchronous_commit
        );
        Finding::good(codes::DURABILITY, says)
    } else {
        Finding::problem(
            codes::DURABILITY,
            format!("a crash of the server can lose what was answered: {} is off", off.join(", ")),
            "turn it on: a token must not leave before its record is durable",
        )
    }
}

fn clock(state: &ServerState, now: DateTime<Utc>) -> Finding {
    let skew = (state.now - now).num_milliseconds();
    let says = format!("the clocks of this machine and of the database differ by {skew} ms");
    let remedy = "let both follow the same time servers (chrony, systemd-timesyncd)";
    match skew.abs() / 1000 {
        0..SOME_SKEW_SECONDS => Finding::good(codes::CLOCK, says),
        SOME_SKEW_SECONDS..=MOST_SKEW_SECONDS => Finding::warning(codes::CLOCK, says, remedy),
        _ => Finding::problem(codes::CLOCK, format!("{says}: a replica here is never ready"), remedy),
    }
}

fn connections(settings: &Settings, state: &ServerState) -> Finding {
    let wanted = i64::from(settings.database_connections.get()) + BESIDE_THE_POOL;
    let replicas = state.connections / wanted;
    let says = format!(
        "the server takes {} connections; a replica uses up to {wanted}, so that {replicas} fit",
        state.connections
    );
    let remedy = "raise `max_connections`, lower `database_connections`, or put a pooler in front";
    match replicas {
        ..1 => Finding::problem(codes::CONNECTIONS, says, remedy),
        1 => Finding::warning(codes::CONNECTIONS, format!("{says}: none to spare for an upgrade"), remedy),
        _ => Finding::good(codes::CONNECTIONS, says),
    }
}

fn role(state: &ServerState) -> Finding {
    if state.is_superuser {
        Finding::warning(
            codes::ROLE,
            "the service's role is a superuser, whom no trigger stops from rewriting the audit or the ledger",
            "let the service use a role of its own, which owns nothing but its database",
        )
    } else {
        Finding::good(codes::ROLE, "the service's role is no superuser")
    }
}

fn partitions(state: &ServerState) -> Finding {
    if state.has_strays {
        Finding::warning(
            codes::PARTITIONS,
            "rows of the ledger lie outside of its monthly partitions: retention cannot drop them",
            "look for a clock that was wrong; the rows are in `issuances_default`",
        )
    } else if state.partitions_ahead < 2 {
        Finding::warning(
            codes::PARTITIONS,
            "the ledger has no partition for the next month",
            "start the service: it makes them by itself, and looks again every ten minutes",
        )
    } else {
        Finding::good(
            codes::PARTITIONS,
            format!("the ledger has partitions for {} months from this one on", state.partitions_ahead),
        )
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::finding::Level;
    use super::*;

    fn state() -> ServerState {
        ServerState {
            version: 150_004,
            version_name: "15.4".into(),
            now: "2026-11-20T12:00:00Z".parse().unwrap(),
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            connections: 97,
            is_standby: false,
            is_superuser: false,
            database_bytes: 10 << 20,
            partitions_ahead: 4,
            has_strays: false,
        }
    }

    fn levels(state: &ServerState, now: DateTime<Utc>) -> Vec<(&'static str, Level)> {
        let settings = Settings::from_sources(None, []).unwrap();
        let found = of_server(&settings, state, now);
        for finding in &found {
            let needs_remedy = matches!(finding.level, Level::Warning | Level::Problem);
            assert_eq!(finding.remedy.is_some(), needs_remedy, "{finding:?}");
        }
        found.iter().map(|finding| (finding.code, finding.level)).collect()
    }

    #[test]
    fn a_server_as_it_should_be_is_good_in_everything() {
        let state = state();
        assert!(levels(&state, state.now).iter().all(|(_, level)| *level == Level::Good));
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_under_its_code() {
        let good = state();
        let cases = [
            (codes::DATABASE_VERSION, Level::Problem, ServerState { version: 140_000, ..good.clone() }),
            (codes::DATABASE_VERSION, Level::Problem, ServerState { is_standby: true, ..good.clone() }),
            (
                codes::DURABILITY,
                Level::Problem,
                ServerState { synchronous_commit: "off".into(), ..good.clone() },
            ),
            (codes::DURABILITY, Level::Problem, ServerState { fsync: "off".into(), ..good.clone() }),
            (
                codes::CLOCK,
                Level::Warning,
                ServerState { now: good.now + TimeDelta::seconds(3), ..good.clone() },
            ),
            (
                codes::CLOCK,
                Level::Problem,
                ServerState { now: good.now - TimeDelta::seconds(9), ..good.clone() },
            ),
            (codes::CONNECTIONS, Level::Problem, ServerState { connections: 12, ..good.clone() }),
            (codes::CONNECTIONS, Level::Warning, ServerState { connections: 20, ..good.clone() }),
            (codes::ROLE, Level::Warning, ServerState { is_superuser: true, ..good.clone() }),
            (codes::PARTITIONS, Level::Warning, ServerState { partitions_ahead: 1, ..good.clone() }),
            (codes::PARTITIONS, Level::Warning, ServerState { has_strays: true, ..good.clone() }),
        ];
        for (code, level, state) in cases {
            let wrong: Vec<_> =
                levels(&state, good.now).into_iter().filter(|(_, level)| *level != Level::Good).collect();
            assert_eq!(wrong, [(code, level)], "{state:?}");
        }
    }
}
