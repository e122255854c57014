//! Measures what size costs: syncs with a thousand to a million instances, the herd after an outage, and a ledger of
//! many rows: `cargo bench --bench scale -- --help`.

#[path = "../syncs/child.rs"]
#[allow(dead_code, reason = "shared with another bench, which uses the rest of it")]
mod child;
#[path = "../syncs/cpu.rs"]
mod cpu;
#[path = "../syncs/databases.rs"]
#[allow(dead_code, reason = "shared with another bench, which uses the rest of it")]
mod databases;
#[path = "../syncs/deployment.rs"]
#[allow(dead_code, reason = "shared with another bench, which uses the rest of it")]
mod deployment;
#[path = "../syncs/fleet.rs"]
#[allow(dead_code, reason = "shared with another bench, which uses the rest of it")]
mod fleet;
#[path = "../syncs/load.rs"]
#[allow(dead_code, reason = "shared with another bench, which uses the rest of it")]
mod load;
#[path = "../syncs/outcome.rs"]
mod outcome;

mod herd;
mod ledger;
mod plot;
mod sizes;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use token_authority::embedded_postgres::{Cluster, Durability, Search};

use outcome::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What size costs. Without any option: three sizes of the fleet.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Instances in the database, one measurement after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    sizes: Vec<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections that sync without a pause.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Also let all instances of the last size return within so many seconds, as after an outage.
    #[arg(long, value_name = "SECONDS")]
    herd: Option<u64>,
    /// Connections of the herd.
    #[arg(long, default_value_t = 2_000)]
    herd_connections: usize,
    /// Instead of the sizes: a ledger of so many rows, against an empty one.
    #[arg(long, value_name = "ROWS")]
    ledger: Option<u64>,
    /// Write a plot of the cost over the sizes, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[expect(clippy::print_stderr, reason = "where a person looks")]
pub(crate) fn tell(says: &str) {
    eprintln!("{says}");
}

#[expect(clippy::print_stdout, reason = "the outcome")]
pub(crate) fn show(line: &str) {
    println!("{line}");
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tell(&fault.to_string());
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Outcome<()> {
    let search = Search::everywhere(None, tell);
    let mut cluster = Cluster::start_throwaway(&search, Durability::Durable)?;
    databases::tune(&mut cluster)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let url = cluster.url("postgres");
    match arguments.ledger {
        Some(rows) => ledger::run(arguments, &runtime, &url, rows)?,
        None => sizes::run(arguments, &runtime, &url)?,
    }
    Ok(cluster.stop()?)
}
