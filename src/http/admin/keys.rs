//! `/admin/v1/keys`: every signing key that ever was. Keys are changed by the command line.

use actix_web::HttpResponse;
use serde::Serialize;
use token_authority_verifier::Jwk;

use super::described::Pages;
use super::desk::Desk;
use super::page::PageView;
use crate::domain::admin_scope::AdminScope;
use crate::domain::key_ring::{Algorithm, Denial, KeyState, Kid, Purpose};
use crate::http::error::ApiError;
use crate::http::time::WireTime;
use crate::storage::signing_keys::{self, ListedKey};

/// A signing key, less its private half.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeyView {
    /// The RFC 7638 thumbprint of the public half.
    kid: String,
    /// `access_tokens`, `audit_checkpoints` or `deny_list`.
    purpose: &'static str,
    alg: &'static str,
    /// `generated`, `published`, `active`, `retiring`, `retired`, `revoked` or `abandoned`.
    state: &'static str,
    generated_at: WireTime,
    /// After this instant nothing that it signed is valid.
    not_after: WireTime,
    /// The key set that brought it.
    published_in: Option<u32>,
    published_at: Option<WireTime>,
    /// Evidence that backends hold it counts from then on.
    armed_at: Option<WireTime>,
    activated_at: Option<WireTime>,
    demoted_at: Option<WireTime>,
    denied: Option<KeyDenialView>,
    #[schema(value_type = Object)]
    public_key: Jwk,
}

/// Its entry on the deny list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct KeyDenialView {
    /// Tokens that were issued later are refused; all of them where it is `null`.
    issued_after: Option<WireTime>,
}

impl From<&ListedKey> for KeyView {
    fn from(listed: &ListedKey) -> Self {
        let key = &listed.key;
        Self {
            kid: key.kid.to_string(),
            purpose: key.purpose.name(),
            alg: key.alg.as_str(),
            state: key.state.as_str(),
            generated_at: WireTime(listed.generated_at),
            not_after: WireTime(key.not_after),
            published_in: key.published.map(|published| published.version),
            published_at: key.published.map(|published| WireTime(published.at)),
            armed_at: key.armed_at.map(WireTime),
            activated_at: key.activated_at.map(WireTime),
            demoted_at: key.demoted_at.map(WireTime),
            denied: key.denial.map(|denial| KeyDenialView {
                issued_after: match denial {
                    Denial::Always => None,
                    Denial::IssuedAfter(at) => Some(WireTime(at)),
                },
            }),
            public_key: listed.public_key.clone(),
        }
    }
}

/// `GET /admin/v1/keys`
#[utoipa::path(get, operation_id = "keys_list", path = "/admin/v1/keys", tag = "keys", security(("admin_token" = ["audit:read"])),
    params(("state" = inline(Option<String>), Query, nullable = false, description = "Such as `active`"),
           ("purpose" = inline(Option<String>), Query, nullable = false, description = "Such as `access_tokens`"),
           ("alg" = inline(Option<String>), Query, nullable = false, description = "`EdDSA` or `RS256`"),
           Pages),
    responses((status = 200, description = "A page of keys, in the order in which they were made", body = PageView<KeyView>)))]
pub(crate) async fn list(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let mut query = desk.query();
    let state: Option<KeyState> = query.parse("state");
    let purpose: Option<Purpose> = query.parse("purpose");
    let alg: Option<Algorithm> = query.parse("alg");
    let page = desk.page::<i16>(query)?;
    let environment = desk.app.settings.environment.as_str();
    // A few dozen in all the years of a deployment.
    let mut keys = signing_keys::list(&mut *desk.read().await?, environment).await?;
    keys.retain(|listed| {
        page.after.is_none_or(|after| listed.number > after)
            && state.is_none_or(|state| listed.key.state == state)
            && purpose.is_none_or(|purpose| listed.key.purpose == purpose)
            && alg.is_none_or(|alg| listed.key.alg == alg)
    });
    keys.truncate(usize::try_from(page.fetch()).map_err(ApiError::fault)?);
    page.answer(&desk, keys, |listed| listed.number, |listed| KeyView::from(listed))
}

/// `GET /admin/v1/keys/{kid}`
#[utoipa::path(get, operation_id = "keys_read", path = "/admin/v1/keys/{kid}", tag = "keys", security(("admin_token" = ["audit:read"])),
    params(("kid" = String, Path)),
    responses((status = 200, description = "The key", body = KeyView)))]
pub(crate) async fn read(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::AuditRead).await?;
    let kid: Kid = desk.segment("kid", KIND)?;
    desk.query().done()?;
    let environment = desk.app.settings.environment.as_str();
    let keys = signing_keys::list(&mut *desk.read().await?, environment).await?;
    let found = keys.iter().find(|listed| listed.key.kid == kid).ok_or_else(|| ApiError::not_found(KIND))?;
    Ok(HttpResponse::Ok().json(KeyView::from(found)))
}

const KIND: &str = "key";
