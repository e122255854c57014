//! The customer that a development service starts with.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::PgConnection;

use super::add_on_purchases::{self, NewPurchase};
use super::customers::{self, NewCustomer};
use super::licenses::{self, NewLicense};
use super::subscriptions::{self, NewSubscription};
use super::term::Moment;
use super::{Circumstances, FulfillmentError};
use crate::domain::catalog::Catalog;
use crate::domain::credential::Credential;
use crate::domain::license::LicenseKind;

/// Sells the catalog's last plan by name for a year, with the add-on that most unit primitives
/// name, for ten instances of each kind. Returns the activation code.
///
/// # Errors
/// The catalog has no plan, the demo customer is there already, or the database fails.
pub async fn sell(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
) -> Result<Credential, FulfillmentError> {
    let (now, catalog) = (circumstances.clock.now(), circumstances.catalog);
    let customer = NewCustomer {
        name: "Demo customer".to_owned(),
        email: None,
        external_ref: Some(EXTERNAL_REF.to_owned()),
    };
    let customer = customers::create(connection, circumstances, customer).await?.after;
    let (starts_at, ends_at) = (Moment::Instant(now), Moment::Instant(in_a_year(now)));
    let plan = catalog.license_types().last().ok_or_else(|| FulfillmentError::conflict(NO_PLAN))?;
    let subscription = NewSubscription {
        customer_id: customer.id,
        license_type: plan.name.clone(),
        starts_at,
        ends_at,
        time_zone: Tz::UTC,
        seats: 25,
        trial: false,
        external_ref: None,
    };
    let subscription = subscriptions::create(connection, circumstances, subscription).await?.after;
    if let Some(add_on) = most_granting_add_on(catalog) {
        let purchase = NewPurchase {
            add_on: catalog.add_ons()[add_on].name.clone(),
            quantity: 25,
            starts_at,
            ends_at,
            external_ref: None,
        };
        add_on_purchases::create(connection, circumstances, subscription.row.id, purchase).await?;
    }
    let license = NewLicense {
        subscription_id: subscription.row.id,
        kind: LicenseKind::Online,
        max_instances: 10,
        legacy_bearer: false,
        external_ref: None,
    };
    Ok(licenses::create(connection, circumstances, license).await?.1)
}

/// The demo shows most with the add-on that grants most.
fn most_granting_add_on(catalog: &Catalog) -> Option<usize> {
    let granted = |add_on: &usize| {
        let primitives = catalog.unit_primitives().iter();
        primitives.filter(|primitive| primitive.add_on_indexes.contains(add_on)).count()
    };
    (0..catalog.add_ons().len()).max_by_key(granted)
}

fn in_a_year(now: DateTime<Utc>) -> DateTime<Utc> {
    now.checked_add_signed(TimeDelta::days(365)).unwrap_or(now)
}

/// By it the demo customer is found again.
pub const EXTERNAL_REF: &str = "demo";
const NO_PLAN: &str = "The catalog names no license type that could be sold.";
