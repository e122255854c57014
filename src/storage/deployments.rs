//! The running processes of backends: what each reported, was asked, and has proved.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::key_sets::digest;
use super::{StorageError, changed_one, decode};
use crate::domain::backend::ProcessId;
use crate::domain::catalog::BackendName;
use crate::domain::key_ring::{Digest, Kid, Standing};
use crate::domain::probes::{Probe, ProbeSet};

/// A process as it last reported itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeploymentRow {
    pub backend: BackendName,
    pub process_id: ProcessId,
    pub standing: Standing,
    /// Why an administrator said that it is gone.
    pub forgotten_because: Option<String>,
    pub report: Report,
    /// Whether that key set was published under that version.
    pub is_published: bool,
    pub first_seen_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    /// Since when none of its verdicts counts: it accepted a forged probe.
    pub disproved_at: Option<DateTime<Utc>>,
    /// What it was asked with its last beats, the latest last.
    pub asked: Vec<ProbeSet>,
}

/// What a process says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    pub build: String,
    pub key_set_version: u32,
    /// Of the plain set.
    pub key_set_digest: Digest,
    pub verifier: String,
    pub algorithms: Vec<String>,
    /// `None`: it reads no deny list.
    pub deny_list_serial: Option<u64>,
    /// The unit primitives of its contract, sorted; `None`: it tells none.
    pub enforces: Option<Vec<String>>,
}

/// That a process believes a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProofRow {
    pub kid: Kid,
    /// Without a break since the first.
    pub first_proved_at: DateTime<Utc>,
    pub last_proved_at: DateTime<Utc>,
}

/// One process, held until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    backend: &BackendName,
    process_id: &ProcessId,
) -> Result<Option<DeploymentRow>, StorageError> {
    let row = sqlx::query(concat!(select!(), "where backend = $1 and process_id = $2 for update"))
        .bind(backend.as_str())
        .bind(process_id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(deployment).transpose()
}

/// At most `limit` processes of a backend after `after`, in the order of their names.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    backend: &BackendName,
    after: Option<&ProcessId>,
    limit: i64,
) -> Result<Vec<DeploymentRow>, StorageError> {
    let rows = sqlx::query(concat!(
        select!(),
        "where backend = $1 and process_id collate \"C\" > $2 order by process_id collate \"C\" limit $3"
    ))
    .bind(backend.as_str())
    .bind(after.map_or("", ProcessId::as_str))
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(deployment).collect()
}

/// Writes a process as it is now, whether it was known or not.
///
/// # Errors
/// The database cannot be written.
pub async fn upsert(connection: &mut PgConnection, row: &DeploymentRow) -> Result<(), StorageError> {
    let report = &row.report;
    sqlx::query(
        "insert into deployments (backend, process_id, standing, forgotten_because, build, key_set_version, \
                                  key_set_digest, is_published, verifier, algorithms, deny_list_serial, \
                                  first_seen_at, last_seen_at, disproved_at, probes, enforces) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         on conflict (backend, process_id) do update set standing = $3, forgotten_because = $4, build = $5, \
                key_set_version = $6, key_set_digest = $7, is_published = $8, verifier = $9, algorithms = $10, \
                deny_list_serial = $11, last_seen_at = greatest(deployments.last_seen_at, $13), \
                disproved_at = $14, probes = $15, enforces = $16",
    )
    .bind(row.backend.as_str())
    .bind(row.process_id.as_str())
    .bind(row.standing.as_str())
    .bind(&row.forgotten_because)
    .bind(&report.build)
    .bind(i64::from(report.key_set_version))
    .bind(report.key_set_digest.as_bytes().as_slice())
    .bind(row.is_published)
    .bind(&report.verifier)
    .bind(&report.algorithms)
    .bind(report.deny_list_serial.map(i64::try_from).transpose().map_err(StorageError::corrupt)?)
    .bind(row.first_seen_at)
    .bind(row.last_seen_at)
    .bind(row.disproved_at)
    .bind(Json(row.asked.iter().map(StoredProbeSet::from).collect::<Vec<_>>()))
    .bind(&report.enforces)
    .execute(connection)
    .await?;
    Ok(())
}

/// Says of a process that it does not count any more; `because` where an administrator says so.
///
/// # Errors
/// The process is not there, or the database cannot be written.
pub async fn update_standing(
    connection: &mut PgConnection,
    row: &DeploymentRow,
    standing: Standing,
    because: Option<&str>,
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update deployments set standing = $3, forgotten_because = $4 where backend = $1 and process_id = $2",
    )
    .bind(row.backend.as_str())
    .bind(row.process_id.as_str())
    .bind(standing.as_str())
    .bind(because)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// What a process has proved, by kid.
///
/// # Errors
/// The database cannot be read.
pub async fn list_proofs(
    connection: &mut PgConnection,
    backend: &BackendName,
    process_id: &ProcessId,
) -> Result<Vec<ProofRow>, StorageError> {
    let rows = sqlx::query(
        "select kid, first_proved_at, last_proved_at from deployment_proofs \
         where backend = $1 and process_id = $2 order by kid",
    )
    .bind(backend.as_str())
    .bind(process_id.as_str())
    .fetch_all(connection)
    .await?;
    rows.iter().map(proof).collect()
}

/// Every process that has not signed off and was not forgotten, by backend.
///
/// # Errors
/// The database cannot be read.
pub async fn list_running(connection: &mut PgConnection) -> Result<Vec<DeploymentRow>, StorageError> {
    let rows = sqlx::query(concat!(select!(), "where standing = 'running' order by backend, process_id"))
        .fetch_all(connection)
        .await?;
    rows.iter().map(deployment).collect()
}

/// What every running process has proved: backend, process, key.
///
/// # Errors
/// The database cannot be read.
pub async fn list_all_proofs(
    connection: &mut PgConnection,
) -> Result<Vec<(String, String, ProofRow)>, StorageError> {
    let rows = sqlx::query(
        "select p.backend, p.process_id, p.kid, p.first_proved_at, p.last_proved_at \
         from deployment_proofs p join deployments d using (backend, process_id) \
         where d.standing = 'running' order by p.backend, p.process_id, p.kid",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("backend")?, row.try_get("process_id")?, proof(row)?))).collect()
}

/// Remembers that a process believes these keys at `at`.
///
/// # Errors
/// The database cannot be written.
pub async fn insert_proofs(
    connection: &mut PgConnection,
    row: &DeploymentRow,
    kids: &BTreeSet<Kid>,
    at: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into deployment_proofs (backend, process_id, kid, first_proved_at, last_proved_at) \
         select $1, $2, kid, $4, $4 from unnest($3::text[]) as proved (kid) \
         on conflict (backend, process_id, kid) do update \
         set last_proved_at = greatest(deployment_proofs.last_proved_at, $4)",
    )
    .bind(row.backend.as_str())
    .bind(row.process_id.as_str())
    .bind(texts(kids))
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes back what a process proved of these keys; `None`: of all.
///
/// # Errors
/// The database cannot be written.
pub async fn delete_proofs(
    connection: &mut PgConnection,
    row: &DeploymentRow,
    kids: Option<&BTreeSet<Kid>>,
) -> Result<(), StorageError> {
    sqlx::query(
        "delete from deployment_proofs where backend = $1 and process_id = $2 and ($3::text[] is null or kid = any($3))",
    )
    .bind(row.backend.as_str())
    .bind(row.process_id.as_str())
    .bind(kids.map(texts))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the processes that nobody has heard of since `before`.
///
/// # Errors
/// The database cannot be written.
pub async fn delete_silent(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
) -> Result<u64, StorageError> {
    let done = sqlx::query("delete from deployments where last_seen_at < $1")
        .bind(before)
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

fn texts(kids: &BTreeSet<Kid>) -> Vec<String> {
    kids.iter().map(ToString::to_string).collect()
}

fn proof(row: &PgRow) -> Result<ProofRow, StorageError> {
    Ok(ProofRow {
        kid: decode(row.try_get("kid")?)?,
        first_proved_at: row.try_get("first_proved_at")?,
        last_proved_at: row.try_get("last_proved_at")?,
    })
}

fn deployment(row: &PgRow) -> Result<DeploymentRow, StorageError> {
    let serial: Option<i64> = row.try_get("deny_list_serial")?;
    let asked: Json<Vec<StoredProbeSet>> = row.try_get("probes")?;
    Ok(DeploymentRow {
        backend: decode(row.try_get("backend")?)?,
        process_id: decode(row.try_get("process_id")?)?,
        standing: decode(row.try_get("standing")?)?,
        forgotten_because: row.try_get("forgotten_because")?,
        report: Report {
            build: row.try_get("build")?,
            key_set_version: u32::try_from(row.try_get::<i64, _>("key_set_version")?)
                .map_err(StorageError::corrupt)?,
            key_set_digest: digest(row.try_get("key_set_digest")?)?,
            verifier: row.try_get("verifier")?,
            algorithms: row.try_get("algorithms")?,
            deny_list_serial: serial.map(u64::try_from).transpose().map_err(StorageError::corrupt)?,
            enforces: row.try_get("enforces")?,
        },
        is_published: row.try_get("is_published")?,
        first_seen_at: row.try_get("first_seen_at")?,
        last_seen_at: row.try_get("last_seen_at")?,
        disproved_at: row.try_get("disproved_at")?,
        asked: asked.0.into_iter().map(StoredProbeSet::probe_set).collect::<Result<_, _>>()?,
    })
}

macro_rules! select {
    () => {
        "select backend, process_id, standing, forgotten_because, build, key_set_version, key_set_digest, \
                is_published, verifier, algorithms, deny_list_serial, first_seen_at, last_seen_at, disproved_at, \
                probes, enforces from deployments "
    };
}
use select;

#[derive(Deserialize, Serialize)]
struct StoredProbeSet {
    issued_at: DateTime<Utc>,
    probes: Vec<StoredProbe>,
}

#[derive(Deserialize, Serialize)]
struct StoredProbe {
    nonce: Uuid,
    kid: String,
    is_genuine: bool,
}

impl From<&ProbeSet> for StoredProbeSet {
    fn from(set: &ProbeSet) -> Self {
        let probes = set.probes.iter().map(|probe| StoredProbe {
            nonce: probe.nonce,
            kid: probe.kid.to_string(),
            is_genuine: probe.is_genuine,
        });
        Self { issued_at: set.issued_at, probes: probes.collect() }
    }
}

impl StoredProbeSet {
    fn probe_set(self) -> Result<ProbeSet, StorageError> {
        let probes = self.probes.into_iter().map(|probe| {
            Ok(Probe { nonce: probe.nonce, kid: decode(&probe.kid)?, is_genuine: probe.is_genuine })
        });
        let probes = probes.collect::<Result<_, StorageError>>()?;
        Ok(ProbeSet { issued_at: self.issued_at, probes })
    }
}
