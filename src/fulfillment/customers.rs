//! Customers: recorded, amended, archived.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Changed, Circumstances, Expected, FulfillmentError, Patch, refusal};
use crate::domain::ids::CustomerId;
use crate::storage::customers::{self, CustomerRow};
use crate::storage::fences;

/// A customer to be recorded.
#[derive(Clone, Debug)]
pub struct NewCustomer {
    pub name: String,
    pub email: Option<String>,
    pub external_ref: Option<String>,
}

/// What is to become of a customer.
#[derive(Clone, Debug, Default)]
pub struct CustomerPatch {
    /// `None`: as it is.
    pub name: Option<String>,
    pub email: Patch<String>,
    pub external_ref: Patch<String>,
}

/// Records a customer.
///
/// # Errors
/// The `external_ref` is another's.
pub async fn create(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    new: NewCustomer,
) -> Result<Changed<CustomerRow>, FulfillmentError> {
    claim_external_ref(connection, new.external_ref.as_deref(), None).await?;
    let now = circumstances.date(connection).await?;
    let row = CustomerRow {
        id: CustomerId::generate(now),
        name: new.name,
        email: new.email,
        external_ref: new.external_ref,
        archived_at: None,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    customers::insert(connection, &row).await?;
    Ok(Changed::without_effects(now, None, row))
}

/// Amends a customer.
///
/// # Errors
/// It is unknown, at another revision, or the `external_ref` is another's.
pub async fn amend(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: CustomerId,
    expected: &Expected,
    patch: CustomerPatch,
) -> Result<Changed<CustomerRow>, FulfillmentError> {
    if let Patch::Replace(external_ref) = &patch.external_ref {
        claim_external_ref(connection, Some(external_ref), Some(id)).await?;
    }
    let before = find(connection, id, expected).await?;
    let mut after = next_revision(&before, circumstances.date(connection).await?);
    if let Some(name) = patch.name {
        after.name = name;
    }
    patch.email.apply(&mut after.email);
    patch.external_ref.apply(&mut after.external_ref);
    update(connection, before, after).await
}

/// Archives a customer: it takes no new subscriptions. What it has goes on.
///
/// # Errors
/// It is unknown, at another revision, or archived already.
pub async fn archive(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: CustomerId,
    expected: &Expected,
) -> Result<Changed<CustomerRow>, FulfillmentError> {
    let before = find(connection, id, expected).await?;
    if before.archived_at.is_some() {
        return Err(FulfillmentError::conflict("The customer is archived already."));
    }
    let now = circumstances.date(connection).await?;
    let after = CustomerRow { archived_at: Some(now), ..next_revision(&before, now) };
    update(connection, before, after).await
}

async fn find(
    connection: &mut PgConnection,
    id: CustomerId,
    expected: &Expected,
) -> Result<CustomerRow, FulfillmentError> {
    let found = customers::find_for_update(connection, id).await?;
    let row = found.ok_or(FulfillmentError::NotFound("customer"))?;
    expected.check(row.revision)?;
    Ok(row)
}

async fn update(
    connection: &mut PgConnection,
    before: CustomerRow,
    after: CustomerRow,
) -> Result<Changed<CustomerRow>, FulfillmentError> {
    customers::update(connection, &after).await?;
    Ok(Changed::without_effects(after.updated_at, Some(before), after))
}

fn next_revision(before: &CustomerRow, now: DateTime<Utc>) -> CustomerRow {
    CustomerRow { revision: before.revision + 1, updated_at: now, ..before.clone() }
}

/// Passes when no customer but `own` has this reference; nobody else can take it until the transaction ends.
async fn claim_external_ref(
    connection: &mut PgConnection,
    external_ref: Option<&str>,
    own: Option<CustomerId>,
) -> Result<(), FulfillmentError> {
    let Some(external_ref) = external_ref else { return Ok(()) };
    fences::lock_external_ref(connection, "customer", external_ref).await?;
    match customers::find_id_by_external_ref(connection, external_ref).await? {
        Some(existing) if Some(existing) != own => Err(refusal::taken("customer", existing)),
        Some(_) | None => Ok(()),
    }
}
