//! The audit as a chain: each event's digest covers the one before it, so that one digest stands for all of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use token_authority_verifier::Digest;

use super::ids::AuditEventId;

/// The place of one event in the chain. The one before the first is [`AuditLink::START`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuditLink {
    pub sequence: u64,
    pub digest: Digest,
}

/// One event as it is exported: a line of JSON.
///
/// The digest covers `event` byte for byte as it stands in the line, and the digest before it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    pub sequence: u64,
    pub digest: Digest,
    pub event: Box<RawValue>,
}

/// What an event tells.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AuditEvent {
    pub sequence: u64,
    pub id: AuditEventId,
    pub at: DateTime<Utc>,
    /// Who did it, such as `admin_token:<id> <name>` or `instance:<uid>`.
    pub actor: String,
    /// What was done, such as `license.revoke`.
    pub action: String,
    /// What it was done to, such as `license`.
    pub subject_kind: String,
    pub subject_id: String,
    pub reason: Option<String>,
    /// The record as it was; `None` for one that was new.
    pub before: Option<Value>,
    pub after: Option<Value>,
    pub request_id: Option<String>,
}

/// Why a chain does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuditChainError {
    #[error("event {sequence} was altered, or one before it")]
    Altered { sequence: u64 },
    #[error("event {expected} is missing; event {found} follows instead")]
    Gap { expected: u64, found: u64 },
    #[error("event {sequence} tells of itself as something else")]
    Mislabeled { sequence: u64 },
}

impl AuditLink {
    /// Before the first event.
    pub const START: Self = Self { sequence: 0, digest: Digest::new([0; 32]) };

    /// The link of the event that tells `text` and comes right after this one.
    #[must_use]
    pub fn next(&self, text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.digest.as_bytes());
        hash.update(text.as_bytes());
        Self { sequence: self.sequence + 1, digest: Digest::new(hash.finalize().into()) }
    }

    /// Goes on to `entry`, if it comes right after this link as it was chained.
    ///
    /// # Errors
    /// An event is missing, or it or one before it was altered.
    pub fn follow(&mut self, entry: &AuditEntry) -> Result<(), AuditChainError> {
        let next = self.next(entry.event.get());
        if entry.sequence != next.sequence {
            return Err(AuditChainError::Gap { expected: next.sequence, found: entry.sequence });
        }
        if entry.digest != next.digest {
            return Err(AuditChainError::Altered { sequence: entry.sequence });
        }
        *self = next;
        Ok(())
    }
}

impl AuditEntry {
    /// What the event tells, which is to be believed only once its chain is proved.
    ///
    /// # Errors
    /// It is no event, or one of another number.
    pub fn read(&self) -> Result<AuditEvent, AuditChainError> {
        let mislabeled = AuditChainError::Mislabeled { sequence: self.sequence };
        match serde_json::from_str::<AuditEvent>(self.event.get()) {
            Ok(event) if event.sequence == self.sequence => Ok(event),
            _ => Err(mislabeled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema computes must be what this computes: a known answer stands between them.
    #[test]
    fn the_first_digest_is_the_known_one() {
        let first = AuditLink::START.next("{\"a\": 1}");
        let known = "sha256:339f3f3c1c1483358b024d55c56fb7f6375321e435e54ae827ef471444137f00";
        assert_eq!((first.sequence, first.digest.to_string().as_str()), (1, known));
    }

    #[test]
    fn a_digest_covers_the_bytes_and_not_their_meaning() {
        let event = RawValue::from_string("{\"a\":1}".to_owned()).unwrap();
        let entry = AuditEntry { sequence: 1, digest: AuditLink::START.next("{\"a\": 1}").digest, event };
        assert_eq!(AuditLink::START.clone().follow(&entry), Err(AuditChainError::Altered { sequence: 1 }));
    }

    #[test]
    fn an_event_under_another_number_is_not_believed() {
        let text = "{\"sequence\": 2}".to_owned();
        let digest = AuditLink::START.next(&text).digest;
        let entry = AuditEntry { sequence: 1, digest, event: RawValue::from_string(text).unwrap() };
        assert_eq!(AuditLink::START.clone().follow(&entry), Ok(()));
        assert_eq!(entry.read(), Err(AuditChainError::Mislabeled { sequence: 1 }));
    }
}
