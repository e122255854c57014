//! Terms, plans and seats, with the timeline of their conditions.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one, decode};
use crate::domain::catalog::LicenseTypeName;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::subscription::{Condition, SubscriptionState, Term};

/// One subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscriptionRow {
    pub id: SubscriptionId,
    pub customer_id: CustomerId,
    pub license_type: LicenseTypeName,
    pub term: Term,
    /// The same as the contract words it, where it was made in dates.
    pub starts_on: Option<NaiveDate>,
    pub ends_on: Option<NaiveDate>,
    /// In which dates are read.
    pub time_zone: Tz,
    pub seats: i32,
    pub trial: bool,
    pub condition: Condition,
    pub condition_since: DateTime<Utc>,
    pub condition_reason: Option<String>,
    pub external_ref: Option<String>,
    pub revision: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// One entry of a subscription's timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConditionRow {
    pub subscription_id: SubscriptionId,
    pub condition: Condition,
    pub since: DateTime<Utc>,
    pub reason: Option<String>,
}

/// Which subscriptions a list is about; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    pub customer_id: Option<CustomerId>,
    pub external_ref: Option<String>,
    pub condition: Option<Condition>,
    pub state: Option<StateFilter>,
    pub license_type: Option<LicenseTypeName>,
    pub expires_before: Option<DateTime<Utc>>,
}

/// What subscriptions come to at an instant, by their condition and their term.
#[derive(Clone, Copy, Debug)]
pub struct StateFilter {
    pub state: SubscriptionState,
    pub at: DateTime<Utc>,
    /// How long access goes on after a paid term.
    pub grace: TimeDelta,
}

impl StateFilter {
    fn push(self, query: &mut QueryBuilder<Postgres>) {
        let Self { state, at, grace } = self;
        let condition = match state {
            SubscriptionState::Canceled => Condition::Canceled,
            SubscriptionState::Suspended => Condition::Suspended,
            SubscriptionState::Active
            | SubscriptionState::Expired
            | SubscriptionState::InGrace
            | SubscriptionState::NotStarted => Condition::Active,
        };
        query.push(" and condition = ").push_bind(condition.as_str());
        match state {
            SubscriptionState::Active => {
                query.push(" and starts_at <= ").push_bind(at).push(" and ends_at > ").push_bind(at);
            }
            SubscriptionState::Canceled | SubscriptionState::Suspended => {}
            SubscriptionState::Expired => {
                query.push(" and ends_at <= ").push_bind(at);
                query.push(" and (trial or ends_at <= ").push_bind(at - grace).push(")");
            }
            SubscriptionState::InGrace => {
                query.push(" and not trial and ends_at <= ").push_bind(at);
                query.push(" and ends_at > ").push_bind(at - grace);
            }
            SubscriptionState::NotStarted => _ = query.push(" and starts_at > ").push_bind(at),
        }
    }
}

/// The subscription of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, StorageError> {
    find_by(connection, concat!(select!(), "where id = $1"), id).await
}

/// A subscription that starts later, as older instances are told of it.
#[derive(Clone, Debug)]
pub struct FutureSubscriptionRow {
    /// The customer's name.
    pub customer: String,
    pub email: Option<String>,
    pub license_type: String,
    pub starts_at: DateTime<Utc>,
    pub ends_at: DateTime<Utc>,
    pub seats: i32,
}

/// The subscriptions of the customer of this one that start after `now` and were not canceled, the next one first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_future_of_customer_of(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    now: DateTime<Utc>,
) -> Result<Vec<FutureSubscriptionRow>, StorageError> {
    let rows = sqlx::query(
        "select c.name, c.email, s.license_type, s.starts_at, s.ends_at, s.seats \
         from subscriptions mine join customers c on c.id = mine.customer_id \
         join subscriptions s on s.customer_id = c.id \
         where mine.id = $1 and s.starts_at > $2 and s.condition <> 'canceled' order by s.starts_at, s.id limit 100",
    )
    .bind(subscription.as_uuid())
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(FutureSubscriptionRow {
                customer: row.try_get("name")?,
                email: row.try_get("email")?,
                license_type: row.try_get("license_type")?,
                starts_at: row.try_get("starts_at")?,
                ends_at: row.try_get("ends_at")?,
                seats: row.try_get("seats")?,
            })
        })
        .collect()
}

/// The same, and holds it until the transaction ends.
///
/// # Errors
/// The database cannot be read.
pub async fn find_for_update(
    connection: &mut PgConnection,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, StorageError> {
    find_by(connection, concat!(select!(), "where id = $1 for no key update"), id).await
}

/// The subscription as it was first recorded.
///
/// # Errors
/// The database cannot be read.
pub async fn find_first_revision(
    connection: &mut PgConnection,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, StorageError> {
    let row = sqlx::query(concat!(
        "with subscriptions as (select (jsonb_populate_record(null::public.subscriptions, record)).* from record_revisions \
                          where kind = 'subscriptions' and id = $1 and revision = 1) ",
        select!()
    ))
    .bind(id.as_uuid())
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(subscription).transpose()
}

/// Whose `external_ref` this is.
///
/// # Errors
/// The database cannot be read.
pub async fn find_id_by_external_ref(
    connection: &mut PgConnection,
    external_ref: &str,
) -> Result<Option<SubscriptionId>, StorageError> {
    let id: Option<Uuid> = sqlx::query_scalar("select id from subscriptions where external_ref = $1")
        .bind(external_ref)
        .fetch_optional(connection)
        .await?;
    Ok(id.map(SubscriptionId::from))
}

/// At most `limit` subscriptions after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &SubscriptionFilter,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<SubscriptionRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!(select!(), "where id > "));
    query.push_bind(after.map_or(Uuid::nil(), SubscriptionId::as_uuid));
    if let Some(customer) = filter.customer_id {
        query.push(" and customer_id = ").push_bind(customer.as_uuid());
    }
    if let Some(external_ref) = &filter.external_ref {
        query.push(" and external_ref = ").push_bind(external_ref);
    }
    if let Some(condition) = filter.condition {
        query.push(" and condition = ").push_bind(condition.as_str());
    }
    if let Some(state) = filter.state {
        state.push(&mut query);
    }
    if let Some(license_type) = &filter.license_type {
        query.push(" and license_type = ").push_bind(license_type.as_str());
    }
    if let Some(instant) = filter.expires_before {
        query.push(" and ends_at < ").push_bind(instant);
    }
    query.push(" order by id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(subscription).collect()
}

/// The timelines of these subscriptions, each oldest first.
///
/// # Errors
/// The database cannot be read.
pub async fn list_conditions(
    connection: &mut PgConnection,
    ids: &[SubscriptionId],
) -> Result<Vec<ConditionRow>, StorageError> {
    let rows = sqlx::query(
        "select subscription_id, condition, since, reason from subscription_conditions \
         where subscription_id = any($1) order by subscription_id, sequence",
    )
    .bind(ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ConditionRow {
                subscription_id: row.try_get::<Uuid, _>("subscription_id")?.into(),
                condition: decode(row.try_get("condition")?)?,
                since: row.try_get("since")?,
                reason: row.try_get("reason")?,
            })
        })
        .collect()
}

/// Records a new subscription; its timeline begins with its condition.
///
/// # Errors
/// The database refuses it (`subscriptions_external_ref_key`), or cannot be reached.
pub async fn insert(connection: &mut PgConnection, row: &SubscriptionRow) -> Result<(), StorageError> {
    sqlx::query(
        "insert into subscriptions (id, customer_id, license_type, starts_at, ends_at, starts_on, ends_on, time_zone, \
                                    seats, trial, condition, condition_since, condition_reason, external_ref, \
                                    revision, created_at, updated_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(row.id.as_uuid())
    .bind(row.customer_id.as_uuid())
    .bind(row.license_type.as_str())
    .bind(row.term.starts_at())
    .bind(row.term.ends_at())
    .bind(row.starts_on)
    .bind(row.ends_on)
    .bind(row.time_zone.name())
    .bind(row.seats)
    .bind(row.trial)
    .bind(row.condition.as_str())
    .bind(row.condition_since)
    .bind(&row.condition_reason)
    .bind(&row.external_ref)
    .bind(row.revision)
    .bind(row.created_at)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the next revision of a subscription; a changed condition continues the timeline.
///
/// # Errors
/// The database refuses it (`subscriptions_external_ref_key`, `subscriptions_canceled_is_final`), another
/// revision came between, or it cannot be reached.
pub async fn update(connection: &mut PgConnection, row: &SubscriptionRow) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update subscriptions set license_type = $3, starts_at = $4, ends_at = $5, starts_on = $6, ends_on = $7, \
                seats = $8, trial = $9, condition = $10, condition_since = $11, condition_reason = $12, \
                external_ref = $13, revision = $2, updated_at = $14 \
         where id = $1 and revision = $2 - 1",
    )
    .bind(row.id.as_uuid())
    .bind(row.revision)
    .bind(row.license_type.as_str())
    .bind(row.term.starts_at())
    .bind(row.term.ends_at())
    .bind(row.starts_on)
    .bind(row.ends_on)
    .bind(row.seats)
    .bind(row.trial)
    .bind(row.condition.as_str())
    .bind(row.condition_since)
    .bind(&row.condition_reason)
    .bind(&row.external_ref)
    .bind(row.updated_at)
    .execute(connection)
    .await?;
    changed_one(&done)
}

async fn find_by(
    connection: &mut PgConnection,
    statement: &'static str,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, StorageError> {
    let row = sqlx::query(statement).bind(id.as_uuid()).fetch_optional(connection).await?;
    row.as_ref().map(subscription).transpose()
}

fn subscription(row: &PgRow) -> Result<SubscriptionRow, StorageError> {
    let term = Term::new(row.try_get("starts_at")?, row.try_get("ends_at")?);
    Ok(SubscriptionRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        customer_id: row.try_get::<Uuid, _>("customer_id")?.into(),
        license_type: decode(row.try_get("license_type")?)?,
        term: term.ok_or_else(|| StorageError::corrupt("a term that ends before it starts"))?,
        starts_on: row.try_get("starts_on")?,
        ends_on: row.try_get("ends_on")?,
        time_zone: decode(row.try_get("time_zone")?)?,
        seats: row.try_get("seats")?,
        trial: row.try_get("trial")?,
        condition: decode(row.try_get("condition")?)?,
        condition_since: row.try_get("condition_since")?,
        condition_reason: row.try_get("condition_reason")?,
        external_ref: row.try_get("external_ref")?,
        revision: row.try_get("revision")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

macro_rules! select {
    () => {
        "select id, customer_id, license_type, starts_at, ends_at, starts_on, ends_on, time_zone, seats, trial, \
                condition, condition_since, condition_reason, external_ref, revision, created_at, updated_at \
         from subscriptions "
    };
}
use select;
