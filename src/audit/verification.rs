//! Finds what was altered, removed or slipped in.

use sqlx::PgConnection;
use token_authority_verifier::{AuditCheckpoint, Verified};

use crate::domain::audit_chain::{AuditEntry, AuditLink};
use crate::domain::ids::AuditEventId;
use crate::storage::StorageError;
use crate::storage::events::{self, StoredEvent};

/// What a look at every event has shown.
#[derive(Clone, Debug)]
pub struct Verification {
    /// How many events there are.
    pub events: u64,
    /// The last one.
    pub end: AuditLink,
    /// In the order of the events; none when the audit is as it was recorded.
    pub findings: Vec<Finding>,
}

/// One thing that is not as it was recorded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Finding {
    #[error("event {sequence} was altered, or its digest was")]
    Altered { sequence: u64 },
    #[error(
        "the audit ends with event {end}, but the checkpoint was signed for event {signed}: events were removed, or this is an older copy"
    )]
    BehindCheckpoint { end: u64, signed: u64 },
    #[error("event {sequence} is another one than the checkpoint was signed for: the audit was written anew")]
    DiffersFromCheckpoint { sequence: u64 },
    #[error("the audit row {id} was inserted past the triggers: no event numbers it")]
    Inserted { id: AuditEventId },
    #[error(
        "event {sequence} is found under another actor, action, subject, time or request than it tells of"
    )]
    Mislabeled { sequence: u64 },
    #[error("events {first} to {last} were removed")]
    Removed { first: u64, last: u64 },
    #[error("the audit row of event {sequence} was removed")]
    RowRemoved { sequence: u64 },
}

/// Follows the chain from its first event to its last. A checkpoint, kept elsewhere, shows as well whether the end is
/// missing or everything was chained anew. The caller's transaction sees one state of the database
/// ([`crate::storage::Database::begin_snapshot`]).
///
/// # Errors
/// The database cannot be read.
pub async fn verify(
    connection: &mut PgConnection,
    checkpoint: Option<&Verified<AuditCheckpoint>>,
) -> Result<Verification, StorageError> {
    let mut end = AuditLink::START;
    let mut seen = 0;
    let mut findings = Vec::new();
    loop {
        let page = events::list_stored(connection, end.sequence, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for event in page {
            seen += 1;
            end = judge(end, event, checkpoint, &mut findings);
        }
    }
    if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.sequence > end.sequence) {
        let (end, signed) = (end.sequence, checkpoint.sequence);
        findings.push(Finding::BehindCheckpoint { end, signed });
    }
    let unnumbered = events::list_unnumbered(connection, MOST_LISTED).await?;
    findings.extend(unnumbered.into_iter().map(|id| Finding::Inserted { id }));
    Ok(Verification { events: seen, end, findings })
}

/// Judges the event after `end` and returns its link as it is stored: one broken link hides none behind it.
fn judge(
    mut end: AuditLink,
    event: StoredEvent,
    checkpoint: Option<&Verified<AuditCheckpoint>>,
    findings: &mut Vec<Finding>,
) -> AuditLink {
    let StoredEvent { link, text, is_labeled_right } = event;
    let sequence = link.sequence;
    if sequence > end.sequence + 1 {
        findings.push(Finding::Removed { first: end.sequence + 1, last: sequence - 1 });
        // What follows a gap cannot be judged by the one before it.
        if text.is_none() {
            findings.push(Finding::RowRemoved { sequence });
        }
    } else if let Some(event) = text {
        let entry = AuditEntry { sequence, digest: link.digest, event };
        match end.follow(&entry) {
            Ok(()) => {
                if entry.read().is_err() || !is_labeled_right {
                    findings.push(Finding::Mislabeled { sequence });
                }
            }
            Err(_) => findings.push(Finding::Altered { sequence }),
        }
    } else {
        findings.push(Finding::RowRemoved { sequence });
    }
    if checkpoint.is_some_and(|signed| signed.sequence == sequence && signed.digest != link.digest) {
        findings.push(Finding::DiffersFromCheckpoint { sequence });
    }
    link
}

/// What is held in memory at a time.
const PAGE: i64 = 1_000;

/// More rows than these were inserted by one hand, and need no list.
const MOST_LISTED: i64 = 1_000;
