//! The fleet as people look at it: which process carries, proves and obeys what.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::RotationError;
use super::beat::carried;
use crate::domain::backend::KeyTrust;
use crate::domain::key_ring::{Algorithm, FORGET_AFTER, Key, Kid, Purpose};
use crate::storage::backends::BackendRow;
use crate::storage::deployments::{self, DeploymentRow, ProofRow};
use crate::storage::{backends, key_sets};

/// Every registered backend with its running processes.
#[derive(Clone, Debug)]
pub struct FleetView {
    pub backends: Vec<BackendView>,
}

/// A backend with its running processes.
#[derive(Clone, Debug)]
pub struct BackendView {
    pub row: BackendRow,
    /// Those that have not signed off and were not forgotten, however long they have been silent.
    pub processes: Vec<ProcessView>,
}

/// A running process, and what it holds.
#[derive(Clone, Debug)]
pub struct ProcessView {
    pub row: DeploymentRow,
    /// The keys of the set that it reported; none where that was never published.
    pub carries: BTreeSet<Kid>,
    pub proofs: Vec<ProofRow>,
}

/// How one backend stands to one key.
#[derive(Clone, Debug)]
pub struct Holding {
    pub backend: String,
    pub trust: KeyTrust,
    pub kid: Kid,
    pub purpose: Purpose,
    /// How many processes were heard of within the hour.
    pub live: usize,
    /// How many of them have a key set with this key.
    pub carrying: usize,
    /// How many of them have proved it.
    pub proving: usize,
    /// Since when all of them have, without a break.
    pub proved_since: Option<DateTime<Utc>>,
}

impl FleetView {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub async fn read(connection: &mut PgConnection, environment: &str) -> Result<Self, RotationError> {
        let mut proofs: BTreeMap<(String, String), Vec<ProofRow>> = BTreeMap::new();
        for (backend, process_id, proof) in deployments::list_all_proofs(connection).await? {
            proofs.entry((backend, process_id)).or_default().push(proof);
        }
        let mut sets: BTreeMap<u32, BTreeSet<Kid>> = BTreeMap::new();
        for summary in key_sets::list(connection, environment).await? {
            if let Some(key_set) = key_sets::find(connection, environment, summary.version).await? {
                sets.insert(summary.version, carried(&key_set)?);
            }
        }
        let mut view = Self { backends: Vec::new() };
        for row in backends::list(connection, None, i64::MAX).await? {
            view.backends.push(BackendView { row, processes: Vec::new() });
        }
        for row in deployments::list_running(connection).await? {
            let key = (row.backend.to_string(), row.process_id.to_string());
            let set = sets.get(&row.report.key_set_version).filter(|_| row.is_published);
            let process = ProcessView {
                carries: set.cloned().unwrap_or_default(),
                proofs: proofs.remove(&key).unwrap_or_default(),
                row,
            };
            if let Some(backend) =
                view.backends.iter_mut().find(|backend| backend.row.name == process.row.backend)
            {
                backend.processes.push(process);
            }
        }
        Ok(view)
    }

    /// Each backend against each of these keys that it has to verify.
    #[must_use]
    pub fn holdings(&self, keys: &[Key], now: DateTime<Utc>) -> Vec<Holding> {
        let pairs = self.backends.iter().flat_map(|backend| {
            keys.iter().filter(|key| backend.verifies(key)).map(move |key| (backend, key))
        });
        pairs.map(|(backend, key)| backend.holding(key, now)).collect()
    }
}

impl BackendView {
    /// Whether tokens or lists under this key meet this backend.
    #[must_use]
    pub fn verifies(&self, key: &Key) -> bool {
        match key.purpose {
            Purpose::AccessTokens => key.alg == self.row.alg,
            Purpose::DenyList => self.row.trust == KeyTrust::Embedded && key.alg == Algorithm::EdDsa,
            _ => false,
        }
    }

    fn holding(&self, key: &Key, now: DateTime<Utc>) -> Holding {
        let kid = key.kid;
        let live: Vec<_> = self.processes.iter().filter(|process| process.is_live(now)).collect();
        let firsts: Vec<_> = live.iter().filter_map(|process| process.proved_since(kid)).collect();
        let all_prove = !live.is_empty() && firsts.len() == live.len();
        Holding {
            backend: self.row.name.to_string(),
            trust: self.row.trust,
            kid,
            purpose: key.purpose,
            carrying: live.iter().filter(|process| process.carries.contains(&kid)).count(),
            proving: firsts.len(),
            proved_since: firsts.iter().max().copied().filter(|_| all_prove),
            live: live.len(),
        }
    }
}

impl ProcessView {
    /// Whether it was heard of within the hour.
    #[must_use]
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        now - self.row.last_seen_at < FORGET_AFTER
    }

    fn proved_since(&self, kid: Kid) -> Option<DateTime<Utc>> {
        self.proofs.iter().find(|proof| proof.kid == kid).map(|proof| proof.first_proved_at)
    }
}
