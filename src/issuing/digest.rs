//! Recognizes an identical sync: a digest over who asked, what was asked and what was decided.

use sha2::{Digest, Sha256};

use super::keys::Keys;
use super::request::{SyncRequest, TokenForm};
use crate::domain::catalog::Catalog;
use crate::domain::ids::InstanceCredentialId;
use crate::domain::key_ring::Algorithm;
use crate::domain::token_plan::BackendGrants;
use crate::storage::facts::InstanceFacts;

/// Covers the instance, the credential, the body without `usage`, the decision (per
/// backend: scopes, seats, realm, end of the grant), the catalog and the keys that sign it.
/// What is not in here may change without making a retry a new sync: the time.
#[must_use]
pub(super) fn sync_digest(
    request: &SyncRequest,
    instance: &InstanceFacts,
    credential: Option<InstanceCredentialId>,
    granted: &[BackendGrants],
    catalog: &Catalog,
    keys: &Keys<'_>,
) -> [u8; 16] {
    let mut text = Vec::with_capacity(768);
    text.extend_from_slice(instance.uid.as_uuid().as_bytes());
    text.extend_from_slice(instance.instance_id.as_uuid().as_bytes());
    text.extend_from_slice(credential.map(|id| id.as_uuid()).unwrap_or_default().as_bytes());
    let version = request.version.as_ref().unwrap_or(&instance.situation.instance.version);
    member(&mut text, version.to_string().as_bytes());
    member(&mut text, request.hostname.as_deref().unwrap_or_default().as_bytes());
    text.push(u8::from(request.explain));
    match &request.backends {
        None => text.push(0),
        Some(backends) => {
            text.push(1);
            number(&mut text, backends.len() as u64);
            for backend in backends {
                member(&mut text, backend.as_ref().as_bytes());
            }
        }
    }
    match request.form {
        TokenForm::PerBackend => text.push(0),
        TokenForm::Joint { lifetime } => {
            text.push(1);
            number(&mut text, lifetime.num_seconds() as u64);
        }
    }
    // Which scopes were asked for shows in what is granted; that they were asked for shows here.
    text.push(u8::from(request.scopes.is_some()));
    member(&mut text, instance.situation.instance.realm.claim().as_bytes());
    let mut signing = [None, None];
    for BackendGrants { backend, grants } in granted {
        // Indexes say what names would: the catalog's digest is part of this one.
        number(&mut text, *backend as u64);
        number(&mut text, grants.len() as u64);
        let alg = keys.alg_of(catalog, *backend);
        signing[usize::from(alg == Algorithm::Rs256)] = keys.key(alg).map(|key| key.kid.as_str());
        text.push(u8::from(alg == Algorithm::Rs256));
        let mut last = None;
        for grant in grants {
            // Most of a backend's grants share their end and seats: those are told once for all in a row.
            let shared = (grant.ends_at, grant.seats);
            if last != Some(shared) {
                last = Some(shared);
                text.push(1);
                number(&mut text, grant.ends_at.map_or(u64::MAX, |end| end.timestamp_micros() as u64));
                number(&mut text, grant.seats.unwrap_or_default());
            }
            text.push(0);
            text.extend_from_slice(&(grant.unit_primitive as u32).to_le_bytes());
        }
    }
    member(&mut text, catalog.digest().as_str().as_bytes());
    for kid in signing {
        member(&mut text, kid.unwrap_or_default().as_bytes());
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&Sha256::digest(&text)[..16]);
    digest
}

/// With its length before it, so that no two texts run together.
fn member(text: &mut Vec<u8>, bytes: &[u8]) {
    number(text, bytes.len() as u64);
    text.extend_from_slice(bytes);
}

fn number(text: &mut Vec<u8>, number: u64) {
    text.extend_from_slice(&number.to_le_bytes());
}
