//! What backends say that they enforce: their running processes, or the last checked build where none runs.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{StorageError, decode};
use crate::domain::catalog::BackendName;
use crate::domain::catalog::contracts::Contracts;

/// One build of a backend that serves, and what it says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredBuild {
    pub backend: BackendName,
    pub build: String,
    /// `None`: it tells no contract.
    pub enforces: Option<Vec<String>>,
    /// How many processes run it; 0: none of the backend does, and its pipeline spoke for it.
    pub processes: i64,
}

/// The contracts of builds. One that tells none is left out.
#[must_use]
pub fn of(builds: &[DeclaredBuild]) -> Contracts {
    let mut contracts = Contracts::default();
    for build in builds {
        if let Some(enforces) = &build.enforces {
            contracts.add(build.backend.as_str(), enforces.iter().cloned().collect());
        }
    }
    contracts
}

/// The builds that serve: of processes that were heard of since `heard_since`, and of each backend without any of them
/// the last that was checked for `environment`. By backend and build.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    environment: &str,
    heard_since: DateTime<Utc>,
) -> Result<Vec<DeclaredBuild>, StorageError> {
    let rows = sqlx::query(
        "with running as ( \
             select backend, build, enforces, count(*) as processes from deployments \
             where standing = 'running' and last_seen_at > $2 group by backend, build, enforces), \
         checked as ( \
             select distinct on (backend) backend, build, enforces, 0::bigint as processes from checked_builds c \
             where environment = $1 and not exists (select from running r where r.backend = c.backend) \
             order by backend, checked_at desc, build) \
         select * from running union all select * from checked order by backend, build, enforces",
    )
    .bind(environment)
    .bind(heard_since)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(DeclaredBuild {
                backend: decode(row.try_get("backend")?)?,
                build: row.try_get("build")?,
                enforces: row.try_get("enforces")?,
                processes: row.try_get("processes")?,
            })
        })
        .collect()
}
