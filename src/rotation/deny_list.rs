//! The deny list: what follows from the ring, signed by its own key.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use token_authority_verifier::{DenyList, DenyListEntry};

use super::RotationError;
use super::key_set_draft::timestamp;
use crate::clock::Clock;
use crate::domain::key_ring::{Algorithm, Denial, KeyRing, Purpose, Slot};
use crate::keystore;
use crate::keystore::sealing::KeyEncryption;
use crate::storage::deny_lists::{self, StoredDenyList};
use crate::storage::{Database, StorageError, fences, key_rings, safe_mode, signing_keys};

/// Whose list it is, and what opens the key that signs it.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub environment: &'a str,
    pub issuer: &'a str,
    pub kek: &'a dyn KeyEncryption,
}

/// An unchanged list is signed anew after this long: a reader that has an older one than
/// that, by far, knows that its path to the issuer is broken.
pub const SIGNED_ANEW_AFTER: TimeDelta = TimeDelta::hours(1);

/// Signs and records the list of `ring`, in the caller's transaction. `None` while no deny-list
/// key is active: then nothing can be denied but by the next key set.
///
/// # Errors
///
/// The key does not open, or the database cannot be written.
pub(super) async fn sign(
    connection: &mut PgConnection,
    author: &Author<'_>,
    ring: &KeyRing,
    now: DateTime<Utc>,
) -> Result<Option<StoredDenyList>, RotationError> {
    let slot = Slot { purpose: Purpose::DenyList, alg: Algorithm::EdDsa };
    let Some(key) = ring.active(slot) else {
        tracing::error!("no deny-list key is active: nothing can be denied until the next key set");
        return Ok(None);
    };
    let sealed = signing_keys::find_sealed(connection, author.environment, &key.kid.to_string()).await?;
    let sealed = sealed.ok_or(keystore::KeystoreError::NoPrivateHalf)?;
    let signer = keystore::open_signer(author.kek, &sealed, Purpose::DenyList)?;
    let input = of_ring(author, ring, now).signing_input(key.kid)?;
    let list =
        StoredDenyList { serial: ring.deny_list_serial(), created_at: now, jws: signer.sign_input(input)? };
    deny_lists::upsert(connection, author.environment, &list).await?;
    Ok(Some(list))
}

/// Signs the list anew if it is older than [`SIGNED_ANEW_AFTER`], or was never signed.
///
/// Safe on several replicas at once: the ring's row decides who does it.
///
/// # Errors
///
/// The key does not open, or the database cannot be reached.
pub async fn keep_fresh(
    database: &Database,
    author: &Author<'_>,
    clock: &Clock,
) -> Result<Option<StoredDenyList>, RotationError> {
    let mut tx = database.begin().await?;
    let latest = deny_lists::find_latest(&mut tx, author.environment).await?;
    let now = clock.settle(fences::find_now(&mut tx).await?);
    if is_fresh(latest.as_ref(), now) {
        return Ok(latest);
    }
    key_rings::lock(&mut tx, author.environment).await?;
    let latest = deny_lists::find_latest(&mut tx, author.environment).await?;
    if is_fresh(latest.as_ref(), now) {
        return Ok(latest);
    }
    let Some(stored) = key_rings::find(&mut tx, author.environment).await? else { return Ok(None) };
    // An old copy of the database must not make its old list look fresh.
    if safe_mode::find(&mut tx, author.environment).await?.is_some() {
        return Ok(latest);
    }
    let signed = sign(&mut tx, author, &stored.ring, now).await?;
    tx.commit().await.map_err(StorageError::from)?;
    Ok(signed.or(latest))
}

fn is_fresh(latest: Option<&StoredDenyList>, now: DateTime<Utc>) -> bool {
    latest.is_some_and(|list| now - list.created_at < SIGNED_ANEW_AFTER)
}

/// A key that has ended by itself needs no entry any more.
fn of_ring(author: &Author<'_>, ring: &KeyRing, now: DateTime<Utc>) -> DenyList {
    let denied = ring.keys().filter(|key| now <= key.not_after);
    let entries = denied.filter_map(|key| {
        let iat_after = match key.denial? {
            Denial::Always => None,
            Denial::IssuedAfter(at) => Some(timestamp(at)),
        };
        Some(DenyListEntry { kid: key.kid, iat_after, until: timestamp(key.not_after) })
    });
    DenyList {
        issuer: author.issuer.to_owned(),
        environment: author.environment.to_owned(),
        serial: ring.deny_list_serial(),
        created: timestamp(now),
        entries: entries.collect(),
    }
}
