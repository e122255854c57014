//! Measures syncs beside what bounds them, in one run on one machine, and compares: `cargo bench --bench syncs`.

mod baselines;
mod child;
mod cpu;
mod databases;
mod deployment;
mod fleet;
mod hello;
mod load;
mod naive;
mod outcome;
mod report;
mod rounds;
mod signing;

use std::process::ExitCode;

use clap::Parser;
use token_authority::embedded_postgres::{Cluster, Durability, Search};

use child::Role;
use outcome::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Syncs per second, what each costs, and how that compares. A default run takes about two minutes.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// One JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Instances in the database.
    #[arg(long, default_value_t = 100_000)]
    instances: usize,
    /// Compare 1,000 instances with a million instead of the above; filling takes a minute.
    #[arg(long)]
    million: bool,
    /// Only what has this in its name, for work on one thing.
    #[arg(long)]
    only: Option<String>,
    /// In a child: where to listen.
    #[arg(long, hide = true)]
    listen: Option<std::net::SocketAddr>,
    /// A PostgreSQL to measure on, as superuser, instead of one that this program starts.
    #[arg(long)]
    database_url: Option<String>,
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[expect(clippy::print_stderr, reason = "where a person looks")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran = match arguments.role {
        Some(role) => serve(role, &arguments),
        None => measure(&arguments),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn serve(role: Role, arguments: &Arguments) -> Outcome<()> {
    child::end_with_parent();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Hello => {
                let listen = arguments.listen.ok_or_else(|| outcome::Fault::new("--listen is missing"))?;
                hello::serve(listen).await
            }
            Role::Naive => naive::serve().await,
        }
    })
}

fn measure(arguments: &Arguments) -> Outcome<()> {
    let report = match &arguments.database_url {
        Some(url) => rounds::run(arguments, url)?,
        None => {
            let search = Search::everywhere(None, rounds::progress);
            let mut cluster = Cluster::start_throwaway(&search, Durability::Durable)?;
            databases::tune(&mut cluster)?;
            let report = rounds::run(arguments, &cluster.url("postgres"))?;
            cluster.stop()?;
            report
        }
    };
    if arguments.json {
        report.print_json()?;
    } else {
        report.print();
    }
    Ok(())
}
