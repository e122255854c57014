//! A durable cluster for one test alone, which may crash it, stop it and start it again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use token_authority::embedded_postgres::{Cluster, ClusterError, Durability, Search};
use token_authority::storage;

/// A server of its own that loses nothing it has committed, with one migrated database.
#[derive(Debug)]
pub(crate) struct DurableCluster {
    cluster: Arc<Mutex<Cluster>>,
    url: String,
}

/// Starts one, in about a second.
pub(crate) async fn durable_cluster() -> DurableCluster {
    let start = || {
        let named = std::env::var_os("TOKEN_AUTHORITY_POSTGRES_BIN").map(PathBuf::from);
        let search = Search::everywhere(named, |line| println!("{line}"));
        Cluster::start_throwaway(&search, Durability::Durable).unwrap_or_else(|error| panic!("{error}"))
    };
    let cluster = tokio::task::spawn_blocking(start).await.unwrap();
    let durable = DurableCluster { url: cluster.url("postgres"), cluster: Arc::new(Mutex::new(cluster)) };
    let database = durable.storage();
    database.migrate().await.unwrap();
    database.pool().close().await;
    durable
}

impl DurableCluster {
    /// The URL of its database, the same after every start.
    pub(crate) fn url(&self) -> SecretString {
        SecretString::from(self.url.clone())
    }

    /// Its database, as the service sees it, with up to four connections in its pool.
    pub(crate) fn storage(&self) -> storage::Database {
        storage::Database::new(&self.url(), 4).unwrap()
    }

    /// Ends the server in the middle of what it does. It writes nothing out, and recovers at its next start.
    pub(crate) async fn crash(&self) {
        self.with(|cluster| cluster.halt(true)).await;
    }

    /// Stops the server properly.
    pub(crate) async fn stop(&self) {
        self.with(|cluster| cluster.halt(false)).await;
    }

    /// Starts it again.
    pub(crate) async fn start(&self) {
        self.with(Cluster::resume).await;
    }

    async fn with(&self, work: impl FnOnce(&mut Cluster) -> Result<(), ClusterError> + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        let done = tokio::task::spawn_blocking(move || work(&mut cluster.lock().unwrap()));
        done.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    }
}
