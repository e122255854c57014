//! Admin tokens: made, shown once, revoked.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Changed, Circumstances, Expected, FulfillmentError, WrongValue};
use crate::domain::admin_scope::AdminScope;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::AdminTokenId;
use crate::keystore::{self, Keystore};
use crate::storage::admin_tokens::{self, AdminTokenRow};

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewAdminToken {
    pub name: String,
    /// At least one.
    pub scopes: Vec<AdminScope>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a token, shown this once. `giver` holds the scopes of whoever asks: nobody gives what they lack.
/// `None` for the operator at the command line.
///
/// # Errors
/// It would expire before it begins, or have a scope that its giver lacks.
pub async fn create(
    connection: &mut PgConnection,
    keystore: &Keystore,
    now: DateTime<Utc>,
    giver: Option<&[AdminScope]>,
    new: NewAdminToken,
) -> Result<(Changed<AdminTokenRow>, Credential), FulfillmentError> {
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        let detail = "must be in the future".to_owned();
        let wrong = WrongValue { member: "expires_at", code: "out_of_range", detail };
        return Err(FulfillmentError::Invalid(vec![wrong]));
    }
    let lacking = giver.and_then(|giver| new.scopes.iter().find(|scope| !giver.contains(scope)));
    if let Some(scope) = lacking {
        let why = format!("A token cannot give what it does not have, here the scope {scope}.");
        return Err(FulfillmentError::Forbidden(why));
    }
    let mut scopes = new.scopes;
    scopes.sort_unstable();
    scopes.dedup();
    let row = AdminTokenRow {
        id: AdminTokenId::generate(now),
        name: new.name,
        scopes,
        expires_at: new.expires_at,
        last_used_at: None,
        revoked_at: None,
        created_at: now,
    };
    let token = Credential::from_random(CredentialKind::AdminToken, &*keystore::random_bits()?);
    admin_tokens::insert(connection, &row, &keystore.digest(&token)).await?;
    Ok((Changed::without_effects(now, None, row), token))
}

/// Revokes a token, at once and for good.
///
/// # Errors
/// It is unknown, at another revision, or revoked already.
pub async fn revoke(
    connection: &mut PgConnection,
    circumstances: &Circumstances<'_>,
    id: AdminTokenId,
    expected: &Expected,
) -> Result<Changed<AdminTokenRow>, FulfillmentError> {
    let found = admin_tokens::find_for_update(connection, id).await?;
    let before = found.ok_or(FulfillmentError::NotFound("admin token"))?;
    expected.check(revision(&before))?;
    if before.revoked_at.is_some() {
        return Err(FulfillmentError::conflict("The token was revoked, which is final."));
    }
    let now = circumstances.date(connection).await?;
    admin_tokens::update_revoked(connection, id, now).await?;
    let after = AdminTokenRow { revoked_at: Some(now), ..before.clone() };
    Ok(Changed::without_effects(now, Some(before), after))
}

/// A token changes once: when it is revoked.
#[must_use]
pub fn revision(row: &AdminTokenRow) -> i64 {
    if row.revoked_at.is_some() { 2 } else { 1 }
}
