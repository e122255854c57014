//! The ledger as an administrator reads it: which tokens left, for whom, with what in them.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use super::StorageError;
use super::issuances::first_jti_of;
use crate::domain::ids::{InstanceUid, Jti};
use crate::domain::key_ring::Kid;

/// One token that left. What it granted is told; the token itself is kept nowhere.
#[derive(Clone, Debug)]
pub struct IssuedTokenRow {
    pub jti: Jti,
    pub instance_uid: InstanceUid,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub backend: String,
    pub audience: String,
    pub scopes: Vec<String>,
    pub seats: Option<i64>,
    pub kid: String,
    pub catalog_digest: String,
}

/// At most `limit` tokens of an instance that were issued before the token `before`, latest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_of_instance(
    connection: &mut PgConnection,
    uid: InstanceUid,
    before: Option<Jti>,
    limit: i64,
) -> Result<Vec<IssuedTokenRow>, StorageError> {
    let filter = IssuanceFilter { instance_uid: Some(uid), ..IssuanceFilter::default() };
    list(connection, &filter, before, limit).await
}

/// Which tokens are wanted; all of these hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct IssuanceFilter {
    pub jti: Option<Jti>,
    pub instance_uid: Option<InstanceUid>,
    pub kid: Option<Kid>,
    /// At this instant or later.
    pub issued_after: Option<DateTime<Utc>>,
    pub issued_before: Option<DateTime<Utc>>,
}

/// At most `limit` tokens that were issued before the token `before`, latest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &IssuanceFilter,
    before: Option<Jti>,
    limit: i64,
) -> Result<Vec<IssuedTokenRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(
        select!(),
        "from issuances t join instances i on i.number = t.instance_number ",
        named!(),
        "where t.jti < "
    ));
    query.push_bind(before.map_or(Uuid::max(), Jti::as_uuid));
    if let Some(jti) = filter.jti {
        query.push(" and t.jti = ").push_bind(jti.as_uuid());
    }
    if let Some(uid) = filter.instance_uid {
        // By its number, which the planner must see: it could not tell an instance with few tokens from one with
        // many, and would read the ledger from its end until a page is full.
        let number: Option<i64> = sqlx::query_scalar("select number from instances where uid = $1")
            .bind(uid.as_uuid())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(number) = number else { return Ok(Vec::new()) };
        query.push(" and t.instance_number = ").push_bind(number);
    }
    if let Some(kid) = filter.kid {
        let Some(key) = find_term(&mut *connection, kid).await? else { return Ok(Vec::new()) };
        query.push(" and t.key_number = ").push_bind(key.number);
        // A key signs in one stretch of time, so that what it signed needs no index of its own.
        push_time(
            &mut query,
            Some(key.activated_at - CLOCKS_DIFFER),
            key.demoted_at.map(|at| at + CLOCKS_DIFFER),
        );
    }
    push_time(&mut query, filter.issued_after, filter.issued_before);
    if let Some(after) = filter.issued_after {
        query.push(" and t.issued_at >= ").push_bind(after);
    }
    if let Some(before) = filter.issued_before {
        query.push(" and t.issued_at < ").push_bind(before);
    }
    query.push(" order by t.jti desc limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(issued_token).collect()
}

/// When a key signed.
struct Term {
    number: i16,
    activated_at: DateTime<Utc>,
    demoted_at: Option<DateTime<Utc>>,
}

/// `None` for a key that is unknown or never signed.
async fn find_term(connection: &mut PgConnection, kid: Kid) -> Result<Option<Term>, StorageError> {
    let row = sqlx::query(
        "select number, activated_at, coalesce(demoted_at, ended_at) as demoted_at from signing_keys \
         where kid = $1 and activated_at is not null",
    )
    .bind(kid.to_string())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        Ok(Term {
            number: row.try_get("number")?,
            activated_at: row.try_get("activated_at")?,
            demoted_at: row.try_get("demoted_at")?,
        })
    })
    .transpose()
}

/// A range of time as a range of jtis, which finds its partitions and its place in them. A token may carry the
/// second in which its jti was made.
fn push_time(query: &mut QueryBuilder<Postgres>, from: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) {
    if let Some(from) = from {
        query.push(" and t.jti >= ").push_bind(first_jti_of(from - TimeDelta::seconds(1)));
    }
    if let Some(until) = until {
        query.push(" and t.jti < ").push_bind(first_jti_of(until + TimeDelta::seconds(1)));
    }
}

/// Between a key's own times and those of what it signed.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(1);

fn issued_token(row: &PgRow) -> Result<IssuedTokenRow, StorageError> {
    Ok(IssuedTokenRow {
        jti: row.try_get::<Uuid, _>("jti")?.into(),
        instance_uid: row.try_get::<Uuid, _>("uid")?.into(),
        issued_at: row.try_get("issued_at")?,
        expires_at: row.try_get("expires_at")?,
        backend: row.try_get("backend")?,
        audience: row.try_get("audience")?,
        scopes: row.try_get("scopes")?,
        seats: row.try_get("seats")?,
        kid: row.try_get("kid")?,
        catalog_digest: row.try_get("catalog_digest")?,
    })
}

macro_rules! select {
    () => {
        "select t.jti, i.uid, t.issued_at, t.expires_at, g.backend, g.audience, g.scopes, t.seats, k.kid, \
                c.digest as catalog_digest "
    };
}
use select;

/// What the ledger calls by numbers.
macro_rules! named {
    () => {
        "join scope_sets g on g.number = t.scope_set \
         join signing_keys k on k.number = t.key_number \
         join catalogs c on c.number = t.catalog_number "
    };
}
use named;
