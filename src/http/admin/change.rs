//! The one way in which the admin API changes anything: one transaction with its audit row, the effects
//! measured, the answer kept for a retry.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use sqlx::PgConnection;

use super::desk::{Caller, Desk, Seen};
use super::effects::EffectsView;

use super::resource::Resource;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::AuditEventId;
use crate::domain::webhook::WebhookSecret;
use crate::fulfillment::{Changed, Circumstances, FulfillmentError};
use crate::http::body::Body;
use crate::http::error::{ApiError, InvalidValue};
use crate::http::idempotency::{Answer, IdempotencyKey};
use crate::http::problems;
use crate::storage::StorageError;
use crate::storage::audit_events::{self, NewAuditEvent};

/// What a use case did.
#[derive(Debug)]
pub(crate) struct Done<R> {
    changed: Changed<R>,
    reason: Option<String>,
    secret: Option<Secret>,
}

/// What is shown this once.
#[derive(Debug)]
pub(crate) enum Secret {
    Credential(Credential),
    Webhook(WebhookSecret),
}

/// A record after a change, and what the change does to instances.
// No `Debug`: it may hold a secret in clear.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ChangedView<V> {
    #[serde(flatten)]
    record: V,
    effects: EffectsView,
    /// Shown this once, where a license was made or reissued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    activation_code: Option<String>,
    /// Shown this once, where a token was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
    /// Shown this once, where a webhook was made: what signs its deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// Nothing was changed. A record that would be new has an id that will never be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    validate_only: bool,
}

impl Desk {
    /// Runs a change and answers it: 201 for a new record, else 200.
    ///
    /// With `validate_only=true` everything happens but the commit; no secret is shown, for it would open nothing.
    ///
    /// # Errors
    /// What the change refuses; 409 for a reused Idempotency-Key; 422 for an unknown parameter.
    pub(crate) async fn change<R: Resource>(
        &self,
        caller: &Caller,
        body: &Body,
        action: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection, &Circumstances<'_>) -> Result<Done<R>, FulfillmentError>,
    ) -> Result<HttpResponse, ApiError> {
        let mut query = self.query();
        let validate_only = query.flag("validate_only");
        query.done()?;
        let app = &self.app;
        let key = IdempotencyKey::of(&self.request, &caller.id(), &body.bytes)?;
        let catalog = app.catalog.load();
        let circumstances = Circumstances {
            clock: &app.clock,
            catalog: &catalog.catalog,
            environment: app.settings.environment.as_str(),
            grace: app.grace(),
            keystore: &app.keystore,
        };

        // 1. A retry gets its first answer; a twin that runs now is waited for.
        let mut tx = app.database.begin().await?;
        if let Some(key) = &key
            && let Some(answer) = key.claim(&mut tx, &app.keystore, app.now()).await?
        {
            return Ok(answer.respond(true));
        }

        // 2. The change, and its row in the audit.
        let done = work(&mut tx, &circumstances).await?;
        self.remember(&mut tx, caller, action, &done).await?;

        // 3. The answer, which a retry is to get again.
        let answer = self.answer(done, validate_only)?;
        if validate_only {
            tx.rollback().await.map_err(StorageError::from)?;
            return Ok(answer.respond(false));
        }
        if let Some(key) = &key {
            key.keep(&mut tx, &app.keystore, &answer).await?;
        }
        tx.commit().await.map_err(StorageError::from)?;
        Ok(answer.respond(false))
    }

    fn answer<R: Resource>(&self, done: Done<R>, validate_only: bool) -> Result<Answer, ApiError> {
        let Done { changed, secret, .. } = done;
        let seen = self.seen();
        let mut view = ChangedView {
            record: changed.after.view(seen),
            effects: EffectsView::from(changed.effects),
            activation_code: None,
            token: None,
            secret: None,
            validate_only,
        };
        match secret.filter(|_| !validate_only) {
            Some(Secret::Credential(secret)) => {
                let shown = Some(secret.expose().to_owned());
                match secret.kind() {
                    CredentialKind::ActivationCode => view.activation_code = shown,
                    CredentialKind::AdminToken
                    | CredentialKind::BackendToken
                    | CredentialKind::InstanceSecret
                    | CredentialKind::LicenseKey => view.token = shown,
                }
            }
            Some(Secret::Webhook(secret)) => view.secret = Some(secret.to_text().to_string()),
            None => {}
        }
        let is_new = changed.before.is_none();
        // After a trial the record is as it was: whoever may change but not read it learns its tag so.
        let standing = if validate_only { changed.before.as_ref() } else { Some(&changed.after) };
        Ok(Answer {
            status: if is_new { StatusCode::CREATED } else { StatusCode::OK },
            etag: standing.map(Resource::etag),
            location: Some(changed.after.path()).filter(|_| is_new && !validate_only),
            body: serde_json::to_vec(&view).map_err(ApiError::fault)?,
        })
    }

    /// Writes the row in the audit, in the transaction of the change.
    ///
    /// # Errors
    /// A fault.
    pub(super) async fn remember<R: Resource>(
        &self,
        connection: &mut PgConnection,
        caller: &Caller,
        action: &'static str,
        done: &Done<R>,
    ) -> Result<(), ApiError> {
        let at = done.changed.at;
        let seen = Seen { now: at, ..self.seen() };
        let json = |record: &R| serde_json::to_value(record.view(seen)).map_err(ApiError::fault);
        let event = NewAuditEvent {
            id: AuditEventId::generate(at),
            at,
            actor: &caller.actor(),
            action,
            subject_kind: R::KIND,
            subject_id: &done.changed.after.id(),
            reason: done.reason.as_deref(),
            before: done.changed.before.as_ref().map(json).transpose()?,
            after: Some(json(&done.changed.after)?),
            request_id: Some(self.request_id.as_str()),
        };
        audit_events::insert(connection, &event).await?;
        Ok(())
    }
}

impl<R> Done<R> {
    /// Why it was done, for the audit.
    pub(crate) fn because(self, reason: impl Into<Option<String>>) -> Self {
        Self { reason: reason.into(), ..self }
    }
}

impl<R> Done<R> {
    /// The change, and the secret that is shown this once.
    pub(super) fn into_parts(self) -> (Changed<R>, Option<Credential>) {
        let credential = match self.secret {
            Some(Secret::Credential(credential)) => Some(credential),
            Some(Secret::Webhook(_)) | None => None,
        };
        (self.changed, credential)
    }
}

impl<R> From<Changed<R>> for Done<R> {
    fn from(changed: Changed<R>) -> Self {
        Self { changed, reason: None, secret: None }
    }
}

/// With a secret that is shown this once.
impl<R> From<(Changed<R>, Credential)> for Done<R> {
    fn from((changed, secret): (Changed<R>, Credential)) -> Self {
        Self { changed, reason: None, secret: Some(Secret::Credential(secret)) }
    }
}

/// With the secret of a webhook, which is shown this once.
impl<R> From<(Changed<R>, WebhookSecret)> for Done<R> {
    fn from((changed, secret): (Changed<R>, WebhookSecret)) -> Self {
        Self { changed, reason: None, secret: Some(Secret::Webhook(secret)) }
    }
}

impl From<FulfillmentError> for ApiError {
    fn from(error: FulfillmentError) -> Self {
        match error {
            FulfillmentError::Changed => Self::refused(
                &problems::PRECONDITION_FAILED,
                "If-Match does not name the current revision of this record.",
            ),
            FulfillmentError::Conflict { what, existing } => {
                let refusal = Self::refused(&problems::CONFLICT, what);
                match existing {
                    Some(existing) => refusal.with_member("existing", existing),
                    None => refusal,
                }
            }
            FulfillmentError::Forbidden(why) => Self::refused(&problems::FORBIDDEN, why),
            FulfillmentError::Invalid(wrong) => Self::invalid(
                wrong
                    .into_iter()
                    .map(|value| InvalidValue {
                        pointer: format!("/{}", value.member),
                        code: value.code,
                        detail: value.detail,
                    })
                    .collect(),
            ),
            FulfillmentError::Keystore(error) => Self::fault(error),
            FulfillmentError::NotFound(what) => Self::not_found(what),
            FulfillmentError::Storage(error) => error.into(),
        }
    }
}
