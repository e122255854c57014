//! The roots of an environment: the chain by which its key sets are trusted, and its next version.

use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::PgConnection;
use token_authority_verifier::{Digest, Root, SignedRoot, Verified};

use super::RotationError;
use super::published_files::PublishedFiles;
use crate::clock::Clock;
use crate::domain::ids::AuditEventId;
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::key_sets::StoredRoot;
use crate::storage::{Database, StorageError, fences, key_rings, key_sets};

/// A root that was signed elsewhere, to be taken in.
#[derive(Clone, Copy, Debug)]
pub struct NewRoot<'a> {
    pub environment: &'a str,
    pub keys_dir: &'a Path,
    /// The content of the file.
    pub file: &'a [u8],
    /// Whether roots that were made for development may sign here.
    pub is_development: bool,
    /// Why the holders of the root before it cannot sign any more: then it is taken without them.
    pub lost: Option<&'a str>,
    /// Who does this, for the audit.
    pub actor: &'a str,
}

/// A root that is recorded now.
#[derive(Clone, Debug)]
pub struct RecordedRoot {
    pub version: u32,
    pub digest: Digest,
    pub threshold: u32,
    pub keys: usize,
    /// Whether it was not known before.
    pub is_new: bool,
    /// The file, if it was written just now.
    pub written: Option<PathBuf>,
}

/// Records the next root, once the thresholds of the one before it and its own have signed it,
/// and publishes it. Where the one before it is lost its own threshold has to do: backends then
/// have to be told of it anew. Recording the newest root again changes nothing.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn record(
    database: &Database,
    new: &NewRoot<'_>,
    clock: &Clock,
) -> Result<RecordedRoot, RotationError> {
    let refused = |source| RotationError::RootRefused(Box::new(source));
    let signed = SignedRoot::parse(new.file).map_err(|error| refused(error.into()))?;
    let mut tx = database.begin().await?;

    // 1. One change of keys at a time.
    fences::hold_mints_off(&mut tx).await?;
    let now = clock.settle(key_rings::find_clock(&mut tx).await?);
    let stored = key_sets::list_roots(&mut tx, new.environment).await?;
    let not_initialized = || RotationError::NotInitialized { environment: new.environment.to_owned() };
    let newest = verify_chain(&stored)?.ok_or_else(not_initialized)?;

    // 2. The newest once more is what was wanted; anything else has to succeed it.
    let is_new = signed.digest() != newest.digest();
    let root = match (is_new, new.lost) {
        (false, _) => newest,
        (true, None) => signed.verify_successor(&newest).map_err(refused)?,
        (true, Some(_)) => {
            signed.unverified().succeeds(&newest).map_err(refused)?;
            signed.verify_pinned(signed.digest()).map_err(refused)?
        }
    };
    refuse_development(&root, new.is_development)?;
    if is_new {
        let row = StoredRoot {
            version: root.version,
            file: signed.to_canonical_json().into_bytes(),
            payload: signed.payload().to_vec(),
            digest: root.digest(),
            pinned_because: new.lost.map(ToOwned::to_owned),
        };
        key_sets::insert_root(&mut tx, new.environment, &row, now).await?;
        let event = NewAuditEvent {
            id: AuditEventId::generate(now),
            at: now,
            actor: new.actor,
            action: if new.lost.is_some() { "key_root.replaced" } else { "key_root.recorded" },
            subject_kind: "key_root",
            subject_id: &format!("{}/{}", new.environment, root.version),
            reason: new.lost,
            before: None,
            after: Some(json!({
                "version": root.version,
                "digest": root.digest().to_string(),
                "threshold": root.threshold,
                "keys": root.keys.iter().map(|key| key.kid().to_string()).collect::<Vec<_>>(),
            })),
            request_id: None,
        };
        audit_events::insert(&mut tx, &event).await?;
    }
    tx.commit().await.map_err(StorageError::from)?;

    // 3. The file, from what was committed.
    let mut connection = database.begin().await?;
    let stored = key_sets::list_roots(&mut connection, new.environment).await?;
    let row = stored.iter().find(|row| row.version == root.version).ok_or_else(not_initialized)?;
    let files = PublishedFiles::new(new.keys_dir, new.environment);
    let path = files.root(row.version);
    let written = files.publish(&path, &row.file)?.then_some(path);
    Ok(RecordedRoot {
        version: root.version,
        digest: root.digest(),
        threshold: root.threshold,
        keys: root.keys.len(),
        is_new,
        written,
    })
}

/// The recorded root of this version, verified from the first one on; `None` if it is not there.
///
/// # Errors
///
/// The database cannot be read, or what it holds is no chain of roots.
pub async fn find_verified(
    connection: &mut PgConnection,
    environment: &str,
    version: u32,
) -> Result<Option<Verified<Root>>, RotationError> {
    let mut stored = key_sets::list_roots(connection, environment).await?;
    stored.retain(|root| root.version <= version);
    Ok(verify_chain(&stored)?.filter(|root| root.version == version))
}

/// The newest recorded root, verified from the first one on; `None` before there is one.
///
/// # Errors
///
/// The database cannot be read, or what it holds is no chain of roots.
pub async fn find_newest(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Option<Verified<Root>>, RotationError> {
    verify_chain(&key_sets::list_roots(connection, environment).await?)
}

/// Roots that were made for development sign nothing that is not development: their keys were
/// never offline.
pub(super) fn refuse_development(root: &Root, is_development: bool) -> Result<(), RotationError> {
    if root.development && !is_development {
        return Err(RotationError::DevelopmentRoot { environment: root.environment.clone() });
    }
    Ok(())
}

/// The last of these, oldest first: trust begins with the first, which the database's own birth recorded.
fn verify_chain(stored: &[StoredRoot]) -> Result<Option<Verified<Root>>, RotationError> {
    let mut newest: Option<Verified<Root>> = None;
    for row in stored {
        let signed = SignedRoot::parse(&row.file)?;
        newest = Some(match &newest {
            None => signed.verify_pinned(row.digest)?,
            Some(_) if row.pinned_because.is_some() => signed.verify_pinned(row.digest)?,
            Some(previous) => signed.verify_successor(previous)?,
        });
    }
    Ok(newest)
}
