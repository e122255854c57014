//! The story of a beat: a process says what it runs, proves what it believes, and is asked again.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use token_authority_verifier::SignedManifest;

pub use super::probing::AskedProbe;

use super::RotationError;
use super::probing::{self, Asked};
use crate::domain::backend::ProcessId;
use crate::domain::key_ring::{KeyState, Kid, Purpose, Standing};
use crate::domain::probes::{Judgement, ProbeSet, REMEMBERED_BEATS, Verdict};
use crate::keystore::{Keystore, KeystoreError};
use crate::storage::backends::BackendRow;
use crate::storage::deployments::{self, DeploymentRow, Report};
use crate::storage::key_sets::StoredKeySet;
use crate::storage::signing_keys::ListedKey;
use crate::storage::{key_rings, key_sets, signing_keys};

/// How often a process reports itself.
pub const BEAT: TimeDelta = TimeDelta::seconds(30);

/// Where and when a beat is heard.
#[derive(Clone, Copy, Debug)]
pub struct Hearing<'a> {
    pub environment: &'a str,
    pub issuer: &'a str,
    /// What tokens for this backend name as `aud`; `None` when the catalog does not know it any more.
    pub audience: Option<&'a str>,
    pub keystore: &'a Keystore,
    pub now: DateTime<Utc>,
}

/// One beat of a process.
#[derive(Clone, Debug)]
pub struct Beat {
    pub process_id: ProcessId,
    pub report: Report,
    pub verdicts: Vec<Verdict>,
}

/// What came of a beat. Whatever it is, the process was seen: the caller commits.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The places of verdicts on probes that this process was never given.
    ForeignVerdicts(Vec<usize>),
    Taken(Taken),
    /// No key set with that digest was published under that version.
    UnknownKeySet,
}

/// What a process is answered.
#[derive(Clone, Debug)]
pub struct Taken {
    pub floor: u32,
    pub head: u32,
    pub deny_list_serial: u64,
    pub probes: Vec<AskedProbe>,
    /// Forged probes of these keys were accepted.
    pub deceived: BTreeSet<Kid>,
}

/// Hears one beat.
///
/// # Errors
///
/// The database cannot be reached, or a private half does not open.
pub async fn hear(
    connection: &mut PgConnection,
    hearing: &Hearing<'_>,
    backend: &BackendRow,
    beat: Beat,
) -> Result<Heard, RotationError> {
    let Hearing { environment, now, .. } = *hearing;
    let Beat { process_id, report, verdicts } = beat;

    // 1. What the process runs, and whether that is still what it ran before.
    let known = deployments::find_for_update(connection, &backend.name, &process_id).await?;
    let key_set = key_sets::find(connection, environment, report.key_set_version).await?;
    let key_set = key_set.filter(|key_set| key_set.jwks_digest == report.key_set_digest);
    let is_same = known.as_ref().is_some_and(|known| is_same_program(&known.report, &report));
    let mut row = DeploymentRow {
        backend: backend.name.clone(),
        process_id,
        standing: Standing::Running,
        forgotten_because: None,
        is_published: key_set.is_some(),
        first_seen_at: known.as_ref().map_or(now, |known| known.first_seen_at.min(now)),
        last_seen_at: now,
        disproved_at: known
            .as_ref()
            .filter(|known| known.report.build == report.build)
            .and_then(|known| known.disproved_at),
        asked: known.map_or_else(Vec::new, |known| known.asked),
        report,
    };
    deployments::upsert(connection, &row).await?;
    if !is_same {
        // Another program under the same name has proved nothing, whatever the one before it did.
        deployments::delete_proofs(connection, &row, None).await?;
    }
    let Some(key_set) = key_set else {
        deployments::delete_proofs(connection, &row, None).await?;
        return Ok(Heard::UnknownKeySet);
    };

    // 2. What its verdicts show. Those on probes of the program before it are not its own.
    let judgement = Judgement::of(&row.asked, &verdicts);
    if !judgement.foreign.is_empty() {
        return Ok(Heard::ForeignVerdicts(judgement.foreign));
    }
    let keys = signing_keys::list(connection, environment).await?;
    if is_same {
        learn(connection, &mut row, &judgement, &keys, &key_set, now).await?;
    } else {
        row.asked.clear();
    }

    // 3. The next questions.
    let (asked, probes) = ask(connection, hearing, backend, &keys).await?;
    row.asked.push(asked);
    let outdated = row.asked.len().saturating_sub(REMEMBERED_BEATS);
    row.asked.drain(..outdated);
    deployments::upsert(connection, &row).await?;

    let stored = key_rings::find(connection, environment).await?;
    let ring =
        stored.ok_or_else(|| RotationError::NotInitialized { environment: environment.to_owned() })?.ring;
    Ok(Heard::Taken(Taken {
        floor: ring.floor(),
        head: ring.head_version(),
        deny_list_serial: ring.deny_list_serial(),
        probes,
        deceived: if is_same { judgement.deceived } else { BTreeSet::new() },
    }))
}

/// Turns verdicts into evidence.
async fn learn(
    connection: &mut PgConnection,
    row: &mut DeploymentRow,
    judgement: &Judgement,
    keys: &[ListedKey],
    key_set: &StoredKeySet,
    now: DateTime<Utc>,
) -> Result<(), RotationError> {
    if !judgement.deceived.is_empty() {
        row.disproved_at = row.disproved_at.or(Some(now));
    }
    if row.disproved_at.is_some() {
        deployments::delete_proofs(connection, row, None).await?;
        return Ok(());
    }
    if !judgement.refused.is_empty() {
        deployments::delete_proofs(connection, row, Some(&judgement.refused)).await?;
    }
    let mut proved = judgement.proved.clone();
    if !proved.is_empty() {
        // Deny lists are verified with keys of the same set: who shows that it runs this set holds those too.
        let carried = carried(key_set)?;
        if proved.is_subset(&carried) && judgement.refused.is_disjoint(&carried) {
            let of_lists = keys.iter().filter(|listed| listed.key.purpose == Purpose::DenyList);
            proved.extend(of_lists.map(|listed| listed.key.kid).filter(|kid| carried.contains(kid)));
        }
        deployments::insert_proofs(connection, row, &proved, now).await?;
    }
    Ok(())
}

/// Probes of each key that verifiers of this backend must know and that still has a private half.
async fn ask(
    connection: &mut PgConnection,
    hearing: &Hearing<'_>,
    backend: &BackendRow,
    keys: &[ListedKey],
) -> Result<(ProbeSet, Vec<AskedProbe>), RotationError> {
    let Some(audience) = hearing.audience else {
        return Ok((ProbeSet { issued_at: hearing.now, probes: Vec::new() }, Vec::new()));
    };
    let mut signers = Vec::new();
    for ListedKey { key, .. } in keys {
        let is_asked = key.purpose == Purpose::AccessTokens
            && key.alg == backend.alg
            && matches!(key.state, KeyState::Active | KeyState::Published)
            && hearing.now < key.not_after;
        if !is_asked {
            continue;
        }
        let kid = key.kid.to_string();
        let signer = match hearing.keystore.signer(&kid) {
            Some(signer) => signer,
            None => {
                let sealed = signing_keys::find_sealed(connection, hearing.environment, &kid).await?;
                hearing.keystore.unseal_signer(&sealed.ok_or(KeystoreError::NoPrivateHalf)?)?
            }
        };
        signers.push(signer);
    }
    let asked = Asked { issuer: hearing.issuer, audience, now: hearing.now };
    Ok(probing::ask(asked, signers.iter().map(|signer| &**signer))?)
}

/// The keys of a key set, of every purpose.
pub(crate) fn carried(key_set: &StoredKeySet) -> Result<BTreeSet<Kid>, RotationError> {
    let manifest = SignedManifest::parse(&key_set.manifest)?;
    Ok(manifest.unverified().keys.iter().map(|key| key.kid).collect())
}

fn is_same_program(before: &Report, now: &Report) -> bool {
    (&before.build, before.key_set_version, before.key_set_digest)
        == (&now.build, now.key_set_version, now.key_set_digest)
}
