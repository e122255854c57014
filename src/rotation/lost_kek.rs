//! After the key-encryption key is lost: a new key for credentials, since nothing that it sealed opens again.

use serde_json::json;

use super::{RotationError, Site};
use crate::domain::ids::AuditEventId;
use crate::domain::sealed::SecretName;
use crate::keystore::generate_digest_key_version;
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::sealed_secrets;

/// Makes another key under which credentials are digested, sealed under the key-encryption key of this site. What was
/// handed out before opens nothing any more.
///
/// # Errors
///
/// [`RotationError::KekNotLost`] where the site's key-encryption key has sealed the present one.
pub async fn begin_anew(site: &Site<'_>, reason: &str) -> Result<(), RotationError> {
    let mut change = site.begin().await?;
    let now = change.now;
    let latest =
        sealed_secrets::find_latest(change.connection(), site.environment, SecretName::DigestKey).await?;
    let latest = latest.ok_or_else(|| site.not_initialized())?;
    if latest.secret.sealed_by == site.kek.id() {
        return Err(RotationError::KekNotLost);
    }
    let version = latest.version + 1;
    let secret = generate_digest_key_version(site.kek, site.environment, version)?;
    sealed_secrets::insert(change.connection(), &secret, now).await?;
    let event = NewAuditEvent {
        id: AuditEventId::generate(now),
        at: now,
        actor: site.actor,
        action: "digest_key.replaced",
        subject_kind: "sealed_secret",
        subject_id: &format!("{}/{}/{version}", site.environment, SecretName::DigestKey.as_str()),
        reason: Some(reason),
        before: Some(json!({ "sealed_by": latest.secret.sealed_by })),
        after: Some(json!({ "sealed_by": site.kek.id() })),
        request_id: None,
    };
    audit_events::insert(change.connection(), &event).await?;
    change.commit().await
}
