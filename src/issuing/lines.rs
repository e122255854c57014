//! Notices two installations that use one identity, by the one-time values that they bring back.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::PgConnection;

use super::batch::{Batch, BatchError, Step};
use super::request::SyncRequest;
use crate::domain::ids::{AuditEventId, InstanceUid};
use crate::domain::sync_line::{Brought, Link, Verdict, judge};
use crate::keystore::{self, Keystore, KeystoreError};
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::{instances, sync_lines};

/// The value that each request of a batch is handed out; `None` for one that takes no part, or is refused.
pub(super) type NextValues = Vec<Option<String>>;

impl<'a> Batch<'a> {
    /// Follows the lines of those that take part, in the order of the batch.
    pub(super) async fn follow_lines(
        &self,
        connection: &mut PgConnection,
        requests: &[SyncRequest],
        steps: &mut [Step<'a>],
    ) -> Result<NextValues, BatchError> {
        let mut next: NextValues = vec![None; requests.len()];
        let uids: Vec<InstanceUid> = requests
            .iter()
            .zip(&*steps)
            .filter(|(request, step)| request.line.is_some() && step.mint().is_some())
            .map(|(request, _)| request.caller.uid())
            .collect();
        if uids.is_empty() {
            return Ok(next);
        }
        let mut seen = sync_lines::list(connection, &uids).await?;
        let (mut moved, mut forked) = (HashMap::new(), HashSet::new());
        for ((request, step), next) in requests.iter().zip(steps.iter_mut()).zip(&mut next) {
            let (Some(brought), Some(mint)) = (request.line, step.mint_mut()) else { continue };
            let uid = mint.instance.uid;
            if let Brought::Value(link) = brought {
                match judge(seen.get(&uid).copied(), link) {
                    Verdict::Continues => {
                        seen.insert(uid, link.id);
                        moved.insert(uid, link.id);
                    }
                    Verdict::Forks => {
                        mint.is_contested = true;
                        if !mint.instance.is_contested {
                            forked.insert(uid);
                        }
                    }
                    Verdict::Repeats => {}
                }
            }
            *next = Some(hand_out(&self.shared.keystore, uid, brought)?);
        }
        if !moved.is_empty() {
            sync_lines::upsert_all(connection, &moved, self.now).await?;
        }
        for uid in forked {
            self.contest(connection, uid).await?;
        }
        Ok(next)
    }

    /// Tells the administrators: the instance is marked, and the audit has a row.
    async fn contest(&self, connection: &mut PgConnection, uid: InstanceUid) -> Result<(), BatchError> {
        if !instances::update_contested(connection, uid, self.now).await? {
            return Ok(());
        }
        let event = NewAuditEvent {
            id: AuditEventId::generate(self.now),
            at: self.now,
            actor: &format!("instance:{uid}"),
            action: "instance.identity_contested",
            subject_kind: "instance",
            subject_id: &uid.to_string(),
            reason: Some("two installations brought one-time values of different lines"),
            before: None,
            after: None,
            request_id: None,
        };
        Ok(audit_events::insert(connection, &event).await?)
    }
}

/// What a request that takes part brings: the text that it gives as its value, if any. Whatever was never handed out
/// to this instance counts as nothing: it must not lock anybody out.
#[must_use]
pub fn brought(keystore: &Keystore, uid: InstanceUid, text: Option<&str>) -> Brought {
    let sealed = text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let opened = sealed.and_then(|sealed| keystore.open_answer(&belongs_to(uid), &sealed));
    opened.and_then(|bytes| Link::from_bytes(&bytes)).map_or(Brought::Nothing, Brought::Value)
}

fn hand_out(keystore: &Keystore, uid: InstanceUid, brought: Brought) -> Result<String, KeystoreError> {
    let bits = keystore::random_bits()?;
    let mut id = [0; 16];
    id.copy_from_slice(&bits[..16]);
    let sealed = keystore.seal_answer(&belongs_to(uid), &brought.next(id).to_bytes())?;
    Ok(URL_SAFE_NO_PAD.encode(sealed))
}

/// A value of one instance says nothing of another.
fn belongs_to(uid: InstanceUid) -> Vec<u8> {
    [LABEL, uid.as_uuid().as_bytes().as_slice()].concat()
}

const LABEL: &[u8] = b"sync_value\0";
