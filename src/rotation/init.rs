//! The birth of a deployment: root, first keys, key set 1.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use token_authority_verifier::{Jwk, Root, RootError, SignedRoot, Verified};

use super::RotationError;
use super::generate::end_of_life;
use super::key_set_draft::{KeySetDraft, Publisher, timestamp};
use super::published_files::{PublishedFiles, publish_missing};
use super::roots::refuse_development;
use super::transition::Transition;
use crate::clock::Clock;
use crate::domain::key_ring::{
    Algorithm, Command, Digest, KeyRing, KeyState, Kid, LEFT_AT_ACTIVATION, PURPOSES, Purpose, Slot,
};
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

    // 1. One at a time, and the key under which credentials are digested.
    let (ring, now) = begin(&mut tx, birth, clock).await?;

    // 2. Root, keys and key set 1, in a database that has none; in one whose first set was signed
    //    elsewhere, the keys that sign.
    let made = ring.head().is_none();
    let is_born = ring.keys().any(|key| key.activated_at.is_some());
    let mut transition = transition(&mut tx, birth, now, ring);
    if made {
        refuse_foreign_files(&files, birth.environment)?;
        make(birth, transition).await?;
    } else if !is_born {
        let first = first_keys(&transition.ring);
        bear(birth, &mut transition, first).await?;
    }
    tx.commit().await.map_err(crate::storage::StorageError::from)?;

    // 3. The files, from what was committed.
    let mut connection = database.begin().await?;
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

/// A first key set that waits for the signatures of the root.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub root_digest: Digest,
    /// How many holders of the root must sign, of how many.
    pub threshold: u32,
    pub holders: usize,
    pub draft: PathBuf,
}

/// Makes the first keys under a root that others hold, and drafts key set 1 for them to sign. Once it is given back
/// (`keys publish --signed`), [`init`] lets the first keys sign.
///
/// Safe to run again: the keys are made once, and the draft is written anew.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn prepare(
    database: &Database,
    birth: &Birth<'_>,
    root: &[u8],
    clock: &Clock,
) -> Result<Prepared, RotationError> {
    let files = PublishedFiles::new(birth.keys_dir, birth.environment);
    let refused = |source: RootError| RotationError::RootRefused(Box::new(source));
    let signed = SignedRoot::parse(root).map_err(|error| refused(error.into()))?;
    let root = signed.verify_pinned(signed.digest()).map_err(refused)?;
    refuse_development(&root, birth.is_development)?;
    if (root.issuer.as_str(), root.environment.as_str()) != (birth.issuer, birth.environment)
        || root.version != 1
    {
        return Err(RotationError::OtherRoot);
    }

    // 1. One at a time, and the key under which credentials are digested.
    let mut tx = database.begin().await?;
    let (ring, now) = begin(&mut tx, birth, clock).await?;
    if ring.head().is_some() {
        return Err(RotationError::AlreadyBorn);
    }
    let mut transition = transition(&mut tx, birth, now, ring);

    // 2. The root and the keys, in a database that has none.
    let recorded = key_sets::list_roots(transition.connection, birth.environment).await?;
    match recorded.first() {
        None => {
            refuse_foreign_files(&files, birth.environment)?;
            let row = StoredRoot {
                version: 1,
                file: signed.to_canonical_json().into_bytes(),
                payload: signed.payload().to_vec(),
                digest: root.digest(),
                pinned_because: None,
            };
            key_sets::insert_root(transition.connection, birth.environment, &row, now).await?;
            let mut public_keys = BTreeMap::new();
            generate_all(birth, &mut transition, &mut public_keys).await?;
        }
        Some(known) if known.digest == root.digest() => {}
        Some(_) => return Err(RotationError::OtherRoot),
    }

    // 3. The draft, over the keys that are there.
    let listed = signing_keys::list(transition.connection, birth.environment).await?;
    let public_keys: BTreeMap<Kid, Jwk> =
        listed.into_iter().map(|listed| (listed.key.kid, listed.public_key)).collect();
    let draft = first_set(birth, &transition, &root, &public_keys)?;
    tx.commit().await.map_err(crate::storage::StorageError::from)?;
    files.publish(&files.root(1), signed.to_canonical_json().as_bytes())?;
    let draft = files.write_draft(1, draft.manifest.to_canonical_json().as_bytes())?;
    Ok(Prepared { root_digest: root.digest(), threshold: root.threshold, holders: root.keys.len(), draft })
}

async fn begin(
    tx: &mut PgConnection,
    birth: &Birth<'_>,
    clock: &Clock,
) -> Result<(KeyRing, DateTime<Utc>), RotationError> {
    // Whoever comes second finds the keys made.
    fences::hold_mints_off(tx).await?;
    let now = clock.settle(key_rings::find_clock(tx).await?);
    key_rings::insert(tx, birth.environment, birth.issuer, now).await?;
    let stored = key_rings::find(tx, birth.environment).await?;
    let stored = stored.ok_or(RotationError::Raced)?;
    if stored.issuer != birth.issuer {
        let given = birth.issuer.to_owned();
        return Err(RotationError::OtherIssuer { stored: stored.issuer, given });
    }
    if sealed_secrets::find_latest(tx, birth.environment, SecretName::DigestKey).await?.is_none() {
        let digest_key = generate_digest_key(birth.kek, birth.environment)?;
        sealed_secrets::insert(tx, &digest_key, now).await?;
    }
    Ok((stored.ring, now))
}

fn transition<'t>(
    connection: &'t mut PgConnection,
    birth: &Birth<'t>,
    now: DateTime<Utc>,
    ring: KeyRing,
) -> Transition<'t> {
    Transition {
        connection,
        environment: birth.environment,
        issuer: birth.issuer,
        kek: birth.kek,
        actor: birth.actor,
        reason: None,
        now,
        ring,
    }
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
    let first = generate_all(birth, &mut transition, &mut public_keys).await?;
    let draft = first_set(birth, &transition, &root, &public_keys)?;
    let manifest = root_key.sign(draft.manifest.clone())?;
    let key_set = draft.signed(manifest, &root)?;
    transition.publish(&key_set, key_set.record(BTreeMap::new())).await?;
    bear(birth, &mut transition, first).await
}

/// The first key and a standby of each purpose and algorithm; returns the first ones.
async fn generate_all(
    birth: &Birth<'_>,
    transition: &mut Transition<'_>,
    public_keys: &mut BTreeMap<Kid, Jwk>,
) -> Result<Vec<(Slot, Kid)>, RotationError> {
    let mut first = Vec::with_capacity(PURPOSES.len());
    for purpose in PURPOSES {
        // What is not a token is read by our own verifier alone, which knows Ed25519 best.
        let algs = if purpose == Purpose::AccessTokens { birth.token_algs } else { &[Algorithm::EdDsa] };
        for alg in algs {
            let slot = Slot { purpose, alg: *alg };
            first.push((slot, generate(birth, transition, slot, public_keys).await?));
        }
    }
    Ok(first)
}

fn first_set(
    birth: &Birth<'_>,
    transition: &Transition<'_>,
    root: &Verified<Root>,
    public_keys: &BTreeMap<Kid, Jwk>,
) -> Result<KeySetDraft, RotationError> {
    let carried: BTreeSet<Kid> = public_keys.keys().copied().collect();
    let publisher =
        Publisher { issuer: birth.issuer, environment: birth.environment, root_version: root.version };
    KeySetDraft::new(publisher, &transition.ring, &carried, public_keys, transition.now)
}

/// Of each slot the one that ends first: the other was made to outlast it.
fn first_keys(ring: &KeyRing) -> Vec<(Slot, Kid)> {
    let mut first: BTreeMap<Slot, (DateTime<Utc>, Kid)> = BTreeMap::new();
    for key in ring.keys().filter(|key| key.state == KeyState::Published) {
        let known = first.entry(key.slot()).or_insert((key.not_after, key.kid));
        *known = (*known).min((key.not_after, key.kid));
    }
    first.into_iter().map(|(slot, (_, kid))| (slot, kid)).collect()
}

/// Lets the first keys sign, before there is anyone to prove them.
async fn bear(
    birth: &Birth<'_>,
    transition: &mut Transition<'_>,
    first: Vec<(Slot, Kid)>,
) -> Result<(), RotationError> {
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
