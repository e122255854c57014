//! Subscriptions: recorded, amended, suspended, resumed, renewed, canceled.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;

use super::effects::{Affected, Standing};
use super::term::{Moment, WordedTerm};
use super::{Changed, Circumstances, Expected, FulfillmentError, Patch, WrongValue, refusal};
use crate::domain::catalog::{Catalog, LicenseTypeName};
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::subscription::{Condition, SubscriptionState};
use crate::storage::subscriptions::{self, ConditionRow, SubscriptionFilter, SubscriptionRow};
use crate::storage::{StorageError, customers, fences};

/// A subscription with its timeline, oldest first.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub row: SubscriptionRow,
    pub conditions: Vec<ConditionRow>,
}

impl Subscription {
    /// What it comes to at `at`. `grace` is how long access goes on after a paid term.
    #[must_use]
    pub fn state_at(&self, at: DateTime<Utc>, grace: TimeDelta) -> SubscriptionState {
        let grace = if self.row.trial { TimeDelta::zero() } else { grace };
        match self.row.condition {
            Condition::Canceled => SubscriptionState::Canceled,
            Condition::Suspended => SubscriptionState::Suspended,
            Condition::Active if at < self.row.term.starts_at() => SubscriptionState::NotStarted,
            Condition::Active if at < self.row.term.ends_at() => SubscriptionState::Active,
            Condition::Active if at - grace < self.row.term.ends_at() => SubscriptionState::InGrace,
            Condition::Active => SubscriptionState::Expired,
        }
    }
}

/// A subscription to be recorded.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub customer_id: CustomerId,
    pub license_type: LicenseTypeName,
    pub starts_at: Moment,
    pub ends_at: Moment,
    pub time_zone: Tz,
    pub seats: i32,
    pub trial: bool,
    pub external_ref: Option<String>,
}

/// What is to become of a subscription; `None`: as it is.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionPatch {
    pub license_type: Option<LicenseTypeName>,
    pub starts_at: Option<Moment>,
    pub ends_at: Option<Moment>,
    pub seats: Option<i32>,
    pub trial: Option<bool>,
    pub external_ref: Patch<String>,
}

/// The subscription of this id, with its timeline.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    id: SubscriptionId,
) -> Result<Option<Subscription>, StorageError> {
    let Some(row) = subscriptions::find(connection, id).await? else { return Ok(None) };
    Ok(Some(with_conditions(connection, row).await?))
}

/// At most `limit` subscriptions after `after` with their timelines, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    filter: &SubscriptionFilter,
    after: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Subscription>, StorageError> {
    let rows = subscriptions::list(connection, filter, after, limit).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut conditions = subscriptions::list_conditions(connection, &ids).await?.into_iter().peekable();
    // Both lists are in the order of the ids.
    let with_its_own = |row: SubscriptionRow| {
        let own = std::iter::from_fn(|| conditions.next_if(|entry| entry.subscription_id == row.id));
        Subscription { conditions: own.collect(), row }
    };
    Ok(rows.into_iter().map(with_its_own).collect())
}

/// Records a subscription.
///
/// # Errors
/// Its customer is unknown or archived, its plan is not in the catalog, its term is none, or its
/// `external_ref` is another's.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    new: NewSubscription,
) -> Result<Changed<Subscription>, FulfillmentError> {
    claim_external_ref(connection, new.external_ref.as_deref(), None).await?;
    let customer = customers::find_for_update(connection, new.customer_id).await?;
    let mut wrong = Vec::new();
    match customer {
        None => wrong.push(unknown_customer(new.customer_id)),
        Some(customer) if customer.archived_at.is_some() => {
            return Err(FulfillmentError::conflict(
                "The customer is archived and takes no new subscriptions.",
            ));
        }
        Some(_) => {}
    }
    wrong.extend(unknown_license_type(circumstances.catalog, &new.license_type));
    let worded = noted(WordedTerm::new(new.starts_at, new.ends_at, new.time_zone), &mut wrong);
    let Some(worded) = worded.filter(|_| wrong.is_empty()) else {
        return Err(FulfillmentError::Invalid(wrong));
    };
    let now = circumstances.date(connection).await?;
    let row = SubscriptionRow {
        id: SubscriptionId::generate(now),
        customer_id: new.customer_id,
        license_type: new.license_type,
        term: worded.term,
        starts_on: worded.starts_on,
        ends_on: worded.ends_on,
        time_zone: new.time_zone,
        seats: new.seats,
        trial: new.trial,
        condition: Condition::Active,
        condition_since: now,
        condition_reason: None,
        external_ref: new.external_ref,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    subscriptions::insert(connection, &row).await?;
    let after = with_conditions(connection, row).await?;
    Ok(Changed::without_effects(now, None, after))
}

/// Amends a subscription.
///
/// # Errors
/// It is unknown, at another revision, canceled; or as for [`create`].
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: SubscriptionId,
    expected: &Expected,
    patch: SubscriptionPatch,
) -> Result<Changed<Subscription>, FulfillmentError> {
    // It may shorten the term or lower the plan.
    fences::hold_mints_off(connection).await?;
    if let Patch::Replace(external_ref) = &patch.external_ref {
        claim_external_ref(connection, Some(external_ref), Some(id)).await?;
    }
    let before = find_for_update(connection, id, expected).await?;
    refuse_canceled(&before)?;
    let mut wrong = Vec::new();
    if let Some(license_type) = &patch.license_type {
        wrong.extend(unknown_license_type(circumstances.catalog, license_type));
    }
    let mut row = before.clone();
    if patch.starts_at.is_some() || patch.ends_at.is_some() {
        let was = worded(&before);
        let starts_at = patch.starts_at.unwrap_or_else(|| was.starts());
        let ends_at = patch.ends_at.unwrap_or_else(|| was.ends());
        if let Some(worded) = noted(WordedTerm::new(starts_at, ends_at, before.time_zone), &mut wrong) {
            set_term(&mut row, worded);
        }
    }
    refusal::refuse_wrong(wrong)?;
    let now = circumstances.date(connection).await?;
    row.license_type = patch.license_type.unwrap_or(row.license_type);
    row.seats = patch.seats.unwrap_or(row.seats);
    row.trial = patch.trial.unwrap_or(row.trial);
    patch.external_ref.apply(&mut row.external_ref);
    update(connection, circumstances, before, row, now).await
}

/// Suspends a subscription: nothing under it gets a token until it is resumed.
///
/// # Errors
/// It is unknown, at another revision, or not active.
pub async fn suspend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: SubscriptionId,
    expected: &Expected,
    reason: String,
) -> Result<Changed<Subscription>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let before = find_for_update(connection, id, expected).await?;
    refuse_canceled(&before)?;
    if before.condition == Condition::Suspended {
        return Err(FulfillmentError::conflict("The subscription is suspended already."));
    }
    enter(connection, circumstances, before, Condition::Suspended, reason).await
}

/// Resumes a suspended subscription.
///
/// # Errors
/// It is unknown, at another revision, or not suspended.
pub async fn resume(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: SubscriptionId,
    expected: &Expected,
    reason: String,
) -> Result<Changed<Subscription>, FulfillmentError> {
    let before = find_for_update(connection, id, expected).await?;
    refuse_canceled(&before)?;
    if before.condition == Condition::Active {
        return Err(FulfillmentError::conflict("The subscription is not suspended."));
    }
    enter(connection, circumstances, before, Condition::Active, reason).await
}

/// Cancels a subscription, at once and for good.
///
/// # Errors
/// It is unknown, at another revision, or canceled already.
pub async fn cancel(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: SubscriptionId,
    expected: &Expected,
    reason: String,
) -> Result<Changed<Subscription>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let before = find_for_update(connection, id, expected).await?;
    refuse_canceled(&before)?;
    enter(connection, circumstances, before, Condition::Canceled, reason).await
}

/// Makes the term of a subscription longer. Purchases that ran to the end before keep the grace that they had there.
///
/// # Errors
/// It is unknown, at another revision, canceled, or does not end before `ends_at`.
pub async fn renew(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: SubscriptionId,
    expected: &Expected,
    ends_at: Moment,
) -> Result<Changed<Subscription>, FulfillmentError> {
    let before = find_for_update(connection, id, expected).await?;
    refuse_canceled(&before)?;
    if ends_at.instant(before.time_zone) <= before.term.ends_at() {
        let detail = "must be later than the present end; a term is made shorter with PATCH".to_owned();
        let wrong = WrongValue { member: "ends_at", code: "out_of_range", detail };
        return Err(FulfillmentError::Invalid(vec![wrong]));
    }
    let mut row = before.clone();
    let worded = WordedTerm::new(worded(&before).starts(), ends_at, before.time_zone);
    set_term(&mut row, worded.map_err(|wrong| FulfillmentError::Invalid(vec![wrong]))?);
    let now = circumstances.date(connection).await?;
    update(connection, circumstances, before, row, now).await
}

/// The subscription, held until the transaction ends.
pub(super) async fn find_for_update(
    connection: &mut PgConnection,
    id: SubscriptionId,
    expected: &Expected,
) -> Result<SubscriptionRow, FulfillmentError> {
    let found = subscriptions::find_for_update(connection, id).await?;
    let row = found.ok_or(FulfillmentError::NotFound("subscription"))?;
    expected.check(row.revision)?;
    Ok(row)
}

/// Nothing more is done to a canceled subscription.
pub(super) fn refuse_canceled(row: &SubscriptionRow) -> Result<(), FulfillmentError> {
    match row.condition {
        Condition::Canceled => {
            Err(FulfillmentError::conflict("The subscription is canceled, which is final."))
        }
        Condition::Active | Condition::Suspended => Ok(()),
    }
}

async fn enter(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    before: SubscriptionRow,
    condition: Condition,
    reason: String,
) -> Result<Changed<Subscription>, FulfillmentError> {
    let now = circumstances.date(connection).await?;
    let row =
        SubscriptionRow { condition, condition_since: now, condition_reason: Some(reason), ..before.clone() };
    update(connection, circumstances, before, row, now).await
}

async fn update(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    before: SubscriptionRow,
    row: SubscriptionRow,
    now: DateTime<Utc>,
) -> Result<Changed<Subscription>, FulfillmentError> {
    let row = SubscriptionRow { revision: before.revision + 1, updated_at: now, ..row };
    let standing = Standing::read(connection, Affected::Subscription(row.id)).await?;
    let before = with_conditions(connection, before).await?;
    subscriptions::update(connection, &row).await?;
    let after = with_conditions(connection, row).await?;
    let effects = standing.effects(connection, circumstances, now).await?;
    Ok(Changed { at: now, before: Some(before), after, effects })
}

async fn with_conditions(
    connection: &mut PgConnection,
    row: SubscriptionRow,
) -> Result<Subscription, StorageError> {
    let conditions = subscriptions::list_conditions(connection, &[row.id]).await?;
    Ok(Subscription { row, conditions })
}

fn worded(row: &SubscriptionRow) -> WordedTerm {
    WordedTerm { term: row.term, starts_on: row.starts_on, ends_on: row.ends_on }
}

fn set_term(row: &mut SubscriptionRow, worded: WordedTerm) {
    row.term = worded.term;
    row.starts_on = worded.starts_on;
    row.ends_on = worded.ends_on;
}

/// The value, or a note of what is wrong with it.
pub(super) fn noted<T>(outcome: Result<T, WrongValue>, wrong: &mut Vec<WrongValue>) -> Option<T> {
    outcome.map_err(|value| wrong.push(value)).ok()
}

fn unknown_license_type(catalog: &Catalog, name: &LicenseTypeName) -> Option<WrongValue> {
    let known = catalog.license_types().iter().map(|license_type| license_type.name.as_str());
    catalog.license_type(name).is_none().then(|| refusal::unknown_name("license_type", name.as_str(), known))
}

fn unknown_customer(id: CustomerId) -> WrongValue {
    WrongValue { member: "customer_id", code: "unknown", detail: format!("{id} is no customer") }
}

async fn claim_external_ref(
    connection: &mut PgConnection,
    external_ref: Option<&str>,
    own: Option<SubscriptionId>,
) -> Result<(), FulfillmentError> {
    let Some(external_ref) = external_ref else { return Ok(()) };
    fences::lock_external_ref(connection, "subscription", external_ref).await?;
    match subscriptions::find_id_by_external_ref(connection, external_ref).await? {
        Some(existing) if Some(existing) != own => Err(refusal::taken("subscription", existing)),
        Some(_) | None => Ok(()),
    }
}
