//! The measurements, round by round, and the ratios that follow from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Arguments;
use super::baselines;
use super::child::{Role, Server, free_address};
use super::cpu::Meter;
use super::databases::{Databases, connect};
use super::deployment::{self, Deployment};
use super::fleet::{Asked, Fleet, ledger_rows};
use super::load::{self, Load, Loaded, Request};
use super::outcome::{Fault, Outcome};
use super::report::{Bound, CpuMicros, Figure, Machine, Ratio, Report};
use super::{hello, signing};

/// Measures everything.
pub(crate) fn run(arguments: &Arguments, database_url: &str) -> Outcome<Report> {
    let load_before = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let databases = runtime.block_on(Databases::on(database_url))?;
    let many = if arguments.million { 1_000_000 } else { arguments.instances };
    progress(&format!("filling a database with {many} instances and one with {FEW}"));
    let mut bench = Bench {
        arguments,
        pgbench: baselines::pgbench(),
        pgbench_url: runtime.block_on(databases.make("bench_baselines"))?,
        hello: serve_hello()?,
        many: runtime.block_on(Site::fill(&databases, "bench_many", many))?,
        few: runtime.block_on(Site::fill(&databases, "bench_few", FEW))?,
        figures: BTreeMap::new(),
        order: Vec::new(),
        databases,
        runtime,
    };
    bench.prepare_baselines()?;
    for round in 1..=arguments.rounds {
        progress(&format!("round {round} of {}", arguments.rounds));
        bench.round()?;
    }
    bench.report(load_before)
}

/// With so few, everything is in memory that is near the processor.
const FEW: usize = 1_000;

const HELLO: &str = "hello world, 64 connections";
const SELECTS: &str = "pgbench -S -M prepared, 2 clients";
const INSERTS: &str = "durable single-row inserts, 64 clients";
const NAIVE: &str = "naive handler, three round trips, 64 connections";
const SYNCS: &str = "sync of one token, 64 connections";
const CROWDED: &str = "sync of one token, 2,000 connections";
const FEW_SYNCS: &str = "sync of one token, 64 connections, 1,000 instances";
const WHOLE: &str = "sync of every token, 64 connections";
const RAW: &str = "raw Ed25519 signature, one core";
const MINT: &str = "token minted, one core";
const VERIFY: &str = "token verified, one core";
const DECODE: &str = "the same token decoded by jsonwebtoken";

struct Bench<'a> {
    arguments: &'a Arguments,
    runtime: Runtime,
    databases: Databases,
    pgbench: Option<String>,
    pgbench_url: String,
    hello: Server,
    many: Site,
    few: Site,
    /// What each round measured, by name.
    figures: BTreeMap<&'static str, Vec<Figure>>,
    order: Vec<&'static str>,
}

/// A filled database, and who serves on it.
struct Site {
    deployment: Deployment,
    fleet: Arc<Fleet>,
    service: Server,
    naive: Server,
}

impl Site {
    async fn fill(databases: &Databases, name: &str, size: usize) -> Outcome<Self> {
        let deployment = Deployment::make(databases.make(name).await?)?;
        let settings = deployment.settings()?;
        let database = deployment::database(&settings, 1)?;
        let keystore = deployment::keystore(&settings, &database).await?;
        let fleet = Arc::new(Fleet::fill(&database, &keystore, size).await?);
        let (service, naive) = (deployment.serve()?, deployment.serve_naively()?);
        Ok(Self { deployment, fleet, service, naive })
    }
}

fn serve_hello() -> Outcome<Server> {
    let address = free_address()?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(Role::Hello.arguments()).args(["--listen", &address.to_string()]);
    Server::start(&mut command, address)
}

impl Bench<'_> {
    fn prepare_baselines(&self) -> Outcome<()> {
        let Some(pgbench) = &self.pgbench else { return Ok(()) };
        self.runtime.block_on(async {
            let mut connection = connect(self.many.deployment.database_url()).await?;
            for statement in baselines::INSERTED.split(';') {
                sqlx::query(statement).execute(&mut connection).await?;
            }
            Outcome::Ok(())
        })?;
        baselines::prepare_selects(pgbench, &self.pgbench_url)
    }

    fn round(&mut self) -> Outcome<()> {
        let time = Duration::from_secs(self.arguments.seconds);
        self.runtime.block_on(self.databases.settle())?;
        if self.wants(HELLO) {
            let meter = Meter { service: self.hello.process(), postmaster: None };
            let request: Request = Arc::new(hello::request);
            let loaded = load::run(self.hello.address, self.load(64), &request, &meter)?;
            self.keep(HELLO, &loaded)?;
        }
        if let Some(pgbench) = self.pgbench.clone() {
            if self.wants(SELECTS) {
                let rate = baselines::selects(&pgbench, &self.pgbench_url, time)?;
                self.keep_rate(SELECTS, rate);
            }
            if self.wants(INSERTS) {
                let rate = baselines::inserts(&pgbench, self.many.deployment.database_url(), time)?;
                self.keep_rate(INSERTS, rate);
            }
        }
        self.syncs(NAIVE, 64, Asked::OneToken)?;
        self.syncs(SYNCS, 64, Asked::OneToken)?;
        self.syncs(CROWDED, 2_000, Asked::OneToken)?;
        self.syncs(FEW_SYNCS, 64, Asked::OneToken)?;
        self.syncs(WHOLE, 64, Asked::EveryToken)?;
        if self.wants(RAW) || self.wants(MINT) {
            let signing = signing::measure(time.min(Duration::from_secs(2)))?;
            self.keep_rate(RAW, signing.raw);
            self.keep_rate(MINT, signing.minted);
            self.keep_rate(VERIFY, signing.verified);
            self.keep_rate(DECODE, signing.decoded);
        }
        Ok(())
    }

    /// Loads a service with syncs, and holds it to its promise: a row for each token that left.
    fn syncs(&mut self, what: &'static str, connections: usize, asked: Asked) -> Outcome<()> {
        if !self.wants(what) {
            return Ok(());
        }
        let site = if what == FEW_SYNCS { &self.few } else { &self.many };
        let server = if what == NAIVE { &site.naive } else { &site.service };
        let rows = || {
            self.runtime
                .block_on(async { ledger_rows(&mut connect(site.deployment.database_url()).await?).await })
        };
        let before = rows()?;
        let meter = Meter { service: server.process(), postmaster: Some(self.databases.postmaster) };
        let loaded = load::run(server.address, self.load(connections), &site.fleet.syncs(asked), &meter)?;
        let recorded = rows()? - before;
        if matches!(asked, Asked::OneToken) && loaded.errors == 0 && recorded != loaded.answered {
            return Err(Fault::new(format!(
                "{what}: {} syncs were answered, but {recorded} tokens recorded",
                loaded.answered
            )));
        }
        self.keep(what, &loaded)
    }

    fn load(&self, connections: usize) -> Load {
        Load {
            connections,
            threads: 1,
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(self.arguments.seconds),
        }
    }

    fn wants(&self, what: &str) -> bool {
        self.arguments.only.as_deref().is_none_or(|only| what.contains(only))
    }

    fn keep(&mut self, what: &'static str, loaded: &Loaded) -> Outcome<()> {
        if let Some(error) = &loaded.first_error {
            progress(&format!("{what}: {} errors, the first: {error}", loaded.errors));
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let cpu = CpuMicros { service: micros(loaded.cpu.service), database: micros(loaded.cpu.database) };
        self.add(
            what,
            Figure {
                what: what.to_owned(),
                per_second: loaded.rate,
                cpu_micros: Some(cpu),
                p50_micros: Some(micros(loaded.p50)),
                p99_micros: Some(micros(loaded.p99)),
                errors: Some(loaded.errors),
            },
        );
        progress(&format!(
            "  {what}: {:.0}/s, CPU {:.1} + {:.1} µs, p50 {:.0} µs, p99 {:.0} µs",
            loaded.rate,
            cpu.service,
            cpu.database,
            micros(loaded.p50),
            micros(loaded.p99)
        ));
        Ok(())
    }

    fn keep_rate(&mut self, what: &'static str, per_second: f64) {
        progress(&format!("  {what}: {per_second:.0}/s"));
        self.add(what, Figure { what: what.to_owned(), per_second, ..Figure::default() });
    }

    fn add(&mut self, what: &'static str, figure: Figure) {
        if !self.order.contains(&what) {
            self.order.push(what);
        }
        self.figures.entry(what).or_default().push(figure);
    }

    fn report(&self, load_before: String) -> Outcome<Report> {
        let medians: BTreeMap<&str, Figure> =
            self.figures.iter().map(|(what, rounds)| (*what, Figure::of_rounds(rounds))).collect();
        let mut notes =
            vec!["Not measured here: other token servers (npm oidc-provider, rauthy).".to_owned()];
        if self.pgbench.is_none() {
            notes.push("This machine has no pgbench: its rows are missing.".to_owned());
        }
        Ok(Report {
            machine: Machine {
                processor: processor(),
                cores: std::thread::available_parallelism()?.get(),
                postgresql: self.databases.version.clone(),
                load_before: load_before.trim().to_owned(),
            },
            figures: self.order.iter().filter_map(|what| medians.get(what).cloned()).collect(),
            ratios: ratios(&medians),
            notes,
        })
    }
}

fn ratios(figures: &BTreeMap<&str, Figure>) -> Vec<Ratio> {
    let rate = |what: &str| figures.get(what).map(|figure| figure.per_second);
    let cpu = |what: &str| figures.get(what).and_then(|figure| figure.cpu_micros).map(CpuMicros::total);
    let of = |top: Option<f64>, bottom: Option<f64>| top.zip(bottom).map(|(top, bottom)| top / bottom);
    let parts = cpu(HELLO).zip(rate(RAW)).map(|(hello, raw)| hello + 1e6 / raw);
    let tail = figures.get(SYNCS).map(|figure| (figure.p99_micros, figure.p50_micros));
    let crowded_errors = figures.get(CROWDED).and_then(|figure| figure.errors).unwrap_or_default();
    let crowded = of(rate(CROWDED), rate(SYNCS)).filter(|_| crowded_errors == 0);
    use Bound::{AtLeast, AtMost};
    vec![
        Ratio::new(
            "CPU per sync of one token / (hello world + one raw signature)",
            AtMost,
            4.5,
            1.7,
            of(cpu(SYNCS), parts),
        ),
        Ratio::new("syncs / naive three-round-trip handler", AtLeast, 3.0, 8.0, of(rate(SYNCS), rate(NAIVE))),
        Ratio::new("syncs / pgbench -S, 2 clients", AtLeast, 0.17, 0.45, of(rate(SYNCS), rate(SELECTS))),
        Ratio::new(
            "syncs / durable single-row inserts, 64 clients",
            AtLeast,
            0.75,
            1.8,
            of(rate(SYNCS), rate(INSERTS)),
        ),
        Ratio::new("p99 / p50 at 64 connections", AtMost, 3.0, 2.0, tail.and_then(|(p99, p50)| of(p99, p50))),
        Ratio::new("syncs at 2,000 connections / at 64, without one error", AtLeast, 0.9, 1.1, crowded),
        Ratio::new(
            "CPU per sync, all instances / 1,000 instances",
            AtMost,
            1.25,
            1.05,
            of(cpu(SYNCS), cpu(FEW_SYNCS)),
        ),
        Ratio::new("mint rate / raw signature rate", AtLeast, 0.85, 0.93, of(rate(MINT), rate(RAW))),
        Ratio::new(
            "verify rate / jsonwebtoken decode rate",
            AtLeast,
            1.05,
            2.2,
            of(rate(VERIFY), rate(DECODE)),
        ),
    ]
}

fn processor() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    model
        .map_or_else(|| "unknown processor".to_owned(), |name| name.trim_matches([' ', '\t', ':']).to_owned())
}

#[expect(clippy::print_stderr, reason = "tells who waits how far it is; standard output holds the report")]
pub(crate) fn progress(says: &str) {
    eprintln!("{says}");
}
