//! How much processor time the service and the database spend, from `/proc` (Linux): the load generator's own
//! is in another process and never counted.

use std::fs;
use std::time::Duration;

use super::outcome::{Fault, Outcome};

/// Watches a process, and the server processes of a PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    pub(crate) service: u32,
    /// Its postmaster; `None` where no database has a part in it.
    pub(crate) postmaster: Option<u32>,
}

/// Processor time: spent since a process began, or within a measurement, or per answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) service: Duration,
    pub(crate) database: Duration,
}

impl Meter {
    /// What was spent so far.
    pub(crate) fn read(&self) -> Outcome<CpuTime> {
        let service = of_threads(self.service).ok_or_else(|| Fault::new("the service is gone"))?;
        let database = self.postmaster.map_or(Ok(Duration::ZERO), of_database)?;
        Ok(CpuTime { service, database })
    }
}

impl CpuTime {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            service: self.service.saturating_sub(before.service),
            database: self.database.saturating_sub(before.database),
        }
    }

    pub(crate) fn per(self, answers: usize) -> Self {
        let share = |time: Duration| time.div_f64(answers.max(1) as f64);
        Self { service: share(self.service), database: share(self.database) }
    }
}

/// The process that is the parent of another: of a database's session, its postmaster.
pub(crate) fn parent_of(process: u32) -> Outcome<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name in brackets, which may hold anything.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let parent = after_name.split(' ').nth(1).and_then(|parent| parent.parse().ok());
    parent.ok_or_else(|| Fault::new("/proc does not tell a process's parent"))
}

/// A postmaster and its children. Sessions that end meanwhile are missed: none does while it is measured.
fn of_database(postmaster: u32) -> Outcome<Duration> {
    let mut spent = of_threads(postmaster).ok_or_else(|| Fault::new("the database is gone"))?;
    for entry in fs::read_dir("/proc")? {
        let process: Option<u32> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process) = process else { continue };
        if parent_of(process).is_ok_and(|parent| parent == postmaster) {
            spent += of_threads(process).unwrap_or_default();
        }
    }
    Ok(spent)
}

/// Nanoseconds that the scheduler gave to each thread of a process, summed; `None` when it is gone.
fn of_threads(process: u32) -> Option<Duration> {
    let mut spent = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let schedstat = fs::read_to_string(thread.ok()?.path().join("schedstat")).unwrap_or_default();
        let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        spent += Duration::from_nanos(nanos);
    }
    Some(spent)
}
