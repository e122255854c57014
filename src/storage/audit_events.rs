//! Who changed what, when: one row for each change, in the change's own transaction.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::StorageError;
use crate::domain::ids::AuditEventId;

/// One change, to be remembered.
#[derive(Clone, Debug)]
pub struct NewAuditEvent<'a> {
    pub id: AuditEventId,
    pub at: DateTime<Utc>,
    /// Who did it, such as `admin_token:<id> <name>` or `instance:<uid>`.
    pub actor: &'a str,
    /// What was done, such as `license.revoke`.
    pub action: &'a str,
    /// What it was done to, such as `license`.
    pub subject_kind: &'a str,
    pub subject_id: &'a str,
    pub reason: Option<&'a str>,
    /// The record as it was; `None` for one that is new. Never holds a secret or a digest of one.
    pub before: Option<Value>,
    /// The record as it is now.
    pub after: Option<Value>,
    pub request_id: Option<&'a str>,
}

/// Remembers a change.
///
/// # Errors
/// The database cannot be written.
pub async fn insert(connection: &mut PgConnection, event: &NewAuditEvent<'_>) -> Result<(), StorageError> {
    sqlx::query(
        "insert into audit_events (id, at, actor, action, subject_kind, subject_id, reason, before, after, request_id) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(event.id.as_uuid())
    .bind(event.at)
    .bind(event.actor)
    .bind(event.action)
    .bind(event.subject_kind)
    .bind(event.subject_id)
    .bind(event.reason)
    .bind(&event.before)
    .bind(&event.after)
    .bind(event.request_id)
    .execute(connection)
    .await?;
    Ok(())
}
