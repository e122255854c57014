//! The way out of safe mode: the database is told what it forgot, from what was signed outside of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;
use token_authority_verifier::{Denial as SignedDenial, Jwk};

use super::anchors::{Ahead, Anchors, verify_deny_list};
use super::audit::{self, remembered};
use super::key_set_draft::SignedKeySet;
use super::published_files::{PublishedFiles, publish_missing};
use super::transition::Transition;
use super::{RotationError, Site};
use crate::domain::audit_chain::{AuditEvent, AuditLink};
use crate::domain::ids::AuditEventId;
use crate::domain::key_ring::recovery::{self, Evidence, PublishedSet, Remembered};
use crate::domain::key_ring::{
    Adopted, Command, Denial, KeyRing, KeyState, Kid, NewKey, Purpose, Recalled, Slot, step,
};
use crate::domain::sealed::{Sealed, SealedKey};
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::signing_keys::{self, NewSigningKey};
use crate::storage::{StorageError, deny_lists, events, key_rings, key_sets, lost_revocations, safe_mode};

/// What the recovery is given.
#[derive(Clone, Copy, Debug)]
pub struct Recovery<'a> {
    pub keys_dir: &'a Path,
    pub anchors: &'a Anchors,
    /// The exported audit, already proved, and where it ends.
    pub audit: Option<(&'a [AuditEvent], AuditLink)>,
    /// Why it goes without the audit, where that is lost as well.
    pub without_audit: Option<&'a str>,
    /// A signed deny list that somebody kept.
    pub deny_list: Option<&'a str>,
}

/// What became of the database.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Why it was in safe mode.
    pub reason: String,
    pub head: u32,
    /// The key sets that were adopted.
    pub adopted: Vec<u32>,
    /// How many events of the audit were taken over.
    pub audit_events: usize,
    /// The keys whose state changed, and what it is now.
    pub keys: Vec<(Kid, KeyState)>,
    /// What had been taken away, and is again: licenses, subscriptions, instances, admin tokens.
    pub taken_away: BTreeMap<String, u64>,
    /// Changes after the copy that have to be made again, by their names.
    pub lost: BTreeMap<String, u64>,
    /// Who signs now; nobody where no standby is left.
    pub active: Vec<(Slot, Option<Kid>)>,
    pub written: Vec<PathBuf>,
}

/// The commands that bring a ring to where it had been, and what they need.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ring: KeyRing,
    commands: Vec<Command>,
    key_sets: Vec<SignedKeySet>,
    roots: Vec<key_sets::StoredRoot>,
    public_keys: BTreeMap<Kid, Jwk>,
}

/// The rows of the audit that are there already: a change has one, not two.
#[derive(Debug, Default)]
pub(super) struct Replayed(BTreeSet<(String, String)>);

/// Takes over what was signed and exported outside, and leaves safe mode.
///
/// # Errors
///
/// [`RotationError::NotInSafeMode`]; the evidence does not suffice. Nothing was changed then.
pub async fn recover(site: &Site<'_>, given: &Recovery<'_>) -> Result<Recovered, RotationError> {
    // 1. What is outside makes the database safe first, if nobody looked yet.
    given.anchors.check(site.database, site.kek, site.clock).await?;
    let mut change = site.begin_in_safe_mode().await?;
    let (now, environment) = (change.now, site.environment);
    let ring = change.stored.ring.clone();
    let reason = safe_mode::find(change.connection(), environment).await?;
    let reason = reason.ok_or(RotationError::NotInSafeMode)?.reason;

    // 2. The evidence.
    let mut ahead = given.anchors.read(change.connection(), &ring).await?;
    if let Some(version) = ahead.fork {
        return Err(RotationError::Forked { version });
    }
    if let Some(jws) = given.deny_list {
        let known = given.anchors.manifests(change.connection()).await?;
        let list = verify_deny_list(&known, jws).ok_or(RotationError::DenyListRefused)?;
        if ahead.deny_list.as_ref().is_none_or(|kept| kept.serial < list.serial) {
            ahead.deny_list = Some(list);
        }
    }
    let signed_to = ahead.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sequence);
    let exported_to = given.audit.map_or(0, |(_, end)| end.sequence);
    let known_to = events::find_end(change.connection()).await?.sequence;
    if given.without_audit.is_none() && exported_to < signed_to {
        return Err(RotationError::AuditNeeded { signed: signed_to, exported: exported_to });
    }
    if given.without_audit.is_none() && given.audit.is_none() {
        return Err(RotationError::AuditNeeded { signed: signed_to.max(known_to + 1), exported: 0 });
    }
    let events = given.audit.map_or(&[][..], |(events, _)| events);
    let lost = lost_revocations::list_unknown(change.connection(), events).await?;
    let plan = plan(change.connection(), environment, &ring, &ahead, &lost, now).await?;

    // 3. Out of safe mode, so that the schema lets keys change; nothing is minted before the commit.
    safe_mode::leave(change.connection(), environment, signed_to.max(exported_to), now).await?;
    let mut replayed = Replayed::default();
    for event in &lost {
        import(change.connection(), event).await?;
        if event.subject_kind == "signing_key" {
            replayed.0.insert((event.subject_id.clone(), event.action.clone()));
        }
    }
    let mut taken_away = BTreeMap::new();
    let mut not_brought_back = BTreeMap::new();
    for event in &lost {
        if lost_revocations::apply(change.connection(), event, now).await? {
            *taken_away.entry(event.action.clone()).or_insert(0) += 1;
        } else if !event.subject_kind.starts_with("key_") && event.subject_kind != "signing_key" {
            *not_brought_back.entry(event.action.clone()).or_insert(0) += 1;
        }
    }

    // 4. The keys, edge by edge, with one row of the audit each.
    let because = given.without_audit.map(ToOwned::to_owned);
    let mut transition = change.transition(because.as_deref());
    carry_out(&mut transition, &plan, &replayed).await?;
    let serial = deny_lists::find_latest(transition.connection, environment).await?.map(|list| list.serial);
    if serial.is_none_or(|serial| serial < transition.ring.deny_list_serial()) {
        transition.sign_deny_list().await?;
    }
    let summary = NewAuditEvent {
        id: AuditEventId::generate(now),
        at: now,
        actor: site.actor,
        action: "key_ring.recovered",
        subject_kind: "key_ring",
        subject_id: environment,
        reason: Some(given.without_audit.unwrap_or(&reason)),
        before: None,
        after: Some(json!({
            "head": plan.ring.head_version(),
            "audit_events": lost.len(),
            "audit_up_to": signed_to.max(exported_to),
            "without_audit": given.without_audit.is_some(),
        })),
        request_id: None,
    };
    audit_events::insert(transition.connection, &summary).await?;
    change.commit().await?;

    // 5. The files, from what was committed.
    let files = PublishedFiles::new(given.keys_dir, environment);
    let mut connection = site.database.begin().await?;
    let written = publish_missing(&mut connection, environment, &files).await?;
    let after = &plan.ring;
    let moved = after.keys().filter(|key| ring.key(key.kid).is_none_or(|before| before.state != key.state));
    let slots: BTreeSet<Slot> =
        after.keys().filter(|key| key.activated_at.is_some()).map(|key| key.slot()).collect();
    Ok(Recovered {
        reason,
        head: after.head_version(),
        adopted: plan.key_sets.iter().map(|set| set.manifest().version).collect(),
        audit_events: lost.len(),
        keys: moved.map(|key| (key.kid, key.state)).collect(),
        taken_away,
        lost: not_brought_back,
        active: slots.into_iter().map(|slot| (slot, after.active(slot).map(|key| key.kid))).collect(),
        written: written.paths,
    })
}

/// Works out what the ring has to go through.
pub(super) async fn plan(
    connection: &mut PgConnection,
    environment: &str,
    ring: &KeyRing,
    ahead: &Ahead,
    lost: &[AuditEvent],
    now: DateTime<Utc>,
) -> Result<Plan, RotationError> {
    let mut public_keys = BTreeMap::new();
    let mut key_sets = vec![];
    for set in &ahead.key_sets {
        public_keys.extend(set.public_keys());
        key_sets.push(described(set)?);
    }
    // A key that was never published is trusted by nobody: it needs no remembering.
    let is_known = |kid: Kid| ring.key(kid).is_some() || public_keys.contains_key(&kid);
    let audit = lost.iter().filter_map(|event| remembered(environment, event)).filter(|line| match line {
        Remembered::Key(Recalled { key, .. }) => is_known(key.kid),
        _ => true,
    });
    let denied = ahead.deny_list.iter().flat_map(|list| &list.entries);
    let evidence = Evidence {
        audit: audit.collect(),
        key_sets,
        denied: denied.map(|entry| (entry.kid, denial(entry.iat_after))).collect(),
        deny_list_serial: ahead.deny_list.as_ref().map_or(0, |list| list.serial),
        private_halves: signing_keys::list_sealed(connection, environment).await?,
    };
    let (after, commands) = recovery::recover(ring, &evidence, now)?;
    Ok(Plan {
        ring: after,
        commands,
        key_sets: ahead.key_sets.clone(),
        roots: ahead.roots.clone(),
        public_keys,
    })
}

/// Writes a plan down, in the caller's transaction.
pub(super) async fn carry_out(
    transition: &mut Transition<'_>,
    plan: &Plan,
    replayed: &Replayed,
) -> Result<(), RotationError> {
    let before = transition.ring.deny_list_serial();
    for root in &plan.roots {
        key_sets::insert_root(transition.connection, transition.environment, root, transition.now).await?;
    }
    for command in &plan.commands {
        let (after, events) = step(&transition.ring, command.clone(), transition.now)?;
        match command {
            Command::Recall(Recalled { key, at, .. }) if transition.ring.key(key.kid).is_none() => {
                let public_key = plan.public_keys.get(&key.kid).ok_or(RotationError::MissingKey(key.kid))?;
                let row =
                    lost_key(transition.environment, key, public_key.clone(), (*at).min(transition.now));
                signing_keys::insert(transition.connection, &row).await?;
            }
            Command::Adopt(Adopted { version, .. }) => {
                let set = plan.key_sets.iter().find(|set| set.manifest().version == *version);
                let set = set.ok_or(RotationError::Raced)?;
                key_sets::insert(transition.connection, transition.environment, &set.stored()).await?;
            }
            _ => {}
        }
        let written = key_rings::update(
            transition.connection,
            transition.environment,
            &transition.ring,
            &after,
            transition.now,
        );
        if !written.await? {
            return Err(RotationError::Raced);
        }
        for event in &events {
            let told = event.kid().map(|kid| (kid.to_string(), event.name().to_owned()));
            if !told.is_some_and(|told| replayed.0.contains(&told)) {
                audit::remember(transition, event, &after).await?;
            }
        }
        transition.ring = after;
    }
    if before < transition.ring.deny_list_serial() {
        transition.sign_deny_list().await?;
    }
    key_rings::notify(transition.connection, transition.environment).await?;
    Ok(())
}

/// A key of the lost time: its name and its public half are remembered; its private half is gone for good.
fn lost_key(environment: &str, key: &NewKey, public_key: Jwk, at: DateTime<Utc>) -> NewSigningKey {
    let private_half = Sealed { sealed_by: "lost".to_owned(), bytes: vec![], row_version: 1 };
    // The schema wants a life of 400 days at most; the true day of birth is at least that late.
    let earliest = key.not_after - TimeDelta::days(400);
    NewSigningKey {
        key: SealedKey {
            kid: key.kid,
            environment: environment.to_owned(),
            purpose: key.purpose,
            alg: key.alg,
            private_half,
        },
        public_key,
        generated_at: at.max(earliest),
        not_after: key.not_after,
    }
}

fn described(set: &SignedKeySet) -> Result<PublishedSet, RotationError> {
    let manifest = set.manifest();
    let mut keys = BTreeMap::new();
    for key in &manifest.keys {
        let alg = key.alg.name().parse().map_err(StorageError::corrupt)?;
        let purpose: Purpose = key.purpose;
        let not_after = instant(key.not_after.unix());
        keys.insert(key.kid, NewKey { kid: key.kid, purpose, alg, not_after });
    }
    let record = set.record(BTreeMap::new());
    Ok(PublishedSet {
        keys,
        denied: manifest
            .denied
            .iter()
            .map(|SignedDenial { kid, iat_after }| (*kid, denial(*iat_after)))
            .collect(),
        set: Adopted {
            version: record.version,
            digest: record.digest,
            prev: record.prev,
            carried: record.carried,
            max_token_ttl: record.max_token_ttl,
            at: instant(manifest.created.unix()),
            floor: manifest.min_deployable_version,
        },
    })
}

fn denial(iat_after: Option<token_authority_verifier::Timestamp>) -> Denial {
    iat_after.map_or(Denial::Always, |at| Denial::IssuedAfter(instant(at.unix())))
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_secs(seconds).unwrap_or_default()
}

/// Under the same id and instant as before: the chain of the audit then comes out the same.
async fn import(connection: &mut PgConnection, event: &AuditEvent) -> Result<(), RotationError> {
    let row = NewAuditEvent {
        id: event.id,
        at: event.at,
        actor: &event.actor,
        action: &event.action,
        subject_kind: &event.subject_kind,
        subject_id: &event.subject_id,
        reason: event.reason.as_deref(),
        before: event.before.clone(),
        after: event.after.clone(),
        request_id: event.request_id.as_deref(),
    };
    Ok(audit_events::insert(connection, &row).await?)
}
