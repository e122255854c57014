//! The PostgreSQL that everything is measured against: durable, with what `docs/operations.md` tells to set.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};
use token_authority::embedded_postgres::Cluster;
use url::Url;

use super::cpu;
use super::outcome::{Fault, Outcome};

/// A server, and the databases that this run makes on it.
#[derive(Debug)]
pub(crate) struct Databases {
    url: Url,
    pub(crate) postmaster: u32,
    /// As it names itself.
    pub(crate) version: String,
}

impl Databases {
    /// Uses the server at `url`, as a superuser.
    ///
    /// Refuses one that does not force what it commits to disk: its figures would say nothing.
    pub(crate) async fn on(url: &str) -> Outcome<Self> {
        let mut connection = connect(url).await?;
        let (session, version): (i32, String) =
            sqlx::query_as("select pg_backend_pid(), current_setting('server_version')")
                .fetch_one(&mut connection)
                .await?;
        let durable: bool = sqlx::query_scalar(
            "select bool_and(current_setting(name) = 'on') \
             from unnest(array['fsync', 'full_page_writes', 'synchronous_commit']) as name",
        )
        .fetch_one(&mut connection)
        .await?;
        if !durable {
            return Err(Fault::new(
                "the database is not durable: fsync, full_page_writes and synchronous_commit must be on",
            ));
        }
        let postmaster = cpu::parent_of(session.unsigned_abs())?;
        connection.close().await?;
        Ok(Self { url: url.parse()?, postmaster, version })
    }

    /// Makes an empty database and answers its URL.
    pub(crate) async fn make(&self, name: &str) -> Outcome<String> {
        let mut connection = connect(self.url.as_str()).await?;
        connection
            .execute(sqlx::AssertSqlSafe(format!("drop database if exists {name} with (force)")))
            .await?;
        connection.execute(sqlx::AssertSqlSafe(format!("create database {name}"))).await?;
        connection.close().await?;
        let mut url = self.url.clone();
        url.set_path(name);
        Ok(url.into())
    }

    /// Writes out what earlier runs left, so that none pays for another.
    pub(crate) async fn settle(&self) -> Outcome<()> {
        let mut connection = connect(self.url.as_str()).await?;
        connection.execute("checkpoint").await?;
        Ok(connection.close().await?)
    }
}

/// Gives a server that this program started the memory and the log that a deployment gives its own; everything
/// else is as PostgreSQL comes.
pub(crate) fn tune(cluster: &mut Cluster) -> Outcome<()> {
    let url = cluster.url("postgres");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut connection = connect(&url).await?;
        for (name, value) in SETTINGS {
            connection.execute(sqlx::AssertSqlSafe(format!("alter system set {name} = '{value}'"))).await?;
        }
        Outcome::Ok(connection.close().await?)
    })?;
    cluster.halt(false)?;
    Ok(cluster.resume()?)
}

/// With the defaults, which suit the smallest machines, a hundred thousand instances do not fit into the
/// server's memory, and a checkpoint comes every few seconds.
pub(crate) const SETTINGS: [(&str, &str); 2] = [("shared_buffers", "1GB"), ("max_wal_size", "4GB")];

/// One session of a superuser.
pub(crate) async fn connect(url: &str) -> Outcome<PgConnection> {
    Ok(PgConnectOptions::from_str(url)?.disable_statement_logging().connect().await?)
}
