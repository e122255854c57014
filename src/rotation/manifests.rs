//! The recorded manifests as the roots prove them, for those who look for a key that is gone from the newest.

use sqlx::PgConnection;
use token_authority_verifier::{AuditCheckpoint, AuditCheckpointError, Manifest, SignedManifest, Verified};

use super::{RotationError, roots};
use crate::storage::key_sets;

/// Every recorded manifest, newest first, each signed by its root.
///
/// # Errors
///
/// The database cannot be read, or what it holds is not signed by a chain of roots.
pub async fn list(
    connection: &mut PgConnection,
    environment: &str,
) -> Result<Vec<Verified<Manifest>>, RotationError> {
    let mut manifests = Vec::new();
    for summary in key_sets::list(connection, environment).await?.iter().rev() {
        let Some(stored) = key_sets::find(connection, environment, summary.version).await? else { continue };
        let root = roots::find_verified(connection, environment, stored.root_version).await?;
        let root =
            root.ok_or_else(|| RotationError::NotInitialized { environment: environment.to_owned() })?;
        manifests.push(SignedManifest::parse(&stored.manifest)?.verify(&root)?);
    }
    Ok(manifests)
}

/// The verdict on an audit checkpoint by the newest of these manifests, newest first, that holds its key. A denial in
/// a later one counts.
///
/// # Errors
///
/// See [`AuditCheckpointError`].
pub fn verify_checkpoint(
    manifests: &[Verified<Manifest>],
    jws: &str,
) -> Result<Verified<AuditCheckpoint>, AuditCheckpointError> {
    let kid = AuditCheckpoint::signer(jws)?;
    let known = manifests.iter().position(|manifest| manifest.find(kid).is_some());
    let (later, manifest) = match known {
        Some(at) => (&manifests[..at], &manifests[at]),
        None => return Err(AuditCheckpointError::KeyUnknown(kid)),
    };
    let checkpoint = AuditCheckpoint::verify(jws, manifest)?;
    let denied = later
        .iter()
        .flat_map(|manifest| &manifest.denied)
        .any(|denial| denial.kid == kid && denial.iat_after.is_none_or(|last| checkpoint.created > last));
    if denied { Err(AuditCheckpointError::KeyEnded(kid)) } else { Ok(checkpoint) }
}
