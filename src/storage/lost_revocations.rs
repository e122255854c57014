//! What was taken away in a time that the database lost: licenses, subscriptions, instances, admin tokens.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::instance_states::{self, InstanceRow};
use super::licenses::{self, LicenseRow, Revocation};
use super::subscriptions::{self, SubscriptionRow};
use super::{StorageError, admin_tokens};
use crate::domain::audit_chain::AuditEvent;
use crate::domain::ids::AuditEventId;
use crate::domain::instance::InstanceState;
use crate::domain::subscription::Condition;

/// Those of these events that the audit does not hold, in their order.
///
/// # Errors
/// The database cannot be read.
pub async fn list_unknown(
    connection: &mut PgConnection,
    events: &[AuditEvent],
) -> Result<Vec<AuditEvent>, StorageError> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id.as_uuid()).collect();
    let known: Vec<Uuid> = sqlx::query_scalar("select id from audit_events where id = any($1)")
        .bind(&ids)
        .fetch_all(connection)
        .await?;
    let known: HashSet<AuditEventId> = known.into_iter().map(AuditEventId::from).collect();
    Ok(events.iter().filter(|event| !known.contains(&event.id)).cloned().collect())
}

/// Takes away once more what the event took away, where the record is there and may still be used; gives back what a
/// later one gave back. Returns whether it was such an event.
///
/// # Errors
/// The database cannot be written.
pub async fn apply(
    connection: &mut PgConnection,
    event: &AuditEvent,
    now: DateTime<Utc>,
) -> Result<bool, StorageError> {
    let Ok(id) = event.subject_id.parse::<Uuid>() else { return Ok(false) };
    let reason =
        event.reason.clone().unwrap_or_else(|| "taken away before the database was restored".to_owned());
    match event.action.as_str() {
        "license.revoke" => revoke_license(connection, id, event.at, reason, now).await?,
        "subscription.suspend" => {
            set_condition(connection, id, Condition::Suspended, event, reason, now).await?
        }
        "subscription.resume" => set_condition(connection, id, Condition::Active, event, reason, now).await?,
        "subscription.cancel" => {
            set_condition(connection, id, Condition::Canceled, event, reason, now).await?
        }
        "instance.block" => set_state(connection, id, InstanceState::Blocked, event, reason, now).await?,
        "instance.unblock" => set_state(connection, id, InstanceState::Active, event, reason, now).await?,
        "instance.release" => set_state(connection, id, InstanceState::Released, event, reason, now).await?,
        "admin_token.revoke" => admin_tokens::update_revoked(connection, id.into(), event.at).await?,
        _ => return Ok(false),
    }
    Ok(true)
}

async fn revoke_license(
    connection: &mut PgConnection,
    id: Uuid,
    at: DateTime<Utc>,
    reason: String,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let Some(license) = licenses::find_for_update(connection, id.into()).await? else { return Ok(()) };
    if license.revocation.is_some() {
        return Ok(());
    }
    let revision = license.revision + 1;
    let revocation = Some(Revocation { at, reason });
    licenses::update(connection, &LicenseRow { revocation, revision, updated_at: now, ..license }).await
}

async fn set_condition(
    connection: &mut PgConnection,
    id: Uuid,
    condition: Condition,
    event: &AuditEvent,
    reason: String,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let Some(subscription) = subscriptions::find_for_update(connection, id.into()).await? else {
        return Ok(());
    };
    if subscription.condition == condition || subscription.condition == Condition::Canceled {
        return Ok(());
    }
    let row = SubscriptionRow {
        condition,
        condition_since: event.at.max(subscription.condition_since),
        condition_reason: Some(reason),
        revision: subscription.revision + 1,
        updated_at: now,
        ..subscription
    };
    subscriptions::update(connection, &row).await
}

async fn set_state(
    connection: &mut PgConnection,
    id: Uuid,
    state: InstanceState,
    event: &AuditEvent,
    reason: String,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let Some(instance) = instance_states::find_for_update(connection, id.into()).await? else {
        return Ok(());
    };
    // One that was released and came back holds a place of its own: nothing is given back that was not there.
    let may = instance.state != state
        && (state != InstanceState::Active || instance.state == InstanceState::Blocked);
    if !may {
        return Ok(());
    }
    let row = InstanceRow {
        state,
        state_since: event.at.max(instance.state_since),
        state_reason: Some(reason),
        revision: instance.revision + 1,
        updated_at: now,
        ..instance
    };
    instance_states::update(connection, &row).await
}
