//! What the database server says of itself, for people who look for what is wrong.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::StorageError;

/// How the server stands, read in one statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerState {
    /// As in `150004`: the major version times 10,000, plus the minor one.
    pub version: i32,
    pub version_name: String,
    pub now: DateTime<Utc>,
    pub fsync: String,
    pub full_page_writes: String,
    pub synchronous_commit: String,
    /// Sessions that may be open, less those that are kept for superusers.
    pub connections: i64,
    /// Whether it only follows another server: nothing can be recorded on it.
    pub is_standby: bool,
    /// Whether our role may do everything, triggers that keep history included.
    pub is_superuser: bool,
    pub database_bytes: i64,
    /// Months from now on for which the ledger has a partition already, this one included.
    pub partitions_ahead: i64,
    /// Whether rows of the ledger lie outside of every monthly partition.
    pub has_strays: bool,
}

/// Reads how the server stands.
///
/// # Errors
/// The database cannot be read, or is not migrated.
pub async fn find(connection: &mut PgConnection) -> Result<ServerState, StorageError> {
    let row = sqlx::query(
        "select current_setting('server_version_num')::integer as version, \
                current_setting('server_version') as version_name, \
                clock_timestamp() as now, \
                current_setting('fsync') as fsync, \
                current_setting('full_page_writes') as full_page_writes, \
                current_setting('synchronous_commit') as synchronous_commit, \
                current_setting('max_connections')::bigint \
                    - current_setting('superuser_reserved_connections')::bigint as connections, \
                pg_is_in_recovery() as is_standby, \
                current_setting('is_superuser') = 'on' as is_superuser, \
                pg_database_size(current_database()) as database_bytes, \
                (select count(*) from generate_series(0, 11) as ahead \
                 where to_regclass('issuances_' || to_char((now() at time zone 'UTC') + make_interval(months => ahead), \
                                                           'YYYY_MM')) is not null) as partitions_ahead, \
                exists (select from issuances_default) as has_strays",
    )
    .fetch_one(connection)
    .await?;
    Ok(ServerState {
        version: row.try_get("version")?,
        version_name: row.try_get("version_name")?,
        now: row.try_get("now")?,
        fsync: row.try_get("fsync")?,
        full_page_writes: row.try_get("full_page_writes")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        connections: row.try_get("connections")?,
        is_standby: row.try_get("is_standby")?,
        is_superuser: row.try_get("is_superuser")?,
        database_bytes: row.try_get("database_bytes")?,
        partitions_ahead: row.try_get("partitions_ahead")?,
        has_strays: row.try_get("has_strays")?,
    })
}
