//! The same load on fleets of several sizes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::cpu::Meter;
use super::databases::Databases;
use super::deployment::{self, Deployment};
use super::fleet::{Asked, Fleet};
use super::load::{self, Load, Loaded};
use super::outcome::{Fault, Outcome};
use super::{Arguments, herd, plot, show, tell};

/// What one size costs.
pub(crate) struct Measured {
    pub(crate) instances: usize,
    pub(crate) loaded: Loaded,
}

pub(crate) fn run(arguments: &Arguments, runtime: &Runtime, url: &str) -> Outcome<()> {
    let databases = runtime.block_on(Databases::on(url))?;
    show("instances    syncs/s   service µs   database µs   p50 ms   p99 ms");
    let mut all = Vec::new();
    for (index, instances) in arguments.sizes.iter().copied().enumerate() {
        let is_last = index + 1 == arguments.sizes.len();
        let (deployment, fleet) = filled(runtime, &databases, &format!("fleet_{instances}"), instances)?;
        let service = deployment.serve()?;
        let meter = Meter { service: service.process(), postmaster: Some(databases.postmaster) };
        runtime.block_on(databases.settle())?;
        let loaded = load::run(service.address, usual(arguments), &fleet.syncs(Asked::EveryToken), &meter)?;
        if loaded.errors > 0 {
            return Err(Fault::new(format!("{} errors: {:?}", loaded.errors, loaded.first_error)));
        }
        show(&row(instances, &loaded));
        all.push(Measured { instances, loaded });
        if let (Some(seconds), true) = (arguments.herd, is_last) {
            herd::run(arguments, service.address, &fleet, instances, Duration::from_secs(seconds))?;
        }
    }
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::of(&all))?;
        tell(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// A deployment on a database of its own, with so many instances.
pub(crate) fn filled(
    runtime: &Runtime,
    databases: &Databases,
    name: &str,
    instances: usize,
) -> Outcome<(Deployment, Arc<Fleet>)> {
    let deployment = Deployment::make(runtime.block_on(databases.make(name))?)?;
    let settings = deployment.settings()?;
    let began = Instant::now();
    let fleet = runtime.block_on(async {
        let database = deployment::database(&settings, 4)?;
        let keystore = deployment::keystore(&settings, &database).await?;
        Fleet::fill(&database, &keystore, instances).await
    })?;
    tell(&format!("{instances} instances, filled in {:.1} s", began.elapsed().as_secs_f64()));
    Ok((deployment, Arc::new(fleet)))
}

pub(crate) fn usual(arguments: &Arguments) -> Load {
    Load {
        connections: arguments.connections,
        threads: 1,
        warm_up: Duration::from_secs(3),
        measured: Duration::from_secs(arguments.seconds),
    }
}

pub(crate) fn row(instances: usize, loaded: &Loaded) -> String {
    format!(
        "{instances:>9} {:>10.0} {:>12.1} {:>13.1} {:>8.2} {:>8.2}",
        loaded.rate,
        micros(loaded.cpu.service),
        micros(loaded.cpu.database),
        loaded.p50.as_secs_f64() * 1e3,
        loaded.p99.as_secs_f64() * 1e3,
    )
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
