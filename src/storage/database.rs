//! Connections: a small pool for requests, single ones for batches, and the schema they expect.

use std::str::FromStr;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction};

use super::StorageError;

/// The database of one deployment.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    pool: PgPool,
}

/// How the schema of a database compares with the one that this program expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Schema {
    /// Made by a newer program: versions that this one does not know.
    Ahead(Vec<i64>),
    /// Versions that are still to be applied.
    Behind(Vec<i64>),
    Current,
}

impl Database {
    /// Prepares the pool; no connection is made before the first use.
    ///
    /// # Errors
    /// The URL cannot be read. The error never quotes it.
    pub fn new(url: &SecretString, connections: u32) -> Result<Self, StorageError> {
        let options = PgConnectOptions::from_str(url.expose_secret()).map_err(|_| {
            StorageError::from(sqlx::Error::Configuration("the database URL cannot be read".into()))
        })?;
        Ok(Self::with_options(options, connections))
    }

    /// The same, for options that were put together by the program.
    #[must_use]
    pub fn with_options(options: PgConnectOptions, connections: u32) -> Self {
        let options = options.application_name("token-authority").disable_statement_logging().options([
            ("timezone", "UTC"),
            ("statement_timeout", "15s"),
            ("idle_in_transaction_session_timeout", "30s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIME)
            // After a restart of the server every pooled connection is dead. Syncs do not use the pool, so
            // that the round trip of asking first costs nothing that counts.
            .test_before_acquire(true)
            .connect_lazy_with(options.clone());
        Self { options, pool }
    }

    /// The pool for everything but batches.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a transaction. It is taken back unless it is committed.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StorageError> {
        Ok(self.pool.begin().await?)
    }

    /// A connection of its own for a lane: one statement of one shape, planned once.
    ///
    /// # Errors
    /// The database cannot be reached within two seconds.
    pub async fn connect_for_batches(&self) -> Result<PgConnection, StorageError> {
        let options = self.options.clone().options(PLANS_OF_BATCHES);
        match tokio::time::timeout(ACQUIRE_TIME, options.connect()).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Applies the migrations that are missing. Only one process does so at a time.
    ///
    /// # Errors
    /// The database cannot be reached, is ahead of this program, or was migrated by an edited file.
    pub async fn migrate(&self) -> Result<(), StorageError> {
        let mut connection = self.options.clone().options([("statement_timeout", "0")]).connect().await?;
        MIGRATOR.run_direct(None, &mut connection, false).await.map_err(sqlx::Error::from)?;
        connection.close().await?;
        Ok(())
    }

    /// Compares the schema with what this program expects.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn schema(&self) -> Result<Schema, StorageError> {
        let mut connection = self.pool.acquire().await?;
        connection.ensure_migrations_table(&MIGRATOR.table_name).await.map_err(sqlx::Error::from)?;
        let applied =
            connection.list_applied_migrations(&MIGRATOR.table_name).await.map_err(sqlx::Error::from)?;
        let applied: Vec<i64> = applied.iter().map(|migration| migration.version).collect();
        let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let ahead: Vec<i64> = applied.iter().copied().filter(|version| !known.contains(version)).collect();
        let behind: Vec<i64> = known.iter().copied().filter(|version| !applied.contains(version)).collect();
        Ok(match (ahead.is_empty(), behind.is_empty()) {
            (false, _) => Schema::Ahead(ahead),
            (true, false) => Schema::Behind(behind),
            (true, true) => Schema::Current,
        })
    }
}

/// A batch looks a few hundred rows up by their keys. Its plans are made once, perhaps while the tables are
/// empty: they must be those that are right at a million rows.
const PLANS_OF_BATCHES: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
];

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");
const ACQUIRE_TIME: Duration = Duration::from_secs(2);
