//! `keys publish` and `keys retire`: the next key set, signed here or elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sqlx::PgConnection;
use token_authority_verifier::{Jwk, Manifest, Root, SignedManifest, Verified};

use super::RotationError;
use super::draining::last_tokens;
use super::key_set_draft::{KeySetDraft, Publisher, SignedKeySet};
use super::published_files::{PublishedFiles, publish_missing};
use super::roots;
use super::site::Site;
use crate::domain::key_ring::{Command, Digest, KeyRefusal, KeyRing, KeyState, Kid, Purpose, step};
use crate::keystore::root_key::RootKey;
use crate::storage::{key_rings, key_sets, signing_keys};

/// What the next key set is to bring and to leave out.
#[derive(Clone, Debug)]
pub struct NextKeySet<'a> {
    /// Keys that are to be published; `None`: every one that was generated.
    pub adding: Option<BTreeSet<Kid>>,
    /// Retiring keys that are to be left out, once they are drained.
    pub leaving: BTreeSet<Kid>,
    pub keys_dir: &'a Path,
    /// The root's private half, where it is here; else a draft is written for those who hold it.
    pub root_key_file: Option<&'a Path>,
}

/// A key set that is recorded and published.
#[derive(Clone, Debug)]
pub struct PublishedSet {
    pub version: u32,
    /// Of the plain set.
    pub digest: Digest,
    pub root_version: u32,
    /// Whether it was recorded just now.
    pub is_new: bool,
    pub published: BTreeSet<Kid>,
    pub retired: BTreeSet<Kid>,
    /// The files that were written just now.
    pub written: Vec<PathBuf>,
}

/// A manifest that waits for the signatures of the root.
#[derive(Clone, Debug)]
pub struct Draft {
    pub version: u32,
    pub digest: Digest,
    pub path: PathBuf,
    pub root_version: u32,
    /// How many holders of the root must sign, of how many.
    pub threshold: u32,
    pub holders: usize,
    pub publishes: BTreeSet<Kid>,
    pub leaves_out: BTreeSet<Kid>,
}

/// What became of the next key set.
#[derive(Clone, Debug)]
pub enum Published {
    Drafted(Draft),
    Recorded(PublishedSet),
}

/// Drafts the next key set. Signs and records it where the root's private half is here, and writes a draft
/// for its holders where it is not.
///
/// Safe to run again: what is published already is not published twice, and files that a crash left out
/// are written.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn publish(site: &Site<'_>, next: &NextKeySet<'_>) -> Result<Published, RotationError> {
    let files = PublishedFiles::new(next.keys_dir, site.environment);
    let root_key = next.root_key_file.filter(|path| path.exists()).map(RootKey::read).transpose()?;

    // 1. What the ledger says of the keys that leave: it does not change any more.
    let drained = {
        let mut connection = site.database.begin().await?;
        let stored = key_rings::find(&mut connection, site.environment).await?;
        let ring = stored.ok_or_else(|| site.not_initialized())?.ring;
        last_tokens(&mut connection, site.environment, &ring, next.leaving.iter().copied()).await?
    };

    // 2. The draft, which the ring must allow before anyone is asked to sign it.
    let mut change = site.begin().await?;
    let (ring, issuer) = (change.stored.ring.clone(), change.stored.issuer.clone());
    let adding = adding(&ring, next)?;
    let leaving = leaving(&ring, next)?;
    if adding.is_empty() && leaving.is_empty() {
        change.commit().await?;
        return finish(site, &files, Recorded::default()).await.map(Published::Recorded);
    }
    let now = change.now;
    let root = roots::find_newest(change.connection(), site.environment).await?;
    let root = root.ok_or_else(|| site.not_initialized())?;
    let listed = signing_keys::list(change.connection(), site.environment).await?;
    let public_keys: BTreeMap<Kid, Jwk> =
        listed.iter().map(|listed| (listed.key.kid, listed.public_key.clone())).collect();
    let carried = ring.next_carried(&adding, &leaving);
    let publisher = Publisher { issuer: &issuer, environment: site.environment, root_version: root.version };
    let draft = KeySetDraft::new(publisher, &ring, &carried, &public_keys, now)?;
    step(&ring, Command::Publish(draft.record(drained.clone())), now)?;

    // 3. Signed here, or by those who hold the root.
    let Some(root_key) = root_key.filter(|key| can_sign_alone(key, &root)) else {
        change.commit().await?;
        let (path, digest) = write_draft(&files, &draft)?;
        return Ok(Published::Drafted(Draft {
            version: draft.manifest.unverified().version,
            digest,
            path,
            root_version: root.version,
            threshold: root.threshold,
            holders: root.keys.len(),
            publishes: adding,
            leaves_out: leaving,
        }));
    };
    let manifest = root_key.sign(draft.manifest.clone())?;
    let key_set = draft.signed(manifest, &root)?;
    let mut transition = change.transition(None);
    transition.publish(&key_set, key_set.record(drained)).await?;
    change.commit().await?;

    // 4. The files, from what was committed.
    let recorded = Recorded { is_new: true, published: adding, retired: leaving };
    finish(site, &files, recorded).await.map(Published::Recorded)
}

/// Takes back a manifest that the root's holders have signed, records its key set and publishes it.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn take_back(site: &Site<'_>, keys_dir: &Path, file: &[u8]) -> Result<PublishedSet, RotationError> {
    let files = PublishedFiles::new(keys_dir, site.environment);
    let refused = |source| RotationError::ManifestRefused(Box::new(source));
    let signed = SignedManifest::parse(file).map_err(|error| refused(error.into()))?;

    // 1. Signed by the root that this database knows.
    let (manifest, drained) = {
        let mut connection = site.database.begin().await?;
        let version = signed.unverified().root_version;
        let root = roots::find_verified(&mut connection, site.environment, version).await?;
        let root = root.ok_or(RotationError::UnknownRoot { version })?;
        let manifest = signed.verify(&root).map_err(refused)?;
        let stored = key_rings::find(&mut connection, site.environment).await?;
        let ring = stored.ok_or_else(|| site.not_initialized())?.ring;
        let left_out = ring.keys().map(|key| key.kid).filter(|kid| manifest.find(*kid).is_none());
        let left_out: Vec<Kid> = left_out.collect();
        let drained = last_tokens(&mut connection, site.environment, &ring, left_out).await?;
        (manifest, drained)
    };

    // 2. The next of the chain, over the very keys that this database holds.
    let mut change = site.begin().await?;
    let ring = change.stored.ring.clone();
    if ring.head().is_some_and(|head| (head.version, head.digest) == (manifest.version, manifest.digest())) {
        change.commit().await?;
        return finish(site, &files, Recorded::default()).await;
    }
    refuse_other_keys(&ring, &manifest)?;
    let plain = plain_keys(change.connection(), site.environment, &manifest).await?;
    let key_set = SignedKeySet::of(signed, manifest, plain)?;
    let record = key_set.record(drained);
    let published = record
        .carried
        .iter()
        .copied()
        .filter(|kid| ring.key(*kid).is_some_and(|key| key.state == KeyState::Generated));
    let published = published.collect();
    let left_out = ring.keys().filter(|key| key.state.is_carried() && !record.carried.contains(&key.kid));
    let retired = left_out.map(|key| key.kid).collect();
    change.transition(None).publish(&key_set, record).await?;
    change.commit().await?;

    // 3. The files, from what was committed.
    finish(site, &files, Recorded { is_new: true, published, retired }).await
}

/// What was recorded just now.
#[derive(Default)]
struct Recorded {
    is_new: bool,
    published: BTreeSet<Kid>,
    retired: BTreeSet<Kid>,
}

async fn finish(
    site: &Site<'_>,
    files: &PublishedFiles,
    recorded: Recorded,
) -> Result<PublishedSet, RotationError> {
    let mut connection = site.database.begin().await?;
    let written = publish_missing(&mut connection, site.environment, files).await?;
    let head = key_sets::find_latest(&mut connection, site.environment).await?;
    let head = head.ok_or_else(|| site.not_initialized())?;
    files.drop_draft(head.version);
    let Recorded { is_new, published, retired } = recorded;
    Ok(PublishedSet {
        version: head.version,
        digest: head.jwks_digest,
        root_version: head.root_version,
        is_new,
        published,
        retired,
        written: written.paths,
    })
}

/// The keys that are to be published. One that is published already was what was wanted.
fn adding(ring: &KeyRing, next: &NextKeySet<'_>) -> Result<BTreeSet<Kid>, KeyRefusal> {
    let Some(wanted) = &next.adding else {
        let generated = ring.keys().filter(|key| key.state == KeyState::Generated);
        return Ok(generated.map(|key| key.kid).collect());
    };
    let mut adding = BTreeSet::new();
    for kid in wanted {
        let key = ring.key(*kid).ok_or(KeyRefusal::UnknownKid { kid: *kid })?;
        match key.state {
            KeyState::Generated => {
                adding.insert(*kid);
            }
            state if state.is_carried() => {}
            state => {
                return Err(KeyRefusal::WrongState { kid: *kid, state, needed: KeyState::Generated });
            }
        }
    }
    Ok(adding)
}

/// The keys that are to be left out. One that retired already was what was wanted.
fn leaving(ring: &KeyRing, next: &NextKeySet<'_>) -> Result<BTreeSet<Kid>, KeyRefusal> {
    let mut leaving = BTreeSet::new();
    for kid in &next.leaving {
        let key = ring.key(*kid).ok_or(KeyRefusal::UnknownKid { kid: *kid })?;
        match key.state {
            KeyState::Retiring => {
                leaving.insert(*kid);
            }
            KeyState::Retired => {}
            state => {
                return Err(KeyRefusal::WrongState { kid: *kid, state, needed: KeyState::Retiring });
            }
        }
    }
    Ok(leaving)
}

/// Whether one signature by this key suffices.
fn can_sign_alone(key: &RootKey, root: &Root) -> bool {
    root.threshold == 1 && root.keys.contains(&key.public_key())
}

/// A draft that says the same as the one that is out for signatures stays, with its own dates: holders may have it
/// already. Returns where the draft is that now counts, and its digest.
fn write_draft(files: &PublishedFiles, draft: &KeySetDraft) -> Result<(PathBuf, Digest), RotationError> {
    let path = files.draft(draft.manifest.unverified().version);
    let out = std::fs::read(&path).ok().and_then(|file| SignedManifest::parse(&file).ok());
    let the_same = out.filter(|out| {
        let undated = |manifest: &Manifest| Manifest {
            created: draft.manifest.unverified().created,
            build_before: draft.manifest.unverified().build_before,
            ..manifest.clone()
        };
        undated(out.unverified()) == *draft.manifest.unverified()
    });
    if let Some(out) = the_same {
        return Ok((path, out.digest()));
    }
    let content = draft.manifest.to_canonical_json();
    let path = files.write_draft(draft.manifest.unverified().version, content.as_bytes())?;
    Ok((path, draft.manifest.digest()))
}

/// What the root signed must be what this database holds of each key.
fn refuse_other_keys(ring: &KeyRing, manifest: &Manifest) -> Result<(), RotationError> {
    for said in &manifest.keys {
        let key = ring.key(said.kid).ok_or(KeyRefusal::UnknownKid { kid: said.kid })?;
        let is_same = said.purpose == key.purpose
            && said.alg.name() == key.alg.as_str()
            && said.not_after.unix() == key.not_after.timestamp();
        if !is_same {
            return Err(RotationError::OtherKey { kid: said.kid });
        }
    }
    Ok(())
}

/// The public halves of the manifest's access-token keys.
async fn plain_keys(
    connection: &mut PgConnection,
    environment: &str,
    manifest: &Verified<Manifest>,
) -> Result<Vec<Jwk>, RotationError> {
    let listed = signing_keys::list(connection, environment).await?;
    let is_plain = |kid: Kid| manifest.find(kid).is_some_and(|key| key.purpose == Purpose::AccessTokens);
    Ok(listed.iter().filter(|one| is_plain(one.key.kid)).map(|one| one.public_key.clone()).collect())
}
