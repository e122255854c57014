//! `keys generate`: a new key, sealed and tested, that nobody else knows yet.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::RotationError;
use super::site::Site;
use crate::domain::key_ring::{Algorithm, Kid, Purpose};
use crate::keystore::generate_key;

/// A key is trusted this long at most, whatever happens.
pub(super) const LIFE: TimeDelta = TimeDelta::days(400);

/// What kind of key is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub purpose: Purpose,
    pub alg: Algorithm,
    /// The hard end; 400 days from now where it is not said.
    pub not_after: Option<DateTime<Utc>>,
}

/// The key that was made.
#[derive(Clone, Copy, Debug)]
pub struct Generated {
    pub kid: Kid,
    pub purpose: Purpose,
    pub alg: Algorithm,
    pub not_after: DateTime<Utc>,
}

/// Makes a key, proves that what was sealed opens and signs, and takes it in.
///
/// # Errors
///
/// The refusals of [`RotationError`]; nothing was changed then.
pub async fn generate(site: &Site<'_>, wanted: Wanted) -> Result<Generated, RotationError> {
    let Wanted { purpose, alg, not_after } = wanted;
    // What is not a token is read by our own verifier alone, which knows Ed25519 best.
    if purpose != Purpose::AccessTokens && alg != Algorithm::EdDsa {
        return Err(RotationError::AlgorithmUnavailable { alg, purpose });
    }
    let fresh = generate_key(site.kek, site.environment, purpose, alg)?;
    let kid = fresh.key.kid;
    let mut change = site.begin().await?;
    let latest = end_of_life(change.now);
    // Whole seconds, as manifests tell it.
    let not_after = not_after.map_or(latest, |at| at.trunc_subsecs(0));
    if not_after > latest {
        return Err(RotationError::LivesTooLong { not_after, latest });
    }
    change.transition(None).generate(fresh, not_after).await?;
    change.commit().await?;
    Ok(Generated { kid, purpose, alg, not_after })
}

/// Whole seconds, as manifests tell it.
pub(super) fn end_of_life(now: DateTime<Utc>) -> DateTime<Utc> {
    now.trunc_subsecs(0) + LIFE
}
