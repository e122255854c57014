//! Pages by key: each goes on after the last record of the one before, whatever was added meanwhile.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::desk::Desk;
use super::resource::Resource;
use crate::http::error::ApiError;
use crate::keystore::Keystore;

/// Which page of a list is asked for. `C` is what the list is sorted by.
#[derive(Debug)]
pub(crate) struct Page<C> {
    pub(super) after: Option<C>,
    pub(super) limit: i64,
    pub(super) belongs_to: Vec<u8>,
}

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PageView<V> {
    pub(super) items: Vec<V>,
    /// Give it as `page_token` to read on; missing on the last page.
    pub(super) next_page_token: Option<String>,
}

impl<C: FromStr> Page<C> {
    /// What the token that `answer` made says; `None` for any other text.
    pub(crate) fn open(keystore: &Keystore, belongs_to: &[u8], token: &str) -> Option<C> {
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let last = keystore.open_answer(belongs_to, &sealed)?;
        std::str::from_utf8(&last).ok()?.parse().ok()
    }
}

impl<C: Display> Page<C> {
    /// How many rows to read: one more than are shown tells whether there are more.
    pub(crate) fn fetch(&self) -> i64 {
        self.limit + 1
    }

    /// The page with these rows, of which there are at most [`Page::fetch`].
    ///
    /// # Errors
    /// A fault.
    pub(crate) fn answer<R, V: Serialize>(
        &self,
        desk: &Desk,
        mut rows: Vec<R>,
        key: impl FnOnce(&R) -> C,
        view: impl FnMut(&R) -> V,
    ) -> Result<HttpResponse, ApiError> {
        let limit = usize::try_from(self.limit).map_err(ApiError::fault)?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_more).map(key);
        self.shown(desk, rows.iter().map(view).collect(), last)
    }

    /// The page with these items; another follows after `last`, if there is one.
    ///
    /// # Errors
    /// A fault.
    pub(crate) fn shown<V: Serialize>(
        &self,
        desk: &Desk,
        items: Vec<V>,
        last: Option<C>,
    ) -> Result<HttpResponse, ApiError> {
        let next_page_token = last.map(|last| self.seal(&desk.app.keystore, &last)).transpose()?;
        Ok(HttpResponse::Ok().json(PageView::<V> { items, next_page_token }))
    }

    /// The page of these records.
    ///
    /// # Errors
    /// A fault.
    pub(crate) fn of<R: Resource>(
        &self,
        desk: &Desk,
        rows: Vec<R>,
        key: impl FnOnce(&R) -> C,
    ) -> Result<HttpResponse, ApiError> {
        let seen = desk.seen();
        self.answer(desk, rows, key, |row| row.view(seen))
    }

    fn seal(&self, keystore: &Keystore, last: &C) -> Result<String, ApiError> {
        let sealed =
            keystore.seal_answer(&self.belongs_to, last.to_string().as_bytes()).map_err(ApiError::fault)?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }
}
