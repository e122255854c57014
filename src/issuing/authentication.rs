//! Tells whether a caller is the instance it claims to be, and what using a secret does to the other one.

use chrono::{DateTime, TimeDelta, Utc};
use subtle::ConstantTimeEq;

use super::request::CallerProof;
use crate::domain::ids::InstanceCredentialId;
use crate::storage::facts::{CredentialFacts, InstanceFacts};
use crate::storage::instance_credentials::CredentialUse;

/// Who proved to be the instance.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The secret that was used; `None` for an assertion.
    pub credential: Option<InstanceCredentialId>,
    /// What must be recorded of the use of a secret.
    pub effect: Option<CredentialUse>,
    /// The assertion was by the key whose place another one took.
    pub by_previous_key: bool,
    /// Of two registered keys the newer was used for the first time: the older ends then.
    pub previous_key_dies_at: Option<DateTime<Utc>>,
}

/// The caller, if the proof fits. The same work is done for unknown, wrong and expired.
#[must_use]
pub fn authenticate(
    facts: Option<&InstanceFacts>,
    proof: &CallerProof,
    now: DateTime<Utc>,
) -> Option<Authenticated> {
    match proof {
        CallerProof::Assertion(assertion) => {
            let public_key = facts.and_then(|facts| facts.public_key.as_deref());
            let previous = facts.and_then(|facts| facts.previous_key.as_ref());
            let previous = previous.filter(|key| key.dies_at.is_none_or(|dies_at| now < dies_at));
            let is_by = assertion.is_by(public_key.unwrap_or(&NO_KEY), now) && public_key.is_some();
            let is_by_previous =
                !is_by && previous.is_some_and(|previous| assertion.is_by(&previous.public_key, now));
            let ends = previous.is_some_and(|previous| is_by && previous.dies_at.is_none());
            (is_by || is_by_previous).then_some(Authenticated {
                credential: None,
                effect: None,
                by_previous_key: is_by_previous,
                previous_key_dies_at: ends.then(|| now + OVERLAP),
            })
        }
        CallerProof::Secret { digest, .. } => {
            let credentials = facts.map_or(&[][..], |facts| &facts.credentials);
            let mut found = None;
            for credential in credentials {
                if bool::from(credential.digest.as_slice().ct_eq(digest)) {
                    found = Some(credential);
                }
            }
            if credentials.is_empty() {
                let _ = NO_DIGEST.as_slice().ct_eq(digest);
            }
            let used = found.filter(|credential| credential.is_live(now))?;
            let contested = facts.is_some_and(|facts| facts.is_contested);
            Some(Authenticated {
                credential: Some(used.id),
                effect: effect(credentials, used, contested, now),
                by_previous_key: false,
                previous_key_dies_at: None,
            })
        }
    }
}

/// An overlap ends this long after the newer secret, or the newer key, was first used.
pub const OVERLAP: TimeDelta = TimeDelta::days(7);

impl CredentialFacts {
    /// Whether it opens anything at `now`.
    #[must_use]
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.dies_at.is_none_or(|dies_at| now < dies_at)
    }
}

/// With a single secret nothing is recorded: that is nearly every sync. While two live,
/// the first use of the newer one sets the end of the older; a use of the older one after
/// that, unless the instance itself rotated, means that two installations share an identity.
fn effect(
    credentials: &[CredentialFacts],
    used: &CredentialFacts,
    contested: bool,
    now: DateTime<Utc>,
) -> Option<CredentialUse> {
    let mut live = credentials.iter().filter(|credential| credential.is_live(now));
    let (older, newer) = (live.next()?, live.next()?);
    let mut effect = CredentialUse {
        id: used.id,
        at: now,
        first_use: used.first_used_at.is_none(),
        older_dies_at: None,
        contested: false,
    };
    if used.id == newer.id && newer.first_used_at.is_none() && !contested {
        effect.older_dies_at = Some((older.id, Some(now + OVERLAP)));
    }
    if used.id == older.id && newer.first_used_at.is_some() && !newer.by_rotation && !contested {
        effect.contested = true;
        effect.older_dies_at = Some((older.id, None));
    }
    let stale = used.last_used_at.is_none_or(|last| now - last >= USE_RESOLUTION);
    (effect.first_use || effect.older_dies_at.is_some() || stale).then_some(effect)
}

/// How exactly the last use of a secret is recorded while two live.
const USE_RESOLUTION: TimeDelta = TimeDelta::minutes(1);
const NO_DIGEST: [u8; 32] = [0; 32];
/// The base point's encoding: a valid point whose private half nobody uses here.
const NO_KEY: [u8; 32] = {
    let mut point = [0x66; 32];
    point[0] = 0x58;
    point
};
