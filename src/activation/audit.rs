//! Remembers what an instance changed of itself.

use serde_json::Value;
use sqlx::PgConnection;

use super::Circumstances;
use crate::domain::ids::{AuditEventId, InstanceUid};
use crate::storage::StorageError;
use crate::storage::audit_events::{self, NewAuditEvent};

/// One row, by the instance, about the instance.
pub(super) async fn record(
    connection: &mut PgConnection,
    action: &str,
    uid: InstanceUid,
    before: Option<Value>,
    after: Option<Value>,
    circumstances: Circumstances<'_>,
) -> Result<(), StorageError> {
    let event = NewAuditEvent {
        id: AuditEventId::generate(circumstances.now),
        at: circumstances.now,
        actor: &format!("instance:{uid}"),
        action,
        subject_kind: "instance",
        subject_id: &uid.to_string(),
        reason: None,
        before,
        after,
        request_id: Some(circumstances.request_id),
    };
    audit_events::insert(connection, &event).await
}
