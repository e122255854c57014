//! The story of a sync, in batches.
//!
//! Requests wait in a bounded queue, divided by instance between a few lanes. Each
//! lane has a connection of its own and takes what waits: while one batch is with the
//! database the next one gathers by itself, so that no timer is needed, and a busy
//! service does less work per sync than an idle one.

mod answers;
mod assertion;
mod authentication;
mod batch;
mod digest;
mod keys;
mod lane;
mod lines;
mod metrics;
mod planning;
mod request;
mod retries;
mod scope_sets;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use chrono::TimeDelta;
use opentelemetry::trace::SpanContext;
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

pub use assertion::ClientAssertion;
pub use authentication::{Authenticated, OVERLAP, authenticate};
pub use lines::brought;
pub(crate) use metrics::SyncMetrics;
pub use request::{CallerProof, IssuedToken, SyncAnswer, SyncError, SyncRequest, TokenForm};

use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::key_ring::Algorithm;
use crate::keystore::{Keystore, KeystoreError, Signer};
use crate::storage::facts::ActiveKey;
use crate::storage::{Database, StorageError, signing_keys};
use crate::telemetry::traces;

/// A catalog that decides, and what the ledger calls it.
#[derive(Debug)]
pub struct LoadedCatalog {
    pub catalog: Catalog,
    pub number: i16,
}

/// The catalog that decides now; replaced as a whole.
#[derive(Debug)]
pub struct CurrentCatalog(RwLock<Arc<LoadedCatalog>>);

impl CurrentCatalog {
    #[must_use]
    pub fn new(catalog: LoadedCatalog) -> Self {
        Self(RwLock::new(Arc::new(catalog)))
    }

    /// The catalog that decides now.
    #[must_use]
    pub fn load(&self) -> Arc<LoadedCatalog> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the next batch on, this catalog decides.
    pub fn replace(&self, catalog: LoadedCatalog) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }
}

/// What every lane shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) database: Database,
    pub(crate) keystore: Arc<Keystore>,
    pub(crate) current_catalog: Arc<CurrentCatalog>,
    pub(crate) issuer: String,
    pub(crate) grace: TimeDelta,
    pub(crate) token_lifetime: TimeDelta,
    pub(crate) sync_interval: TimeDelta,
    /// With which algorithm a joint token is signed where its backends verify different ones.
    pub(crate) joint_token_alg: Algorithm,
    /// No token lives longer than its key, less this.
    pub(crate) leeway: TimeDelta,
    pub(crate) metrics: SyncMetrics,
    pub(crate) connection_check: Arc<dyn ConnectionCheck>,
}

/// What has to be looked at before a lane mints on a connection that it just made.
pub trait ConnectionCheck: Debug + Send + Sync {
    /// Returns when it was looked at.
    ///
    /// # Errors
    /// The database cannot be reached.
    fn check(&self) -> Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send + '_>>;
}

impl Shared {
    fn catalog(&self) -> Arc<LoadedCatalog> {
        self.current_catalog.load()
    }

    fn environment(&self) -> &str {
        self.settings.environment.as_str()
    }

    fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The prepared signer of a key. Only bytes that cannot change are remembered:
    /// which key is active was read in this batch's own transaction.
    async fn signer(
        &self,
        connection: &mut PgConnection,
        key: &ActiveKey,
    ) -> Result<Arc<Signer>, batch::BatchError> {
        if let Some(signer) = self.keystore.signer(&key.kid) {
            return Ok(signer);
        }
        let sealed = signing_keys::find_sealed(connection, self.environment(), &key.kid).await?;
        Ok(self.keystore.unseal_signer(&sealed.ok_or(KeystoreError::NoPrivateHalf)?)?)
    }
}

/// One sync that waits for its batch.
struct Waiting {
    request: SyncRequest,
    since: Instant,
    /// Its span, where it is traced.
    trace: Option<SpanContext>,
    answer: oneshot::Sender<Result<SyncAnswer, SyncError>>,
}

/// The way in: hands syncs to their lanes.
#[derive(Clone, Debug)]
pub struct Issuing {
    lanes: Arc<[mpsc::Sender<Waiting>]>,
    shared: Arc<Shared>,
}

impl Issuing {
    /// Starts the lanes on the runtime that this is called on. They end when the
    /// last clone of this handle goes, after they have answered what waits.
    pub(crate) fn start(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let limit = shared.settings.sync_queue_limit.get().div_ceil(LANES);
        let lanes = (0..LANES)
            .map(|index| {
                let (sender, receiver) = mpsc::channel(limit);
                tokio::spawn(lane::run(index, Arc::clone(&shared), receiver));
                sender
            })
            .collect();
        Self { lanes, shared }
    }

    /// Answers one sync, once its record is durable.
    ///
    /// # Errors
    /// See [`SyncError`]. `Unavailable` when the queue is full or the deadline passed:
    /// what was then recorded is found again by the retry.
    pub async fn sync(&self, request: SyncRequest) -> Result<SyncAnswer, SyncError> {
        let lane = &self.lanes[lane_of(&request)];
        let (answer, answered) = oneshot::channel();
        let since = Instant::now();
        lane.try_send(Waiting { request, since, trace: traces::current(), answer })
            .map_err(|_| SyncError::Unavailable("Too many syncs wait already."))?;
        let outcome = match tokio::time::timeout(self.shared.settings.sync_deadline, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(SyncError::Unavailable("The service is shutting down.")),
            Err(_) => Err(SyncError::Unavailable("The sync was not answered in time.")),
        };
        self.shared.metrics.synced(&outcome, since.elapsed());
        outcome
    }

    /// Brings the gauges up to date, before they are read.
    pub(crate) fn show_gauges(&self) {
        self.shared.metrics.queue_depth.set(self.waiting() as f64);
        self.shared.metrics.show_oldest_waiting();
    }

    /// How many syncs wait for their batch now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.max_capacity() - lane.capacity()).sum()
    }
}

/// Two lanes overlap one batch's work here with the other's in the database.
const LANES: usize = 2;

/// Always the same lane for one instance: its syncs are answered in their order.
fn lane_of(request: &SyncRequest) -> usize {
    usize::from(request.caller.uid().as_uuid().into_bytes()[15]) % LANES
}
