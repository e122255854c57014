//! Instances as an administrator changes them: blocked, unblocked, released, allowed to register another key.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::effects::{Affected, Standing};
use super::{Changed, Circumstances, Expected, FulfillmentError};
use crate::domain::ids::InstanceUid;
use crate::domain::instance::InstanceState;
use crate::storage::instance_states::{self, InstanceRow};
use crate::storage::{fences, instance_credentials, issuances, sync_lines};

/// Blocks an instance: it gets no token until it is unblocked, and keeps its place.
///
/// # Errors
/// It is unknown, at another revision, or not active.
pub async fn block(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    uid: InstanceUid,
    expected: &Expected,
    reason: String,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let before = find(connection, uid, expected).await?;
    match before.state {
        InstanceState::Active => {}
        InstanceState::Blocked => return Err(FulfillmentError::conflict("The instance is blocked already.")),
        InstanceState::Released => return Err(released()),
    }
    let now = circumstances.date(connection).await?;
    let after = entered(&before, InstanceState::Blocked, Some(reason), now);
    update(connection, circumstances, before, after, now).await
}

/// Unblocks an instance.
///
/// # Errors
/// It is unknown, at another revision, or not blocked.
pub async fn unblock(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    uid: InstanceUid,
    expected: &Expected,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    let before = find(connection, uid, expected).await?;
    if before.state != InstanceState::Blocked {
        return Err(FulfillmentError::conflict("The instance is not blocked."));
    }
    let now = circumstances.date(connection).await?;
    let after = entered(&before, InstanceState::Active, None, now);
    update(connection, circumstances, before, after, now).await
}

/// Releases an instance. Its place is free when its last token has expired; a block ends with it, and
/// so does a contest about its identity.
///
/// # Errors
/// It is unknown, at another revision, or released already.
pub async fn release(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    uid: InstanceUid,
    expected: &Expected,
    reason: Option<String>,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    fences::hold_mints_off(connection).await?;
    let before = find(connection, uid, expected).await?;
    if before.state == InstanceState::Released {
        return Err(released());
    }
    let last_expiry = issuances::find_last_expiry(connection, uid).await?;
    let now = circumstances.date(connection).await?;
    let after = InstanceRow {
        place_held_until: last_expiry.filter(|expiry| *expiry > now),
        identity_contested_at: None,
        ..entered(&before, InstanceState::Released, reason, now)
    };
    update(connection, circumstances, before, after, now).await
}

/// Lets an instance with a registered key activate once more by its code alone, or with another key.
///
/// # Errors
/// It is unknown, at another revision, or has no registered key.
pub async fn allow_reactivation(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    uid: InstanceUid,
    expected: &Expected,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    let before = find(connection, uid, expected).await?;
    if !before.has_public_key {
        return Err(FulfillmentError::conflict(
            "The instance has no registered key: its activation code alone activates it again.",
        ));
    }
    let now = circumstances.date(connection).await?;
    let after = InstanceRow { reactivation_allowed: true, ..next_revision(&before, now) };
    instance_states::update(connection, &after).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// What an administrator found out about two installations with one identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// One installation, which goes on in another place: the newest credential stays.
    Moved,
    /// One installation, which was set back to an earlier state: the credential that was used last stays.
    Restored,
    /// Two installations, of which one is a copy that is to activate on its own: the newest credential, where there are
    /// two, ends in seven days.
    StagingCopy,
}

/// Settles a contest about an instance's identity. Its line of one-time values starts anew: whoever comes first goes on
/// with it, and another one after that is noticed again.
///
/// # Errors
/// It is unknown, at another revision, or not contested.
pub async fn settle_identity(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    uid: InstanceUid,
    expected: &Expected,
    finding: Finding,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    let before = find(connection, uid, expected).await?;
    if before.identity_contested_at.is_none() {
        return Err(FulfillmentError::conflict("The identity of the instance is not contested."));
    }
    let now = circumstances.date(connection).await?;
    match finding {
        Finding::Moved => instance_credentials::update_all_but_newest_to_die(connection, uid, now).await?,
        Finding::Restored => {
            instance_credentials::update_all_but_last_used_to_die(connection, uid, now).await?;
        }
        Finding::StagingCopy => {
            let ends_at = now + TIME_FOR_THE_COPY;
            instance_credentials::update_second_to_die(connection, uid, now, ends_at).await?;
        }
    }
    sync_lines::update_to_start_anew(connection, uid, now).await?;
    let after = InstanceRow { identity_contested_at: None, ..next_revision(&before, now) };
    instance_states::update(connection, &after).await?;
    Ok(Changed::without_effects(now, Some(before), after))
}

/// Nobody is locked out at once.
const TIME_FOR_THE_COPY: TimeDelta = TimeDelta::days(7);

/// The instance, held with its lock until the transaction ends: no sync of it runs meanwhile.
async fn find(
    connection: &mut PgConnection,
    uid: InstanceUid,
    expected: &Expected,
) -> Result<InstanceRow, FulfillmentError> {
    fences::lock_instance(connection, uid).await?;
    let found = instance_states::find_for_update(connection, uid).await?;
    let row = found.ok_or(FulfillmentError::NotFound("instance"))?;
    expected.check(row.revision)?;
    Ok(row)
}

async fn update(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    before: InstanceRow,
    after: InstanceRow,
    now: DateTime<Utc>,
) -> Result<Changed<InstanceRow>, FulfillmentError> {
    let standing = Standing::read(connection, Affected::Instance(after.uid)).await?;
    instance_states::update(connection, &after).await?;
    let effects = standing.effects(connection, circumstances, now).await?;
    Ok(Changed { at: now, before: Some(before), after, effects })
}

fn entered(
    before: &InstanceRow,
    state: InstanceState,
    reason: Option<String>,
    now: DateTime<Utc>,
) -> InstanceRow {
    InstanceRow { state, state_since: now, state_reason: reason, ..next_revision(before, now) }
}

fn next_revision(before: &InstanceRow, now: DateTime<Utc>) -> InstanceRow {
    InstanceRow { revision: before.revision + 1, updated_at: now, ..before.clone() }
}

fn released() -> FulfillmentError {
    FulfillmentError::conflict("The instance is released; it is active again when it activates again.")
}
