//! A real PostgreSQL server of our own, for development and tests: found on this machine or fetched, reached
//! through a private Unix socket, and stopped with the process that started it, however that one ends.

mod account;
mod error;
mod fetch;
mod folders;
mod lock;
mod place;
mod programs;
mod server;
mod shared;
mod socket;

use std::path::{Path, PathBuf};

pub use account::Account;
pub use error::ClusterError;
pub use fetch::PackageClient;
pub use lock::{DirectoryLock, Holder};
pub use programs::{OLDEST_VERSION, Programs, Search};
pub use server::Durability;
pub use shared::{SharedCluster, supervise};

use place::Place;
use server::{Order, Server};

/// A PostgreSQL cluster whose server runs as long as this value lives.
///
/// Everything here blocks: a first start takes about a second, later ones some 70 ms, a stop as long as the
/// server needs to write out. From asynchronous code, call it inside `tokio::task::spawn_blocking`; the value
/// itself is `Send`. When this process ends without dropping it, by `kill -9` even, a supervisor that holds the
/// other end of a pipe stops the server.
#[derive(Debug)]
pub struct Cluster {
    account: Account,
    durability: Durability,
    new: bool,
    place: Place,
    programs: Programs,
    // Stopped by `drop`, before its place is left.
    server: Option<Server>,
    socket_directory: PathBuf,
    // Dropped last, so that nobody else starts while our server still stops.
    _lock: Option<DirectoryLock>,
}

impl Cluster {
    /// Starts the durable cluster that belongs to `directory`, and makes it when there is none.
    ///
    /// Its files are under `directory/postgres`. When this process is root and the account that runs the
    /// server cannot get there, they are kept where it can, and a file there says where. An existing cluster
    /// is started with programs of the version that made it, and by root as the account that owns it. Clusters
    /// whose directory is gone are removed.
    ///
    /// # Errors
    /// [`ClusterError::InUse`] names the process that runs this cluster already. The others say what is
    /// missing or what broke.
    pub fn start_in(directory: &Path, search: &Search) -> Result<Self, ClusterError> {
        let lock = place::lock(directory)?;
        let (place, account) = Place::of(directory, Account::for_server()?, place::BASES)?;
        let programs = match place.made_by()? {
            Some(major) => Programs::find_version(search, &account, major)?,
            None => Programs::find(search, &account)?,
        };
        Self::start(place, programs, account, Durability::Durable, Some(lock))
    }

    /// Starts an empty cluster in a temporary place. Its files are removed when it stops.
    ///
    /// # Errors
    /// What is missing, or what broke.
    pub fn start_throwaway(search: &Search, durability: Durability) -> Result<Self, ClusterError> {
        let account = Account::for_server()?;
        let programs = Programs::find(search, &account)?;
        let place = Place::throwaway(&account, durability)?;
        Self::start(place, programs, account, durability, None)
    }

    /// Removes the cluster that belongs to `directory`, wherever its files are. Done when there is none.
    ///
    /// # Errors
    /// [`ClusterError::InUse`] while it runs; a fault when its files cannot be removed.
    pub fn remove(directory: &Path) -> Result<(), ClusterError> {
        place::remove(directory, place::BASES)
    }

    fn start(
        place: Place,
        programs: Programs,
        account: Account,
        durability: Durability,
        lock: Option<DirectoryLock>,
    ) -> Result<Self, ClusterError> {
        let server_lock = place.lock_server()?;
        let new = server::make_cluster(&place, &programs, &account, &server_lock)?;
        let server = Server::start(&place, &programs, &account, durability, server_lock)?;
        let socket_directory = server.socket_directory().to_owned();
        let server = Some(server);
        Ok(Self { account, durability, new, place, programs, server, socket_directory, _lock: lock })
    }

    /// The URL of one of its databases, which need not exist yet, as sqlx and every libpq client take it.
    ///
    /// It holds no password: whoever may open the socket's directory, this account and root, may connect.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        socket::url(&self.socket_directory, database)
    }

    /// Whether its server runs. It ends by itself only when somebody ends it, or its disk is full.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(Server::is_running)
    }

    /// Whether this start made the cluster.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// The folder that holds its files.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.place.home()
    }

    /// The programs that run it.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Where the server writes what it has to say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.log()
    }

    /// Stops the server and keeps the files, to be resumed. For tests of a database that is away.
    ///
    /// `crash` loses what a crashed server would lose: it writes nothing out and recovers from its log at
    /// the next start.
    ///
    /// # Errors
    /// It could not be stopped.
    pub fn halt(&mut self, crash: bool) -> Result<(), ClusterError> {
        match self.server.take() {
            Some(server) => server.stop(if crash { Order::Crash } else { Order::Pause }),
            None => Ok(()),
        }
    }

    /// Starts the server again after [`Cluster::halt`], under the same URL.
    ///
    /// # Errors
    /// It does not start.
    pub fn resume(&mut self) -> Result<(), ClusterError> {
        if self.server.is_none() {
            let lock = self.place.lock_server()?;
            let server = Server::start(&self.place, &self.programs, &self.account, self.durability, lock)?;
            self.socket_directory = server.socket_directory().to_owned();
            self.server = Some(server);
        }
        Ok(())
    }

    /// Stops the server: it ends its sessions, writes everything out, and is gone when this returns.
    ///
    /// # Errors
    /// It could not be stopped.
    pub fn stop(mut self) -> Result<(), ClusterError> {
        self.server.take().map_or(Ok(()), |server| server.stop(Order::End))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = self.server.take()
            && let Err(error) = server.stop(Order::End)
        {
            tracing::warn!(error = %error, "the embedded PostgreSQL did not stop as it should");
        }
    }
}
