//! A fresh, migrated database for each test: a clone of a template, in a cluster that all test processes share.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use secrecy::SecretString;
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use token_authority::embedded_postgres::SharedCluster;
use token_authority::storage;

/// A database of one test. Dropped with this value.
///
/// Two tests never see each other's rows, but they share a server: what is global to it (roles, settings,
/// `pg_stat_activity`) is not theirs.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
    url: String,
}

impl Database {
    /// A database with the current schema and no rows.
    pub(crate) async fn fresh() -> Self {
        let cluster = cluster().await;
        let mut connection = maintenance(cluster).await;
        let template = template(cluster, &mut connection).await;
        Self::create(cluster, connection, &template).await
    }

    /// A database without anything in it, not even a schema.
    pub(crate) async fn unmigrated() -> Self {
        let cluster = cluster().await;
        let connection = maintenance(cluster).await;
        Self::create(cluster, connection, "template0").await
    }

    /// A copy of everything that is in it now, as a backup is. Nobody else may be connected.
    pub(crate) async fn backup(&self) -> Self {
        let cluster = cluster().await;
        let connection = maintenance(cluster).await;
        Self::create(cluster, connection, &self.name).await
    }

    /// Its URL, for everything that takes one: settings, `psql`, pools.
    pub(crate) fn url(&self) -> SecretString {
        SecretString::from(self.url.clone())
    }

    /// What the server calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The socket of its server, for whoever stands in between.
    pub(crate) fn socket(&self) -> std::path::PathBuf {
        let options: sqlx::postgres::PgConnectOptions = self.url.parse().unwrap();
        options.get_socket().unwrap().join(".s.PGSQL.5432")
    }

    /// It, as the service sees it, with up to four connections in its pool.
    pub(crate) fn storage(&self) -> storage::Database {
        storage::Database::new(&self.url(), 4).unwrap()
    }

    /// A connection of its own, for arranging rows and looking at them.
    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    async fn create(cluster: &SharedCluster, mut connection: PgConnection, template: &str) -> Self {
        let name: String = sqlx::query_scalar("SELECT 'test_' || replace(gen_random_uuid()::text, '-', '')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        copy(&mut connection, template, &name).await;
        connection.close().await.unwrap();
        Self { url: cluster.url(&name), name }
    }
}

/// Many tests would fill the disk, were the databases left to the end of the cluster.
impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime cannot block on itself, and may be about to end.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = maintenance(CLUSTER.get().unwrap()).await;
                sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        });
        let dropped = dropping.join().is_ok();
        assert!(dropped || std::thread::panicking(), "the test's database could not be dropped");
    }
}

/// The users' side of it lives as long as this process.
static CLUSTER: OnceLock<SharedCluster> = OnceLock::new();

/// Embedded here again, so that a changed migration gives this binary another template.
static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

async fn cluster() -> &'static SharedCluster {
    let join = || {
        CLUSTER.get_or_init(|| {
            let mut supervisor = Command::new(env!("CARGO_BIN_EXE_token-authority"));
            supervisor.arg("test-cluster");
            let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("test-cluster");
            SharedCluster::join(&directory, supervisor).unwrap_or_else(|error| panic!("{error}"))
        })
    };
    tokio::task::spawn_blocking(join).await.unwrap()
}

async fn maintenance(cluster: &SharedCluster) -> PgConnection {
    PgConnection::connect(&cluster.url("postgres")).await.unwrap()
}

/// The name of the template, which the first to need it makes.
async fn template(cluster: &SharedCluster, connection: &mut PgConnection) -> String {
    let mut digest = Sha256::new();
    for migration in MIGRATOR.iter() {
        digest.update(migration.version.to_be_bytes());
        digest.update(&migration.checksum);
    }
    let digest: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("template_{digest}");

    if !exists(connection, &name).await {
        // One makes it, the others wait; the lock ends with the connection.
        sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut *connection).await.unwrap();
        if !exists(connection, &name).await {
            let part = format!("{name}_part");
            let drop_part = format!("DROP DATABASE IF EXISTS {part} WITH (FORCE)");
            sqlx::query(AssertSqlSafe(drop_part)).execute(&mut *connection).await.unwrap();
            copy(connection, "template0", &part).await;
            let database = storage::Database::new(&SecretString::from(cluster.url(&part)), 1).unwrap();
            database.migrate().await.unwrap();
            database.pool().close().await;
            let rename = format!("ALTER DATABASE {part} RENAME TO {name}");
            sqlx::query(AssertSqlSafe(rename)).execute(&mut *connection).await.unwrap();
        }
    }
    name
}

async fn exists(connection: &mut PgConnection, name: &str) -> bool {
    let found = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
    found.bind(name).fetch_one(connection).await.unwrap()
}

async fn copy(connection: &mut PgConnection, template: &str, name: &str) {
    // The cluster is in memory where that is possible: copying files then beats logging pages.
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy");
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}
