//! The birth of a deployment: root, first keys, key set 1.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use token_authority_verifier::{Jwk, Root, SignedRoot, Verified};

use super::RotationError;
use super::generate::end_of_life;
use super::key_set_draft::{KeySetDraft, Publisher, timestamp};
use super::published_files::{PublishedFiles, publish_missing};
use super::transition::Transition;
use crate::clock::Clock;
use crate::domain::key_ring::{Algorithm, Command, Digest, Kid, LEFT_AT_ACTIVATION, PURPOSES, Purpose, Slot};
use crate::domain::sealed::SecretName;
use crate::keystore::root_key::RootKey;
use crate::keystore::sealing::KeyEncryption;
use crate::keystore::{generate_digest_key, generate_key};
use crate::storage::key_sets::StoredRoot;
use crate::storage::{Database, fences, key_rings, key_sets, sealed_secrets, signing_keys};

/// The deployment whose first keys are to be made.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    pub environment: &'a str,
    /// What tokens name as `iss`.
    pub issuer: &'a str,
    pub keys_dir: &'a Path,
    pub kek: &'a dyn KeyEncryption,
    /// Where the root's private half is, or will be made; `None` where it must stay offline.
    pub root_key_file: Option<&'a Path>,
    /// Each gets an access-token key and its standby.
    pub token_algs: &'a [Algorithm],
    /// Whether production builds have to refuse the root.
    pub is_development: bool,
    /// Who does this, for the audit.
    pub actor: &'a str,
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Born {
    /// Whether the keys were made just now.
    pub made: bool,
    /// What a backend that embeds its first key set names as trusted.
    pub root_digest: Digest,
    pub key_set_version: u32,
    /// The digest of the plain set.
    pub key_set_digest: Digest,
    /// The files that were written just now.
    pub written: Vec<PathBuf>,
}

/// Makes the first keys of a deployment, unless they are there, and publishes what is
/// not published yet.
///
/// Safe to run again, and from two machines at once: the database decides, and files
/// are written from what it committed.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then, a root's own key file apart.
pub async fn init(database: &Database, birth: &Birth<'_>, clock: &Clock) -> Result<Born, RotationError> {
    let files = PublishedFiles::new(birth.keys_dir, birth.environment);
    let mut tx = database.begin().await?;

    // 1. One at a time: whoever comes second finds the keys made.
    fences::hold_mints_off(&mut tx).await?;
    let now = clock.settle(key_rings::find_clock(&mut tx).await?);
    key_rings::insert(&mut tx, birth.environment, birth.issuer, now).await?;
    let stored = key_rings::find(&mut tx, birth.environment).await?;
    let stored = stored.ok_or(RotationError::Raced)?;
    if stored.issuer != birth.issuer {
        let given = birth.issuer.to_owned();
        return Err(RotationError::OtherIssuer { stored: stored.issuer, given });
    }

    // 2. The key under which credentials are digested.
    if sealed_secrets::find_latest(&mut tx, birth.environment, SecretName::DigestKey).await?.is_none() {
        let digest_key = generate_digest_key(birth.kek, birth.environment)?;
        sealed_secrets::insert(&mut tx, &digest_key, now).await?;
    }

    // 3. Root, keys and key set 1, in a database that has none.
    let made = stored.ring.head().is_none();
    if made {
        refuse_foreign_files(&files, birth.environment)?;
        let ring = stored.ring;
        let transition = Transition {
            connection: &mut tx,
            environment: birth.environment,
            issuer: birth.issuer,
            kek: birth.kek,
            actor: birth.actor,
            reason: None,
            now,
            ring,
        };
        make(birth, transition).await?;
    }
    tx.commit().await.map_err(crate::storage::StorageError::from)?;

    // 4. The files, from what was committed.
    let mut connection = database.pool().acquire().await.map_err(crate::storage::StorageError::from)?;
    let published = publish_missing(&mut connection, birth.environment, &files).await?;
    let not_initialized = || RotationError::NotInitialized { environment: birth.environment.to_owned() };
    let (head, root_digest) = published.head.zip(published.root_digest).ok_or_else(not_initialized)?;
    Ok(Born {
        made,
        root_digest,
        key_set_version: head.version,
        key_set_digest: head.jwks_digest,
        written: published.paths,
    })
}

/// Files without a database that knows them mean that the database is the wrong one,
/// or an old one: another key set 1 would fork the chain that backends trust.
fn refuse_foreign_files(files: &PublishedFiles, environment: &str) -> Result<(), RotationError> {
    match files.any()? {
        None => Ok(()),
        Some(path) => {
            let path = path.display().to_string();
            Err(RotationError::PublishedElsewhere { environment: environment.to_owned(), path })
        }
    }
}

async fn make(birth: &Birth<'_>, mut transition: Transition<'_>) -> Result<(), RotationError> {
    let (root_key, root) = make_root(birth, &mut transition).await?;

    let mut public_keys = BTreeMap::new();
    let mut first = Vec::with_capacity(PURPOSES.len());
    for purpose in PURPOSES {
        // What is not a token is read by our own verifier alone, which knows Ed25519 best.
        let algs = if purpose == Purpose::AccessTokens { birth.token_algs } else { &[Algorithm::EdDsa] };
        for alg in algs {
            let slot = Slot { purpose, alg: *alg };
            first.push((slot, generate(birth, &mut transition, slot, &mut public_keys).await?));
        }
    }

    let carried: BTreeSet<Kid> = public_keys.keys().copied().collect();
    let publisher =
        Publisher { issuer: birth.issuer, environment: birth.environment, root_version: root.version };
    let draft = KeySetDraft::new(publisher, &transition.ring, &carried, &public_keys, transition.now)?;
    let manifest = root_key.sign(draft.manifest.clone())?;
    let key_set = draft.signed(manifest, &root)?;
    transition.publish(&key_set, key_set.record(BTreeMap::new())).await?;

    for (Slot { purpose, alg }, kid) in first {
        let ever_issued = purpose == Purpose::AccessTokens
            && signing_keys::has_issued(transition.connection, birth.environment, alg).await?;
        transition.carry_out(Command::Birth { kid, ever_issued }).await?;
    }
    // It denies nothing yet, and is there for whoever asks.
    transition.sign_deny_list().await
}

/// One root key: development has nobody to share it with.
async fn make_root(
    birth: &Birth<'_>,
    transition: &mut Transition<'_>,
) -> Result<(RootKey, Verified<Root>), RotationError> {
    let root_key = RootKey::read_or_create(birth.root_key_file.ok_or(RotationError::NoRoot)?)?;
    let root = Root {
        issuer: birth.issuer.to_owned(),
        environment: birth.environment.to_owned(),
        version: 1,
        threshold: 1,
        keys: vec![root_key.public_key()],
        created: timestamp(transition.now),
        development: birth.is_development,
    };
    let signed = root_key.sign(SignedRoot::new(root)?)?;
    let verified = signed.verify_pinned(signed.digest())?;
    let stored = StoredRoot {
        version: 1,
        file: signed.to_canonical_json().into_bytes(),
        payload: signed.payload().to_vec(),
        digest: signed.digest(),
        pinned_because: None,
    };
    key_sets::insert_root(transition.connection, birth.environment, &stored, transition.now).await?;
    Ok((root_key, verified))
}

/// Makes the first key of a slot and its standby; returns the first.
///
/// The first ends earlier: when it does, the standby still has the time that a key
/// needs when it starts to sign.
async fn generate(
    birth: &Birth<'_>,
    transition: &mut Transition<'_>,
    slot: Slot,
    public_keys: &mut BTreeMap<Kid, Jwk>,
) -> Result<Kid, RotationError> {
    let last = end_of_life(transition.now);
    let mut kids = Vec::with_capacity(2);
    for not_after in [last - LEFT_AT_ACTIVATION, last] {
        let fresh = generate_key(birth.kek, birth.environment, slot.purpose, slot.alg)?;
        kids.push(fresh.key.kid);
        public_keys.insert(fresh.key.kid, fresh.public_key.clone());
        transition.generate(fresh, not_after).await?;
    }
    Ok(kids[0])
}
