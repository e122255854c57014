//! Records that come from another system: each is made once, and told as unchanged ever after.
//!
//! A record is found again by its `external_ref`. It is the same where it says what the new one says, now or
//! when it was first recorded: what was amended since is left as it is. Anything else is a conflict.

use sqlx::PgConnection;

use super::add_on_purchases::{self, NewPurchase};
use super::customers::{self, NewCustomer};
use super::licenses::{self, NewLicense};
use super::subscriptions::{self, NewSubscription, Subscription};
use super::term::{Moment, WordedTerm};
use super::{Changed, Circumstances, FulfillmentError, refusal};
use crate::domain::credential::Credential;
use crate::domain::ids::SubscriptionId;
use crate::storage::add_on_purchases::{self as purchase_rows, PurchaseRow};
use crate::storage::customers::{self as customer_rows, CustomerRow};
use crate::storage::fences;
use crate::storage::licenses::{self as license_rows, LicenseRow};
use crate::storage::subscriptions::{self as subscription_rows, SubscriptionRow};

/// What became of a record.
#[derive(Debug)]
pub enum Imported<R, C = Changed<R>> {
    Created(C),
    /// It was recorded before.
    Unchanged(R),
}

/// Records a customer, unless it is recorded already.
///
/// # Errors
/// As [`customers::create`]; another customer has the `external_ref`.
pub async fn customer(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    external_ref: &str,
    new: NewCustomer,
) -> Result<Imported<CustomerRow>, FulfillmentError> {
    fences::lock_external_ref(connection, "customer", external_ref).await?;
    let Some(id) = customer_rows::find_id_by_external_ref(connection, external_ref).await? else {
        return Ok(Imported::Created(customers::create(connection, circumstances, new).await?));
    };
    let says = |row: &CustomerRow| row.name == new.name && row.email == new.email;
    let found = customer_rows::find(connection, id).await?;
    let is_same = found.as_ref().is_some_and(says)
        || customer_rows::find_first_revision(connection, id).await?.as_ref().is_some_and(says);
    unchanged("customer", id, found.filter(|_| is_same))
}

/// Records a subscription, unless it is recorded already.
///
/// # Errors
/// As [`subscriptions::create`]; another subscription has the `external_ref`.
pub async fn subscription(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    external_ref: &str,
    new: NewSubscription,
) -> Result<Imported<SubscriptionRow, Changed<Subscription>>, FulfillmentError> {
    fences::lock_external_ref(connection, "subscription", external_ref).await?;
    let Some(id) = subscription_rows::find_id_by_external_ref(connection, external_ref).await? else {
        return Ok(Imported::Created(subscriptions::create(connection, circumstances, new).await?));
    };
    let says = |row: &SubscriptionRow| {
        row.customer_id == new.customer_id
            && row.license_type == new.license_type
            && row.time_zone == new.time_zone
            && (row.seats, row.trial) == (new.seats, new.trial)
            && WordedTerm { term: row.term, starts_on: row.starts_on, ends_on: row.ends_on }.is_worded(
                new.starts_at,
                new.ends_at,
                row.time_zone,
            )
    };
    let found = subscription_rows::find(connection, id).await?;
    let is_same = found.as_ref().is_some_and(says)
        || subscription_rows::find_first_revision(connection, id).await?.as_ref().is_some_and(says);
    unchanged("subscription", id, found.filter(|_| is_same))
}

/// Records a purchase, unless it is recorded already.
///
/// # Errors
/// As [`add_on_purchases::create`]; another purchase has the `external_ref`.
pub async fn purchase(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    external_ref: &str,
    subscription: SubscriptionId,
    new: NewPurchase,
) -> Result<Imported<PurchaseRow>, FulfillmentError> {
    fences::lock_external_ref(connection, "add_on_purchase", external_ref).await?;
    let Some(id) = purchase_rows::find_id_by_external_ref(connection, external_ref).await? else {
        let made = add_on_purchases::create(connection, circumstances, subscription, new).await?;
        return Ok(Imported::Created(made));
    };
    let time_zone = subscription_rows::find(connection, subscription).await?.map(|row| row.time_zone);
    let says = |row: &PurchaseRow| {
        row.subscription_id == subscription
            && row.add_on == new.add_on
            && row.quantity == new.quantity
            && time_zone.is_some_and(|time_zone| {
                WordedTerm { term: row.term, starts_on: row.starts_on, ends_on: row.ends_on }.is_worded(
                    new.starts_at,
                    new.ends_at,
                    time_zone,
                )
            })
    };
    let found = purchase_rows::find_anywhere(connection, id).await?;
    let is_same = found.as_ref().is_some_and(says)
        || purchase_rows::find_first_revision(connection, id).await?.as_ref().is_some_and(says);
    unchanged("purchase", id, found.filter(|_| is_same))
}

/// Makes a license with its activation code, unless it was made already: its code is not told again.
///
/// # Errors
/// As [`licenses::create`]; another license has the `external_ref`.
pub async fn license(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    external_ref: &str,
    new: NewLicense,
) -> Result<Imported<LicenseRow, (Changed<LicenseRow>, Credential)>, FulfillmentError> {
    fences::lock_external_ref(connection, "license", external_ref).await?;
    let Some(id) = license_rows::find_id_by_external_ref(connection, external_ref).await? else {
        return Ok(Imported::Created(licenses::create(connection, circumstances, new).await?));
    };
    let says = |row: &LicenseRow| {
        row.subscription_id == new.subscription_id
            && row.kind == new.kind
            && row.max_instances == new.max_instances
            && row.legacy_bearer == new.legacy_bearer
    };
    let found = license_rows::find(connection, id).await?;
    let is_same = found.as_ref().is_some_and(says)
        || license_rows::find_first_revision(connection, id).await?.as_ref().is_some_and(says);
    unchanged("license", id, found.filter(|_| is_same))
}

fn unchanged<R, C>(
    kind: &str,
    id: impl ToString,
    same: Option<R>,
) -> Result<Imported<R, C>, FulfillmentError> {
    same.map(Imported::Unchanged).ok_or_else(|| refusal::taken_by_another(kind, id))
}

impl WordedTerm {
    /// Whether a contract words it so.
    fn is_worded(self, starts_at: Moment, ends_at: Moment, time_zone: chrono_tz::Tz) -> bool {
        Self::new(starts_at, ends_at, time_zone).is_ok_and(|worded| worded == self)
    }
}
