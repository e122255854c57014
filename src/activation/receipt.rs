//! The receipt of a release as a document that outlives the answer: signed, and verifiable with the key set's manifest.

use serde_json::json;
use sqlx::PgConnection;
use token_authority_verifier::Typ;

use super::{ActivationError, Receipt};
use crate::domain::key_ring::Purpose;
use crate::keystore::sealing::KeyEncryption;
use crate::keystore::{KeystoreError, open_signer};
use crate::storage::signing_keys;

/// Signs what a release answered: a JWS with `typ: release-receipt+jwt`, by the key that signs audit checkpoints, since
/// it says what was recorded. The same release has the same receipt, whenever it is asked for. `None` while no such key
/// is active.
///
/// # Errors
/// The key does not open, or the database cannot be read.
pub async fn sign_receipt(
    connection: &mut PgConnection,
    kek: &dyn KeyEncryption,
    environment: &str,
    issuer: &str,
    receipt: &Receipt,
) -> Result<Option<String>, ActivationError> {
    let active = signing_keys::list_active(connection, environment).await?;
    let Some(active) = active.into_iter().find(|key| key.purpose == Purpose::AuditCheckpoints) else {
        return Ok(None);
    };
    let sealed = signing_keys::find_sealed(connection, environment, &active.kid.to_string()).await?;
    let signer = open_signer(kek, &sealed.ok_or(KeystoreError::NoPrivateHalf)?, Purpose::AuditCheckpoints)?;
    let payload = json!({
        "iss": issuer,
        "sub": receipt.uid,
        "iat": receipt.released_at.timestamp(),
        "state": "released",
        "released_at": receipt.released_at,
        "place_held_until": receipt.place_held_until,
    });
    Ok(Some(signer.sign_as(Typ::ReleaseReceipt, payload.to_string().as_bytes())?))
}
