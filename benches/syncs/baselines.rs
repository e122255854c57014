//! What PostgreSQL itself can do on this machine, by its own load generator.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use super::outcome::{Fault, Outcome};

/// Finds `pgbench` beside the server's programs or on the path; `None` where the machine has none.
pub(crate) fn pgbench() -> Option<String> {
    let found = Command::new("pgbench").arg("--version").output();
    found.is_ok_and(|output| output.status.success()).then(|| "pgbench".to_owned())
}

/// Makes pgbench's own tables: a million accounts.
pub(crate) fn prepare_selects(pgbench: &str, database_url: &str) -> Outcome<()> {
    run(pgbench, &["--initialize", "--quiet", "--scale=10", database_url]).map(drop)
}

/// Transactions per second of single-row reads by two clients, prepared.
pub(crate) fn selects(pgbench: &str, database_url: &str, time: Duration) -> Outcome<f64> {
    let time = format!("--time={}", time.as_secs().max(1));
    let arguments = [
        "--no-vacuum",
        "--select-only",
        "--protocol=prepared",
        "--client=2",
        "--jobs=2",
        &time,
        database_url,
    ];
    rate(&run(pgbench, &arguments)?)
}

/// Durable single-row inserts per second by 64 clients, prepared: a ledger without batches.
pub(crate) fn inserts(pgbench: &str, database_url: &str, time: Duration) -> Outcome<f64> {
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(INSERT.as_bytes())?;
    let (time, script) =
        (format!("--time={}", time.as_secs().max(1)), format!("--file={}", script.path().display()));
    let arguments =
        ["--no-vacuum", "--protocol=prepared", "--client=64", "--jobs=2", &time, &script, database_url];
    rate(&run(pgbench, &arguments)?)
}

/// The ledger's columns, key and index, without partitions.
pub(crate) const INSERTED: &str = "\
create table inserted (like issuances including constraints); \
alter table inserted add primary key (jti); \
create index on inserted (instance_number, jti)";

const INSERT: &str = "\
\\set instance random(1, 100000)
insert into inserted (jti, instance_number, issued_at, expires_at, sync_digest, scope_set, key_number, \
catalog_number, ends_with_grant) \
values (gen_random_uuid(), :instance, now(), now() + interval '8 hours', '\\x000102030405060708090a0b0c0d0e0f', \
1, 1, 1, false);
";

fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Fault::new(format!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

fn rate(printed: &str) -> Outcome<f64> {
    let line = printed.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = line.and_then(|line| line.split(' ').next()).and_then(|rate| rate.parse().ok());
    rate.ok_or_else(|| Fault::new("pgbench told no rate"))
}
