//! The signed word on how far the audit goes.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use token_authority_verifier::{AuditCheckpoint, AuditCheckpointError, Timestamp};

use crate::domain::audit_chain::AuditLink;
use crate::domain::key_ring::Purpose;
use crate::keystore::sealing::KeyEncryption;
use crate::keystore::{KeystoreError, open_signer};
use crate::storage::{StorageError, events, key_rings, signing_keys};

/// A checkpoint with its signature.
#[derive(Clone, Debug)]
pub struct SignedCheckpoint {
    pub checkpoint: AuditCheckpoint,
    /// A compact JWS, which [`AuditCheckpoint::verify`] reads.
    pub jws: String,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint cannot be written: {0}")]
    Document(#[from] AuditCheckpointError),
    #[error("no key of the environment `{environment}` signs audit checkpoints")]
    NoKey { environment: String },
    #[error("could not sign the checkpoint")]
    Signing(#[from] KeystoreError),
    #[error("could not read the audit")]
    Storage(#[from] StorageError),
}

/// Signs for everything up to the last event that this transaction can see.
///
/// # Errors
/// No key signs checkpoints, or a fault.
pub async fn sign(
    connection: &mut PgConnection,
    kek: &dyn KeyEncryption,
    environment: &str,
    now: DateTime<Utc>,
) -> Result<SignedCheckpoint, CheckpointError> {
    let no_key = || CheckpointError::NoKey { environment: environment.to_owned() };
    let AuditLink { sequence, digest } = events::find_end(connection).await?;
    let issuer = key_rings::find_issuer(connection, environment).await?.ok_or_else(no_key)?;
    let active = signing_keys::list_active(connection, environment).await?;
    let active = active.iter().find(|key| key.purpose == Purpose::AuditCheckpoints).ok_or_else(no_key)?;
    let kid = active.kid.to_string();
    let key = signing_keys::find_sealed(connection, environment, &kid).await?.ok_or_else(no_key)?;
    let checkpoint = AuditCheckpoint {
        issuer,
        environment: environment.to_owned(),
        sequence,
        digest,
        created: Timestamp::from_unix(now.timestamp()).unwrap_or(Timestamp::MAX),
    };
    let jws = open_signer(kek, &key, Purpose::AuditCheckpoints)?
        .sign_input(checkpoint.signing_input(active.kid)?)?;
    Ok(SignedCheckpoint { checkpoint, jws })
}
