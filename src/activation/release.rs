//! An instance gives itself back.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{ActivationError, Circumstances, audit};
use crate::domain::entitlement::Obstacle;
use crate::domain::ids::InstanceUid;
use crate::domain::instance::InstanceState;
use crate::storage::{activations, fences, instance_states, issuances};

/// What a release answers.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    pub uid: InstanceUid,
    pub released_at: DateTime<Utc>,
    /// Until then tokens of the instance may still be in use, and its place is taken.
    pub place_held_until: Option<DateTime<Utc>>,
}

/// Releases the instance: from now on it gets no token. Releasing it again changes nothing.
///
/// # Errors
/// It is blocked: it could else activate again, and be rid of the block. Or the database cannot be written.
pub async fn release(
    connection: &mut PgConnection,
    uid: InstanceUid,
    circumstances: Circumstances<'_>,
) -> Result<Receipt, ActivationError> {
    // No sync that is under way may record a token after this.
    fences::lock_instance(connection, uid).await?;
    let found = instance_states::find_for_update(connection, uid).await?;
    if found.is_some_and(|instance| instance.state == InstanceState::Blocked) {
        return Err(ActivationError::Refused(Obstacle::InstanceBlocked));
    }
    let last_expiry = issuances::find_last_expiry(connection, uid).await?;
    let held_until = last_expiry.filter(|expiry| *expiry > circumstances.now);
    if !activations::update_released(connection, uid, held_until, circumstances.now).await? {
        let (released_at, place_held_until) = activations::find_release(connection, uid).await?;
        return Ok(Receipt { uid, released_at, place_held_until });
    }
    audit::record(connection, "instance.release", uid, None, None, circumstances).await?;
    Ok(Receipt { uid, released_at: circumstances.now, place_held_until: held_until })
}
