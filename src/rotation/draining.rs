//! What the ledger says about the tokens of a key: when the last of them dies, and how many live.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::RotationError;
use crate::domain::key_ring::{Key, KeyRing, KeyState, Kid, LEEWAY, LastToken, Purpose};
use crate::storage::issuances::{self, LiveTokens};
use crate::storage::signing_keys::ListedKey;
use crate::storage::{key_rings, signing_keys};

/// For each key of `keys` that retires: when its last token dies. The key signs no more, so the answer
/// does not change; nothing needs to be held off while the ledger is read.
///
/// # Errors
///
/// The database cannot be read.
pub(super) async fn last_tokens(
    connection: &mut PgConnection,
    environment: &str,
    ring: &KeyRing,
    keys: impl IntoIterator<Item = Kid>,
) -> Result<BTreeMap<Kid, LastToken>, RotationError> {
    let recovered_at = key_rings::find_recovered_at(connection, environment).await?;
    let listed = signing_keys::list(connection, environment).await?;
    let mut last = BTreeMap::new();
    for kid in keys {
        let Some(ListedKey { key, number, .. }) = listed.iter().find(|listed| listed.key.kid == kid) else {
            continue;
        };
        let Some(demoted_at) = key.demoted_at.filter(|_| key.state == KeyState::Retiring) else { continue };
        // What was issued before the recovery, and is not in the ledger, lives on for that long.
        let may_have_lost =
            recovered_at.is_some_and(|recovered_at| demoted_at <= recovered_at + ring.longest_token());
        let last_token = if key.purpose != Purpose::AccessTokens {
            // What it signed is not in the ledger; readers take the newest document only.
            LastToken::NeverIssued
        } else if may_have_lost {
            LastToken::Unknown
        } else {
            // What was issued earlier had died before the key was demoted.
            let since = demoted_at - ring.longest_token();
            issuances::find_last_expiry_of_key(connection, *number, since)
                .await?
                .map_or(LastToken::NeverIssued, LastToken::ExpiresAt)
        };
        last.insert(kid, last_token);
    }
    Ok(last)
}

/// From when on a retiring key may be left out of key sets.
pub(super) fn drained_at(ring: &KeyRing, key: &Key, last_token: LastToken) -> DateTime<Utc> {
    let demoted_at = key.demoted_at.unwrap_or_default();
    let last_expiry = match last_token {
        LastToken::ExpiresAt(at) => at,
        LastToken::NeverIssued => demoted_at,
        LastToken::Unknown => demoted_at + ring.longest_token(),
    };
    last_expiry + LEEWAY
}

/// The tokens of a key that live at `now`.
///
/// # Errors
///
/// The database cannot be read.
pub(super) async fn live_tokens(
    connection: &mut PgConnection,
    ring: &KeyRing,
    listed: &ListedKey,
    now: DateTime<Utc>,
) -> Result<LiveTokens, RotationError> {
    let since = now - ring.longest_token() - TimeDelta::hours(1);
    Ok(issuances::find_live_of_key(connection, listed.number, since, now).await?)
}
