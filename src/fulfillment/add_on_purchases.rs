//! Purchases of add-ons: recorded, amended, ended.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::effects::{Affected, Standing};
use super::subscriptions::{find_for_update, noted, refuse_canceled};
use super::term::{Moment, WordedTerm};
use super::{Changed, Circumstances, Expected, FulfillmentError, Patch, WrongValue, refusal};
use crate::domain::catalog::{AddOnName, Catalog};
use crate::domain::ids::{PurchaseId, SubscriptionId};
use crate::storage::add_on_purchases::{self, PurchaseRow};
use crate::storage::fences;
use crate::storage::subscriptions::SubscriptionRow;

/// A purchase to be recorded. Dates are read in the subscription's time zone.
#[derive(Clone, Debug)]
pub struct NewPurchase {
    pub add_on: AddOnName,
    pub quantity: i32,
    pub starts_at: Moment,
    pub ends_at: Moment,
    pub external_ref: Option<String>,
}

/// What is to become of a purchase; `None`: as it is.
#[derive(Clone, Debug, Default)]
pub struct PurchasePatch {
    pub add_on: Option<AddOnName>,
    pub quantity: Option<i32>,
    pub starts_at: Option<Moment>,
    pub ends_at: Option<Moment>,
    pub external_ref: Patch<String>,
}

/// Records a purchase.
///
/// # Errors
/// Its subscription is unknown or canceled, its add-on is not in the catalog, its term is none, or its
/// `external_ref` is another's.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    subscription: SubscriptionId,
    new: NewPurchase,
) -> Result<Changed<PurchaseRow>, FulfillmentError> {
    claim_external_ref(connection, new.external_ref.as_deref(), None).await?;
    let subscription = find_for_update(connection, subscription, &Expected::Any).await?;
    refuse_canceled(&subscription)?;
    let mut wrong: Vec<_> = unknown_add_on(circumstances.catalog, &new.add_on).into_iter().collect();
    let worded = noted(WordedTerm::new(new.starts_at, new.ends_at, subscription.time_zone), &mut wrong);
    let Some(worded) = worded.filter(|_| wrong.is_empty()) else {
        return Err(FulfillmentError::Invalid(wrong));
    };
    let now = circumstances.date(connection).await?;
    let row = PurchaseRow {
        id: PurchaseId::generate(now),
        subscription_id: subscription.id,
        add_on: new.add_on,
        quantity: new.quantity,
        term: worded.term,
        starts_on: worded.starts_on,
        ends_on: worded.ends_on,
        ended_at: None,
        external_ref: new.external_ref,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    let standing = Standing::read(connection, Affected::Subscription(subscription.id)).await?;
    add_on_purchases::insert(connection, &row).await?;
    let effects = standing.effects(connection, circumstances, now).await?;
    Ok(Changed { at: now, before: None, after: row, effects })
}

/// Amends a purchase.
///
/// # Errors
/// It is unknown, at another revision, or ended; or as for [`create`].
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    (subscription, id): (SubscriptionId, PurchaseId),
    expected: &Expected,
    patch: PurchasePatch,
) -> Result<Changed<PurchaseRow>, FulfillmentError> {
    // It may shorten the term or name a lesser add-on.
    fences::hold_mints_off(connection).await?;
    if let Patch::Replace(external_ref) = &patch.external_ref {
        claim_external_ref(connection, Some(external_ref), Some(id)).await?;
    }
    let (subscription, before) = find(connection, subscription, id, expected).await?;
    refuse_canceled(&subscription)?;
    refuse_ended(&before)?;
    let mut wrong = Vec::new();
    if let Some(add_on) = &patch.add_on {
        wrong.extend(unknown_add_on(circumstances.catalog, add_on));
    }
    let mut row = before.clone();
    if patch.starts_at.is_some() || patch.ends_at.is_some() {
        let was = WordedTerm { term: before.term, starts_on: before.starts_on, ends_on: before.ends_on };
        let starts_at = patch.starts_at.unwrap_or_else(|| was.starts());
        let ends_at = patch.ends_at.unwrap_or_else(|| was.ends());
        if let Some(worded) = noted(WordedTerm::new(starts_at, ends_at, subscription.time_zone), &mut wrong) {
            row.term = worded.term;
            row.starts_on = worded.starts_on;
            row.ends_on = worded.ends_on;
        }
    }
    refusal::refuse_wrong(wrong)?;
    row.add_on = patch.add_on.unwrap_or(row.add_on);
    row.quantity = patch.quantity.unwrap_or(row.quantity);
    patch.external_ref.apply(&mut row.external_ref);
    let now = circumstances.date(connection).await?;
    update(connection, circumstances, before, row, now).await
}

/// Ends a purchase now, and remembers it.
///
/// # Errors
/// It is unknown, at another revision, or ended already.
pub async fn end(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    (subscription, id): (SubscriptionId, PurchaseId),
    expected: &Expected,
) -> Result<Changed<PurchaseRow>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let (_, before) = find(connection, subscription, id, expected).await?;
    refuse_ended(&before)?;
    let now = circumstances.date(connection).await?;
    let row = PurchaseRow { ended_at: Some(now), ..before.clone() };
    update(connection, circumstances, before, row, now).await
}

/// The purchase and its subscription, both held until the transaction ends: changes to what one
/// subscription grants queue.
async fn find(
    connection: &mut PgConnection,
    subscription: SubscriptionId,
    id: PurchaseId,
    expected: &Expected,
) -> Result<(SubscriptionRow, PurchaseRow), FulfillmentError> {
    let subscription = find_for_update(connection, subscription, &Expected::Any).await?;
    let found = add_on_purchases::find_for_update(connection, subscription.id, id).await?;
    let row = found.ok_or(FulfillmentError::NotFound("purchase"))?;
    expected.check(row.revision)?;
    Ok((subscription, row))
}

async fn update(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    before: PurchaseRow,
    row: PurchaseRow,
    now: DateTime<Utc>,
) -> Result<Changed<PurchaseRow>, FulfillmentError> {
    let after = PurchaseRow { revision: before.revision + 1, updated_at: now, ..row };
    let standing = Standing::read(connection, Affected::Subscription(after.subscription_id)).await?;
    add_on_purchases::update(connection, &after).await?;
    let effects = standing.effects(connection, circumstances, now).await?;
    Ok(Changed { at: now, before: Some(before), after, effects })
}

fn refuse_ended(row: &PurchaseRow) -> Result<(), FulfillmentError> {
    match row.ended_at {
        Some(_) => Err(FulfillmentError::conflict("The purchase was ended, which is final.")),
        None => Ok(()),
    }
}

fn unknown_add_on(catalog: &Catalog, name: &AddOnName) -> Option<WrongValue> {
    let known = catalog.add_ons().iter().map(|add_on| add_on.name.as_str());
    catalog.add_on(name).is_none().then(|| refusal::unknown_name("add_on", name.as_str(), known))
}

async fn claim_external_ref(
    connection: &mut PgConnection,
    external_ref: Option<&str>,
    own: Option<PurchaseId>,
) -> Result<(), FulfillmentError> {
    let Some(external_ref) = external_ref else { return Ok(()) };
    fences::lock_external_ref(connection, "add_on_purchase", external_ref).await?;
    match add_on_purchases::find_id_by_external_ref(connection, external_ref).await? {
        Some(existing) if Some(existing) != own => Err(refusal::taken("purchase", existing)),
        Some(_) | None => Ok(()),
    }
}
