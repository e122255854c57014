//! A retry with the same Idempotency-Key gets the first answer again, byte for byte.

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::http::error::ApiError;
use crate::http::problems;
use crate::keystore::Keystore;
use crate::storage::idempotency_keys::{self, Claim, IdempotencyScope, StoredAnswer};

/// An answer as it leaves, and as a retry gets it again.
// No `Debug`: it may hold a secret in clear.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// The key of a request, with all that it belongs to.
#[derive(Debug)]
pub(crate) struct IdempotencyKey {
    caller: String,
    method: String,
    path: String,
    key: String,
    fingerprint: [u8; 32],
}

impl IdempotencyKey {
    /// The key that a request brings.
    ///
    /// # Errors
    /// 400 for one that is empty, too long, or not in visible ASCII.
    pub(crate) fn of(request: &HttpRequest, caller: &str, body: &[u8]) -> Result<Option<Self>, ApiError> {
        let Some(key) = Self::word(request)? else { return Ok(None) };
        let (method, path) = (request.method().as_str(), request.path());
        Ok(Some(Self {
            caller: caller.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            key: key.to_owned(),
            fingerprint: fingerprint(&[
                method.as_bytes(),
                path.as_bytes(),
                request.query_string().as_bytes(),
                body,
            ]),
        }))
    }

    /// The word itself.
    ///
    /// # Errors
    /// As [`IdempotencyKey::of`].
    pub(crate) fn word(request: &HttpRequest) -> Result<Option<&str>, ApiError> {
        let Some(given) = request.headers().get(&HEADER) else { return Ok(None) };
        let key = given.to_str().ok().filter(|key| (1..=MOST_CHARACTERS).contains(&key.len()));
        key.map(Some).ok_or_else(|| {
            let detail =
                format!("Idempotency-Key must have 1 to {MOST_CHARACTERS} visible ASCII characters.");
            ApiError::refused(&problems::INVALID_REQUEST, detail)
        })
    }

    /// Claims the key for this transaction, or answers what was answered before. Waits for a twin.
    ///
    /// # Errors
    /// 409 where the key came with another request.
    pub(crate) async fn claim(
        &self,
        connection: &mut PgConnection,
        keystore: &Keystore,
        now: DateTime<Utc>,
    ) -> Result<Option<Answer>, ApiError> {
        let claim =
            idempotency_keys::claim(connection, self.scope(), &self.fingerprint, now, now + KEPT_FOR).await?;
        match claim {
            Claim::Fresh => Ok(None),
            Claim::Reused => {
                let detail = "This Idempotency-Key came before with another request.";
                Err(ApiError::refused(&problems::IDEMPOTENCY_KEY_REUSED, detail))
            }
            Claim::Stored(stored) => self.open(keystore, stored).map(Some),
        }
    }

    /// Keeps the answer, in the transaction of the change.
    ///
    /// # Errors
    /// A fault.
    pub(crate) async fn keep(
        &self,
        connection: &mut PgConnection,
        keystore: &Keystore,
        answer: &Answer,
    ) -> Result<(), ApiError> {
        let sealed_body = keystore.seal_answer(&self.belongs_to(), &answer.body).map_err(ApiError::fault)?;
        let stored = StoredAnswer {
            status: answer.status.as_u16(),
            etag: answer.etag.clone(),
            location: answer.location.clone(),
            sealed_body,
        };
        idempotency_keys::update_answer(connection, self.scope(), &stored).await?;
        Ok(())
    }

    fn open(&self, keystore: &Keystore, stored: StoredAnswer) -> Result<Answer, ApiError> {
        let body = keystore.open_answer(&self.belongs_to(), &stored.sealed_body);
        Ok(Answer {
            status: StatusCode::from_u16(stored.status).map_err(ApiError::fault)?,
            etag: stored.etag,
            location: stored.location,
            body: body.ok_or_else(|| ApiError::fault("a stored answer does not open"))?.to_vec(),
        })
    }

    fn scope(&self) -> IdempotencyScope<'_> {
        IdempotencyScope { caller: &self.caller, method: &self.method, path: &self.path, key: &self.key }
    }

    /// A stored answer opens as the answer to this key of this caller only.
    fn belongs_to(&self) -> [u8; 32] {
        let scope = [&self.caller, &self.method, &self.path, &self.key].map(String::as_bytes);
        let [caller, method, path, key] = scope;
        fingerprint(&[b"idempotency", caller, method, path, key, &self.fingerprint])
    }
}

impl Answer {
    /// The response. `replayed` says that it was given before.
    pub(crate) fn respond(self, replayed: bool) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/json");
        if let Some(etag) = self.etag {
            response.insert_header((ETAG, etag));
        }
        if let Some(location) = self.location {
            response.insert_header((LOCATION, location));
        }
        if replayed {
            response.insert_header((REPLAYED.clone(), "true"));
        }
        response.body(self.body)
    }
}

/// The digest of several parts, each with its length before it.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// How long an answer is kept.
const KEPT_FOR: TimeDelta = TimeDelta::hours(24);
const MOST_CHARACTERS: usize = 255;
static HEADER: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
