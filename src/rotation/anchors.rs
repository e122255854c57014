//! What was signed outside of the database: whether the database is an old copy of itself, and what it lacks.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use token_authority_verifier::{
    AuditCheckpoint, DenyList, KeySet, Manifest, Root, SignedManifest, SignedRoot, Verified,
};

use super::key_set_draft::SignedKeySet;
use super::published_files::PublishedFiles;
use super::recover::{self, Replayed};
use super::transition::Transition;
use super::{RotationError, manifests, roots};
use crate::clock::Clock;
use crate::domain::audit_chain::AuditLink;
use crate::domain::key_ring::recovery::{Behind, Outside};
use crate::domain::key_ring::{Digest, KeyRing};
use crate::keystore::replace;
use crate::keystore::sealing::KeyEncryption;
use crate::storage::key_sets::StoredRoot;
use crate::storage::{Database, StorageError, deny_lists, events, fences, key_rings, key_sets, safe_mode};

/// Where signed documents are kept that no restore of the database can take back.
#[derive(Clone, Debug)]
pub struct Anchors {
    environment: String,
    files: PublishedFiles,
    folder: Option<PathBuf>,
}

/// What is there beyond the database.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) roots: Vec<StoredRoot>,
    /// Signed by the root and chained to the database's head, oldest first.
    pub(super) key_sets: Vec<SignedKeySet>,
    /// A signed key set that is not the database's own under the same number.
    pub(super) fork: Option<u32>,
    /// The newest signed deny list.
    pub(super) deny_list: Option<Verified<DenyList>>,
    /// The newest signed checkpoint of the audit.
    pub(super) checkpoint: Option<Verified<AuditCheckpoint>>,
}

/// How a database compares with what is outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// A key set that follows the head was taken in just now.
    Adopted(u32),
    /// Nothing outside goes further.
    Current,
    /// It is in safe mode now, or was already.
    SafeMode { reason: String },
}

impl Anchors {
    /// The published files of an environment, and the folder of its other signed documents, where there is one.
    #[must_use]
    pub fn new(keys_dir: &Path, environment: &str, folder: Option<&Path>) -> Self {
        Self {
            environment: environment.to_owned(),
            files: PublishedFiles::new(keys_dir, environment),
            folder: folder.map(ToOwned::to_owned),
        }
    }

    /// Compares the database with what is outside. A database that is behind enters safe mode; a single key set
    /// that follows its head, and changes nothing of who signs, is adopted.
    ///
    /// # Errors
    ///
    /// The database or the files cannot be read.
    pub async fn check(
        &self,
        database: &Database,
        kek: &dyn KeyEncryption,
        clock: &Clock,
    ) -> Result<Standing, RotationError> {
        let mut connection = database.begin().await?;
        let environment = self.environment.as_str();
        if let Some(mode) = safe_mode::find(&mut connection, environment).await? {
            return Ok(Standing::SafeMode { reason: mode.reason });
        }
        let Some(stored) = key_rings::find(&mut connection, environment).await? else {
            return Ok(Standing::Current);
        };
        if stored.ring.head().is_none() {
            return Ok(Standing::Current);
        }
        let ahead = self.read(&mut connection, &stored.ring).await?;
        let Some(reason) = behind(&mut connection, environment, &stored.ring, &ahead).await? else {
            return Ok(Standing::Current);
        };
        drop(connection);

        let mut tx = database.begin().await?;
        fences::hold_mints_off(&mut tx).await?;
        let now = clock.settle(fences::find_now(&mut tx).await?);
        let stored = key_rings::find(&mut tx, environment).await?.ok_or(RotationError::Raced)?;
        // Read again: another replica may have been faster.
        let ahead = self.read(&mut tx, &stored.ring).await?;
        let adoption = adoption(&mut tx, &stored.ring, &ahead, environment, now).await?;
        let standing = match adoption {
            Some(plan) => {
                let version = stored.ring.head_version() + 1;
                let ring = stored.ring.clone();
                let mut transition = Transition {
                    connection: &mut tx,
                    environment,
                    issuer: &stored.issuer,
                    kek,
                    actor: "anchors",
                    reason: None,
                    now,
                    ring,
                };
                recover::carry_out(&mut transition, &plan, &Replayed::default()).await?;
                tracing::warn!(
                    key_set.version = version,
                    "a key set that follows the head was signed elsewhere; it is adopted"
                );
                Standing::Adopted(version)
            }
            None => match behind(&mut tx, environment, &stored.ring, &ahead).await? {
                None => Standing::Current,
                Some(_) => {
                    safe_mode::enter(&mut tx, environment, &reason, now).await?;
                    tracing::error!(
                        reason,
                        "this database is an old copy: safe mode; run `token-authority recover`"
                    );
                    Standing::SafeMode { reason }
                }
            },
        };
        tx.commit().await.map_err(StorageError::from)?;
        Ok(standing)
    }

    /// Keeps the newest deny list, and this checkpoint of the audit, where a restore does not reach them.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, or the database cannot be read.
    pub async fn keep(
        &self,
        connection: &mut PgConnection,
        checkpoint: Option<&str>,
    ) -> Result<(), RotationError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| RotationError::Anchor { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        if let Some(list) = deny_lists::find_latest(connection, &self.environment).await? {
            let path = folder.join(DENY_LIST);
            replace(&path, list.jws.as_bytes(), 0o644).map_err(unwritable(&path))?;
        }
        if let Some(checkpoint) = checkpoint {
            let path = folder.join(CHECKPOINT);
            replace(&path, checkpoint.as_bytes(), 0o644).map_err(unwritable(&path))?;
        }
        Ok(())
    }

    /// Whether there is a folder for checkpoints and deny lists.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// Every manifest that is known, in the database and beyond it, newest first.
    ///
    /// # Errors
    ///
    /// The database or the files cannot be read.
    pub async fn manifests(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Verified<Manifest>>, RotationError> {
        let ring = key_rings::find(connection, &self.environment).await?;
        let ring = ring.map(|stored| stored.ring).unwrap_or_default();
        let (_, beyond, _) = self.read_chain(connection, &ring).await?;
        let mut all: Vec<_> = beyond.iter().rev().map(|set| set.manifest().clone()).collect();
        all.extend(manifests::list(connection, &self.environment).await?);
        Ok(all)
    }

    /// Everything outside that is signed. What nobody signed, or somebody else, counts for nothing.
    pub(super) async fn read(
        &self,
        connection: &mut PgConnection,
        ring: &KeyRing,
    ) -> Result<Ahead, RotationError> {
        let (roots, key_sets, fork) = self.read_chain(connection, ring).await?;
        let mut known: Vec<_> = key_sets.iter().rev().map(|set| set.manifest().clone()).collect();
        known.extend(manifests::list(connection, &self.environment).await?);
        let deny_list = self.read_folder(DENY_LIST)?.and_then(|jws| verify_deny_list(&known, &jws));
        let checkpoint = self.read_folder(CHECKPOINT)?.and_then(|jws| {
            let verified = manifests::verify_checkpoint(&known, jws.trim());
            verified
                .inspect_err(|error| tracing::warn!(%error, "a checkpoint of the audit is not believed"))
                .ok()
        });
        Ok(Ahead { roots, key_sets, fork, deny_list, checkpoint })
    }

    async fn read_chain(
        &self,
        connection: &mut PgConnection,
        ring: &KeyRing,
    ) -> Result<(Vec<StoredRoot>, Vec<SignedKeySet>, Option<u32>), RotationError> {
        let Some(mut root) = roots::find_newest(connection, &self.environment).await? else {
            return Ok((vec![], vec![], None));
        };
        let recorded = key_sets::list_roots(connection, &self.environment).await?;
        let mut chain: Vec<Verified<Root>> = vec![];
        for stored in recorded {
            chain.extend(roots::find_verified(connection, &self.environment, stored.version).await?);
        }
        let mut new_roots = vec![];
        while let Some(file) = read(&self.files.root(root.version + 1))? {
            let next = SignedRoot::parse(&file).ok();
            let Some((signed, verified)) =
                next.and_then(|signed| signed.verify_successor(&root).ok().map(|root| (signed, root)))
            else {
                tracing::warn!(
                    root.version = root.version + 1,
                    "a published root is not vouched for; it counts for nothing"
                );
                break;
            };
            new_roots.push(StoredRoot {
                version: verified.version,
                file: signed.to_canonical_json().into_bytes(),
                payload: signed.payload().to_vec(),
                digest: verified.digest(),
                pinned_because: None,
            });
            chain.push(verified.clone());
            root = verified;
        }

        let head = ring.head();
        let mut fork = None;
        if let Some(head) = head
            && let Some(set) = self.read_set(head.version, &chain)?
            && set.manifest().digest() != head.digest
        {
            fork = Some(head.version);
        }
        let mut key_sets: Vec<SignedKeySet> = vec![];
        let mut last = head.map(|head| head.digest);
        while let Some(set) = self.read_set(next_version(ring, &key_sets), &chain)? {
            if set.manifest().prev != last {
                fork = fork.or(Some(set.manifest().version));
                break;
            }
            last = Some(set.manifest().digest());
            key_sets.push(set);
        }
        Ok((new_roots, key_sets, fork))
    }

    /// A published key set that one of these roots has signed; `None` where there is none.
    fn read_set(
        &self,
        version: u32,
        chain: &[Verified<Root>],
    ) -> Result<Option<SignedKeySet>, RotationError> {
        let Some(manifest) = read(&self.files.manifest(version))? else { return Ok(None) };
        let Some(jwks) = read(&self.files.jwks(version))? else { return Ok(None) };
        let read = || -> Option<SignedKeySet> {
            let signed = SignedManifest::parse(&manifest).ok()?;
            let named = signed.unverified().root_version;
            let verified = signed.verify(chain.iter().find(|root| root.version == named)?).ok()?;
            let plain = KeySet::parse(&jwks).ok()?;
            (verified.version == version).then_some(())?;
            SignedKeySet::of(signed, verified, plain.iter().cloned().collect()).ok()
        };
        let set = read();
        if set.is_none() {
            tracing::warn!(
                key_set.version = version,
                "a published key set is not signed by the root; it counts for nothing"
            );
        }
        Ok(set)
    }

    fn read_folder(&self, name: &str) -> Result<Option<String>, RotationError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        Ok(read(&folder.join(name))?.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

/// Of the file in the folder, and of one that is presented.
pub(super) fn verify_deny_list(known: &[Verified<Manifest>], jws: &str) -> Option<Verified<DenyList>> {
    // It tells of the past: its key may have ended since, so that it is judged by its own time.
    let anytime = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let found = known.iter().find_map(|manifest| DenyList::verify(jws.trim(), manifest, anytime).ok());
    if found.is_none() {
        tracing::warn!("a deny list is not believed");
    }
    found
}

/// Why the database is an old copy; `None` when it is not.
async fn behind(
    connection: &mut PgConnection,
    environment: &str,
    ring: &KeyRing,
    ahead: &Ahead,
) -> Result<Option<String>, RotationError> {
    if let Some(version) = ahead.fork {
        return Ok(Some(format!("the root has signed another key set {version} than this database holds")));
    }
    let end = events::find_end(connection).await?.sequence;
    let reconciled = safe_mode::find_reconciled_to(connection, environment).await?;
    let checkpoint = ahead.checkpoint.as_ref().filter(|checkpoint| checkpoint.sequence > reconciled);
    let outside = Outside {
        key_set: ahead.key_sets.last().map(|set| set.manifest().version),
        deny_list_serial: ahead.deny_list.as_ref().map(|list| list.serial),
        audit_sequence: checkpoint.map(|checkpoint| checkpoint.sequence),
    };
    if let Some(behind) = outside.is_ahead_of(ring, end) {
        let behind: Behind = behind;
        return Ok(Some(behind.to_string()));
    }
    if let Some(checkpoint) = checkpoint {
        let link = events::find_link(connection, checkpoint.sequence).await?;
        let start = (checkpoint.sequence == 0).then_some(AuditLink::START);
        let ours: Option<Digest> = link.or(start).map(|link| link.digest);
        if ours != Some(checkpoint.digest) {
            return Ok(Some(format!(
                "event {} of the audit is not the one that was signed",
                checkpoint.sequence
            )));
        }
    }
    Ok(None)
}

/// How the one key set that follows the head is taken in, if that is all and nobody else signs afterwards.
async fn adoption(
    connection: &mut PgConnection,
    ring: &KeyRing,
    ahead: &Ahead,
    environment: &str,
    now: DateTime<Utc>,
) -> Result<Option<recover::Plan>, RotationError> {
    let only_the_next = ahead.fork.is_none() && ahead.key_sets.len() == 1;
    if !only_the_next {
        return Ok(None);
    }
    let head_alone = Ahead { key_sets: vec![], ..Ahead::default() };
    let other =
        Ahead { deny_list: ahead.deny_list.clone(), checkpoint: ahead.checkpoint.clone(), ..head_alone };
    if behind(connection, environment, ring, &other).await?.is_some() {
        return Ok(None);
    }
    let Ok(plan) = recover::plan(connection, environment, ring, ahead, &[], now).await else {
        return Ok(None);
    };
    let is_known = ahead.key_sets[0].manifest().keys.iter().all(|key| ring.key(key.kid).is_some());
    let signs = |ring: &KeyRing| -> Vec<_> {
        let active = ring.keys().filter(|key| key.state == crate::domain::key_ring::KeyState::Active);
        active.map(|key| key.kid).collect()
    };
    let is_same = signs(ring) == signs(&plan.ring);
    Ok((is_known && is_same).then_some(plan))
}

fn next_version(ring: &KeyRing, key_sets: &[SignedKeySet]) -> u32 {
    key_sets.last().map_or(ring.head_version(), |set| set.manifest().version) + 1
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, RotationError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RotationError::Anchor { path: path.into(), source }),
    }
}

const DENY_LIST: &str = "deny-list.jws";
const CHECKPOINT: &str = "audit-checkpoint.jws";
