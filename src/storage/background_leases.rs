//! Which replica does the work that one does for all: a lease, by the database's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StorageError;

/// Who holds the lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    pub holder: Uuid,
    /// Host and process, for people.
    pub name: String,
    pub since: DateTime<Utc>,
    /// When another may take it, unless it is renewed.
    pub until: DateTime<Utc>,
}

/// Takes the lease if nobody has it, or renews it. Returns whether it is this holder's now.
///
/// One that lasts longer than any was ever given was made by a clock that has jumped back since: it counts for nothing.
///
/// # Errors
/// The database cannot be written.
pub async fn take_or_renew(
    connection: &mut PgConnection,
    holder: Uuid,
    name: &str,
    lasts: Duration,
) -> Result<bool, StorageError> {
    let taken = sqlx::query(
        "insert into background_leases as l (work, holder, holder_name, since, until) \
         values ($1, $2, $3, clock_timestamp(), clock_timestamp() + make_interval(secs => $4)) \
         on conflict (work) do update \
             set holder = excluded.holder, holder_name = excluded.holder_name, until = excluded.until, \
                 since = case when l.holder = excluded.holder then l.since else excluded.since end \
             where l.holder = excluded.holder or l.until <= clock_timestamp() or l.until > excluded.until",
    )
    .bind(ALL_WORK)
    .bind(holder)
    .bind(name)
    .bind(lasts.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Gives the lease back, so that another can take it at once.
///
/// # Errors
/// The database cannot be written.
pub async fn release(connection: &mut PgConnection, holder: Uuid) -> Result<(), StorageError> {
    sqlx::query("update background_leases set until = clock_timestamp() where work = $1 and holder = $2")
        .bind(ALL_WORK)
        .bind(holder)
        .execute(connection)
        .await?;
    Ok(())
}

/// Who holds the lease, or held it last; `None` before the first one.
///
/// # Errors
/// The database cannot be read.
pub async fn find(connection: &mut PgConnection) -> Result<Option<Holder>, StorageError> {
    let row = sqlx::query("select holder, holder_name, since, until from background_leases where work = $1")
        .bind(ALL_WORK)
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Holder {
            holder: row.try_get("holder")?,
            name: row.try_get("holder_name")?,
            since: row.try_get("since")?,
            until: row.try_get("until")?,
        })
    })
    .transpose()
}

/// One lease for all of it: no step is heavy enough to be shared out.
const ALL_WORK: &str = "background";
