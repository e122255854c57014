//! The audit as a file: one line of JSON per event, and last a checkpoint that proves them all.

use std::io::{BufRead, Write};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use token_authority_verifier::{AuditCheckpoint, AuditCheckpointError, Verified};

use super::checkpoint::{self, CheckpointError, SignedCheckpoint};
use crate::domain::audit_chain::{AuditChainError, AuditEntry, AuditEvent, AuditLink};
use crate::keystore::sealing::KeyEncryption;
use crate::storage::{StorageError, events};

/// The last line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LastLine {
    checkpoint: String,
}

/// An export that was read to its end.
#[derive(Clone, Debug)]
pub struct ReadExport {
    end: AuditLink,
    checkpoint: String,
}

/// Why an export cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Chain(#[from] AuditChainError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "the checkpoint at the end is for event {signed}, but the export ends with {end}, or with another one"
    )]
    CheckpointElsewhere { signed: u64, end: u64 },
    #[error("line {line} is no event of an audit export")]
    Line { line: usize },
    #[error("the export ends without its checkpoint: it is cut off")]
    NoCheckpoint,
    #[error("line {line} follows the checkpoint, which is the last one")]
    PastCheckpoint { line: usize },
    #[error("could not read the audit")]
    Storage(#[from] StorageError),
    #[error("the checkpoint at the end is refused: {0}")]
    Unproved(#[from] AuditCheckpointError),
    #[error("the export cannot be read or written")]
    Unreadable(#[from] std::io::Error),
}

/// Writes every event that there is, and a checkpoint on the last of them. The caller's transaction sees one state of
/// the database ([`crate::storage::Database::begin_snapshot`]).
///
/// # Errors
/// A fault, or no key signs checkpoints; what was written is then no export.
pub async fn write(
    connection: &mut PgConnection,
    kek: &dyn KeyEncryption,
    environment: &str,
    now: DateTime<Utc>,
    mut to: impl Write,
) -> Result<SignedCheckpoint, ExportError> {
    let signed = checkpoint::sign(connection, kek, environment, now).await?;
    let mut after = 0;
    loop {
        let entries = events::list_entries(connection, after, PAGE).await?;
        let Some(last) = entries.last() else { break };
        after = last.sequence;
        for entry in &entries {
            write_line(&mut to, entry)?;
        }
    }
    write_line(&mut to, &LastLine { checkpoint: signed.jws.clone() })?;
    to.flush()?;
    Ok(signed)
}

/// Reads an export from its first line, follows its chain from the first event, and hands each event on. Whoever
/// takes them must not act on them before [`ReadExport::prove`] has passed.
///
/// # Errors
/// The chain is broken, or the export is cut off or no export.
pub fn read(export: impl BufRead, mut each: impl FnMut(AuditEvent)) -> Result<ReadExport, ExportError> {
    let mut end = AuditLink::START;
    let mut lines = (1..).zip(export.lines());
    for (line, text) in lines.by_ref() {
        let text = text?;
        if let Ok(LastLine { checkpoint }) = serde_json::from_str(&text) {
            return match lines.next() {
                None => Ok(ReadExport { end, checkpoint }),
                Some((line, _)) => Err(ExportError::PastCheckpoint { line }),
            };
        }
        let entry: AuditEntry = serde_json::from_str(&text).map_err(|_| ExportError::Line { line })?;
        end.follow(&entry)?;
        each(entry.read()?);
    }
    Err(ExportError::NoCheckpoint)
}

impl ReadExport {
    /// The last event.
    #[must_use]
    pub fn end(&self) -> AuditLink {
        self.end
    }

    /// The compact JWS of the last line.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Passes when the checkpoint is good by this verdict on it, and is for the last event: then every event is as
    /// the issuer recorded it.
    ///
    /// # Errors
    /// The checkpoint is refused, or signs for something else.
    pub fn prove(
        &self,
        verify: impl FnOnce(&str) -> Result<Verified<AuditCheckpoint>, AuditCheckpointError>,
    ) -> Result<Verified<AuditCheckpoint>, ExportError> {
        let checkpoint = verify(&self.checkpoint)?;
        if (checkpoint.sequence, checkpoint.digest) != (self.end.sequence, self.end.digest) {
            return Err(ExportError::CheckpointElsewhere {
                signed: checkpoint.sequence,
                end: self.end.sequence,
            });
        }
        Ok(checkpoint)
    }
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *to, line).map_err(std::io::Error::from)?;
    to.write_all(b"\n")?;
    Ok(())
}

/// What is held in memory at a time.
const PAGE: i64 = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_export_is_read_up_to_its_checkpoint() {
        let mut seen = Vec::new();
        let read = read(export(3).as_bytes(), |event| seen.push(event.subject_id)).unwrap();
        assert_eq!(seen, ["1", "2", "3"]);
        assert_eq!((read.end().sequence, read.checkpoint()), (3, "a.b.c"));
    }

    #[test]
    fn any_altered_removed_moved_or_inserted_line_is_noticed() {
        let lines: Vec<String> = export(4).lines().map(str::to_owned).collect();
        let refused = |lines: &[String]| read(lines.join("\n").as_bytes(), |_| {}).unwrap_err();
        let is_gap = |error| matches!(error, ExportError::Chain(AuditChainError::Gap { .. }));
        for at in 0..4 {
            let mut altered = lines.clone();
            altered[at] = altered[at].replace("\"actor\": \"test\"", "\"actor\": \"tset\"");
            let error = refused(&altered);
            let expected = at as u64 + 1;
            assert!(
                matches!(error, ExportError::Chain(AuditChainError::Altered { sequence }) if sequence == expected)
            );
            let mut inserted = lines.clone();
            inserted.insert(at, lines[at].clone());
            assert!(is_gap(refused(&inserted)) || at == 0 && is_gap(refused(&inserted)));
        }
        for at in 0..3 {
            let mut removed = lines.clone();
            removed.remove(at);
            assert!(is_gap(refused(&removed)));
            let mut moved = lines.clone();
            moved.swap(at, at + 1);
            assert!(is_gap(refused(&moved)));
        }
        assert!(matches!(refused(&lines[..4]), ExportError::NoCheckpoint));
        let mut longer = lines.clone();
        longer.push(lines[3].clone());
        assert!(matches!(refused(&longer), ExportError::PastCheckpoint { line: 6 }));
        assert!(matches!(refused(&["{}".to_owned()]), ExportError::Line { line: 1 }));
    }

    fn export(events: u64) -> String {
        let mut end = AuditLink::START;
        let mut lines = Vec::new();
        for sequence in 1..=events {
            let event = format!(
                "{{\"at\": \"2026-11-20T12:00:00.000000Z\", \"id\": \"01a1f98f-638c-7e41-a2c1-a5602970731c\", \
                 \"actor\": \"test\", \"after\": null, \"action\": \"t\", \"before\": null, \"reason\": null, \
                 \"sequence\": {sequence}, \"request_id\": null, \"subject_id\": \"{sequence}\", \"subject_kind\": \"s\"}}"
            );
            end = end.next(&event);
            let event = RawValue::from_string(event).unwrap();
            write_line(&mut lines, &AuditEntry { sequence, digest: end.digest, event }).unwrap();
        }
        write_line(&mut lines, &LastLine { checkpoint: "a.b.c".to_owned() }).unwrap();
        String::from_utf8(lines).unwrap()
    }
}
