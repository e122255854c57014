//! Connections: a small pool for requests, single ones for batches, and the schema they expect.

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres, Row, Transaction};

use super::{StorageError, schema_floor};

/// The database of one deployment.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    /// Without a pooler in between: for what belongs to a session.
    direct: PgConnectOptions,
    connections: u32,
    pool: Arc<RwLock<PgPool>>,
    access: Access,
}

/// What is between this program and its server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Direct,
    /// A pooler in transaction mode: one transaction's session is not the next one's.
    Pooled,
}

/// How the schema of a database compares with the one that this program expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Schema {
    /// A newer program added versions that this one does not know, and took nothing away that it needs.
    Ahead(Vec<i64>),
    /// Versions that are still to be applied.
    Behind(Vec<i64>),
    /// A newer program took away what this one needs: only programs that know the version `needs` may run.
    Beyond {
        needs: i64,
    },
    Current,
}

impl Schema {
    /// Whether this program can run on it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Ahead(_) | Self::Current)
    }
}

impl Database {
    /// Prepares the pool; no connection is made before the first use.
    ///
    /// # Errors
    /// The URL cannot be read. The error never quotes it.
    pub fn new(url: &SecretString, connections: u32) -> Result<Self, StorageError> {
        Ok(Self::with_options(options(url)?, connections))
    }

    /// The same, where `url` leads through a pooler in transaction mode, and `direct_url` to the same database
    /// without one.
    ///
    /// # Errors
    /// A URL cannot be read. The error never quotes it.
    pub fn behind_pooler(
        url: &SecretString,
        direct_url: &SecretString,
        connections: u32,
    ) -> Result<Self, StorageError> {
        let pooled = options(url)?
            .application_name(APPLICATION)
            .disable_statement_logging()
            // Poolers refuse start-up parameters that they do not know.
            .extra_float_digits(None)
            // A statement that one transaction prepared is not there in the next one.
            .statement_cache_capacity(0);
        Ok(Self::assemble(pooled, direct_options(options(direct_url)?), connections, Access::Pooled))
    }

    /// The same, for options that were put together by the program.
    #[must_use]
    pub fn with_options(options: PgConnectOptions, connections: u32) -> Self {
        let options = direct_options(options);
        Self::assemble(options.clone(), options, connections, Access::Direct)
    }

    fn assemble(
        options: PgConnectOptions,
        direct: PgConnectOptions,
        connections: u32,
        access: Access,
    ) -> Self {
        let pool = Arc::new(RwLock::new(pool(&options, connections)));
        Self { options, direct, connections, pool, access }
    }

    /// The pool for everything but batches.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on with new connections. The old ones end with what uses them.
    ///
    /// A server whose host is gone says nothing any more, not even that it is gone: whoever waits for it waits for good,
    /// and with them every connection of the pool.
    pub fn renew_pool(&self) {
        let new = pool(&self.options, self.connections);
        let old = std::mem::replace(&mut *self.pool.write().unwrap_or_else(PoisonError::into_inner), new);
        // Marked as closed at once; that its connections say goodbye is waited for by nobody.
        drop(old.close());
    }

    /// Opens a transaction. It is taken back unless it is committed.
    ///
    /// Everything is done in one, reads too: through a pooler nothing holds two statements together but it.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StorageError> {
        Ok(match self.access {
            Access::Direct => self.pool().begin().await?,
            Access::Pooled => self.pool().begin_with(POOLED_BEGIN).await?,
        })
    }

    /// Opens a transaction that changes nothing, and sees one state of the database from its first statement to its end.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn begin_snapshot(&self) -> Result<Transaction<'static, Postgres>, StorageError> {
        let opening = match self.access {
            Access::Direct => SNAPSHOT_BEGIN,
            Access::Pooled => POOLED_SNAPSHOT_BEGIN,
        };
        Ok(self.pool().begin_with(opening).await?)
    }

    /// What opens a transaction on a lane's connection.
    #[must_use]
    pub fn batch_opening(&self) -> &'static str {
        match self.access {
            Access::Direct => "BEGIN",
            Access::Pooled => POOLED_BATCH_BEGIN,
        }
    }

    /// A pool of one connection of its own, without a pooler in between: for `LISTEN`, which belongs to a session.
    #[must_use]
    pub fn listening_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIME)
            .connect_lazy_with(self.direct.clone())
    }

    /// Whether the database is reached through a pooler in transaction mode.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.access == Access::Pooled
    }

    /// Connects once where sessions are our own, and ends the connection.
    ///
    /// # Errors
    /// The database cannot be reached there within two seconds.
    pub async fn try_direct(&self) -> Result<(), StorageError> {
        let attempt = async {
            self.direct.connect().await?.close().await?;
            Ok(())
        };
        tokio::time::timeout(ACQUIRE_TIME, attempt).await.unwrap_or(Err(sqlx::Error::PoolTimedOut.into()))
    }

    /// A connection of its own for a lane: one statement of one shape, planned once.
    ///
    /// # Errors
    /// The database cannot be reached within two seconds.
    pub async fn connect_for_batches(&self) -> Result<PgConnection, StorageError> {
        let options = match self.access {
            Access::Direct => self.options.clone().options(PLANS_OF_BATCHES),
            Access::Pooled => self.options.clone(),
        };
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
        let mut connection = self.direct.clone().options([("statement_timeout", "0")]).connect().await?;
        MIGRATOR.run_direct(None, &mut connection, false).await.map_err(sqlx::Error::from)?;
        connection.close().await?;
        Ok(())
    }

    /// Compares the schema with what this program expects.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn schema(&self) -> Result<Schema, StorageError> {
        let mut tx = self.begin().await?;
        let applied = schema_floor::list_applied(&mut tx).await?;
        let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let ahead: Vec<i64> = applied.iter().copied().filter(|version| !known.contains(version)).collect();
        if !ahead.is_empty()
            && let Some(needs) = schema_floor::find(&mut tx).await?
            && !known.contains(&needs)
        {
            return Ok(Schema::Beyond { needs });
        }
        let behind: Vec<i64> = known.iter().copied().filter(|version| !applied.contains(version)).collect();
        Ok(match (behind.is_empty(), ahead.is_empty()) {
            (false, _) => Schema::Behind(behind),
            (true, false) => Schema::Ahead(ahead),
            (true, true) => Schema::Current,
        })
    }
}

fn options(url: &SecretString) -> Result<PgConnectOptions, StorageError> {
    PgConnectOptions::from_str(url.expose_secret())
        .map_err(|_| StorageError::from(sqlx::Error::Configuration("the database URL cannot be read".into())))
}

fn direct_options(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name(APPLICATION).disable_statement_logging().options([
        ("timezone", "UTC"),
        ("statement_timeout", "15s"),
        ("idle_in_transaction_session_timeout", "30s"),
    ])
}

fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIME)
        // After a restart of the server every pooled connection is dead, and after a failover some may lead to a server
        // that only follows now. Syncs do not use the pool, so that the round trip of asking first costs nothing that
        // counts.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(can_write(connection)))
        .connect_lazy_with(options.clone())
}

/// Whether a pooled connection is alive, and leads to a server that takes changes. One simple query, which a pooler
/// answers in one piece.
async fn can_write(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = connection.fetch_one(sqlx::raw_sql("select pg_is_in_recovery()")).await?;
    Ok(!row.try_get::<bool, _>(0)?)
}

const APPLICATION: &str = "token-authority";

/// The session may have been another client's a moment ago, prepared statements and all. What a direct connection
/// asks for at its start is asked for here each time, in the same round trip.
macro_rules! pooled_begin {
    ($mode:literal, $settings:literal) => {
        concat!(
            "BEGIN",
            $mode,
            "; DEALLOCATE ALL; SET LOCAL statement_timeout = '15s'; \
             SET LOCAL idle_in_transaction_session_timeout = '30s'",
            $settings
        )
    };
}

const POOLED_BEGIN: &str = pooled_begin!("", "");
const SNAPSHOT_BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
const POOLED_SNAPSHOT_BEGIN: &str = pooled_begin!(" ISOLATION LEVEL REPEATABLE READ, READ ONLY", "");
/// With [`PLANS_OF_BATCHES`].
const POOLED_BATCH_BEGIN: &str = pooled_begin!(
    "",
    "; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL jit = off; SET LOCAL enable_bitmapscan = off; \
     SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off"
);

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
