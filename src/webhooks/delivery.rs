//! Delivers to one endpoint, event by event, for as long as there are some and they arrive.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use metrics::counter;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Courier;
use super::courier::{Failure, Sent};
use super::message::{Delivery, EventMessage};
use super::retries;
use crate::clock::Clock;
use crate::domain::ids::{AuditEventId, RequestUuid, WebhookId};
use crate::domain::webhook::{WebhookSecret, WebhookState};
use crate::keystore::{Keystore, KeystoreError};
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::events::{self, EventFilter, EventRow};
use crate::storage::webhook_positions::{self, FailedAttempt, Leased};
use crate::storage::{Database, StorageError, webhooks};
use crate::telemetry::metric_names::WEBHOOK_DELIVERIES;

/// What deliveries need.
#[derive(Clone, Copy, Debug)]
pub struct Deliverer<'a> {
    pub clock: &'a Clock,
    pub database: &'a Database,
    pub keystore: &'a Keystore,
    pub courier: &'a Courier,
}

/// Why deliveries stopped. What was delivered is recorded; the lease runs out, and someone goes on.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("could not open the webhook's secret")]
    Keystore(#[from] KeystoreError),
    #[error("could not write an event as JSON")]
    Message(#[from] serde_json::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How deliveries to one endpoint ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// There is nothing more to tell for now.
    CaughtUp,
    /// It is disabled now.
    Disabled,
    /// An event did not arrive; it is sent again later.
    Failed,
    /// Someone moved it or took it over.
    Lost,
    /// Others shall have their turn.
    Turn,
}

impl Deliverer<'_> {
    /// Takes an endpoint that has events before it, if there is one that nobody delivers to.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn lease(&self) -> Result<Option<Leased>, StorageError> {
        let now = self.clock.now();
        let lease = RequestUuid::generate(now).as_uuid();
        self.lease_as(lease, now).await
    }

    async fn lease_as(&self, lease: Uuid, now: DateTime<Utc>) -> Result<Option<Leased>, StorageError> {
        let mut tx = self.database.begin().await?;
        let leased = webhook_positions::lease(&mut tx, lease, now, now + LEASE).await?;
        tx.commit().await?;
        Ok(leased)
    }

    /// Delivers what is before an endpoint that was leased.
    ///
    /// An event whose delivery is not recorded, since this process ended in between, is delivered once more, with the
    /// same `webhook-id`.
    ///
    /// # Errors
    /// A fault of ours; the endpoint's own are an [`Ended`].
    pub async fn deliver(&self, leased: Leased) -> Result<Ended, DeliveryError> {
        self.deliver_while(leased, || true).await
    }

    /// The same, for as long as `goes_on`: it is asked before each event.
    ///
    /// # Errors
    /// A fault of ours; the endpoint's own are an [`Ended`].
    pub async fn deliver_while(
        &self,
        mut leased: Leased,
        goes_on: impl Fn() -> bool,
    ) -> Result<Ended, DeliveryError> {
        let mut secrets = vec![self.keystore.open_webhook_secret(leased.webhook, &leased.secret)?];
        if let Some(previous) = &leased.previous_secret {
            secrets.push(self.keystore.open_webhook_secret(leased.webhook, previous)?);
        }
        for _ in 0..AT_ONCE {
            if !goes_on() {
                break;
            }
            // 1. The next event that is wanted; what is not is passed.
            let (next, end) = self.find_next(&leased).await?;
            let Some(event) = next else {
                if self.pass(&leased, end).await? {
                    self.release(&leased).await?;
                    return Ok(Ended::CaughtUp);
                }
                return Ok(Ended::Lost);
            };

            // 2. One attempt, with nothing held but the lease.
            let sequence = event.sequence;
            let outcome = self.attempt(&leased, &secrets, event).await?;

            // 3. What became of it, recorded before the next one.
            match outcome {
                Sent::Arrived(status) => {
                    let now = self.clock.now();
                    let delivered = Some((now, status.as_u16()));
                    if !self.record_delivered(&leased, sequence, delivered, now).await? {
                        return Ok(Ended::Lost);
                    }
                    leased = Leased { cursor: sequence, attempts: 0, failing_since: None, ..leased };
                }
                Sent::Failed(failure) => return self.fail(&leased, &failure).await,
                Sent::Gone => {
                    let reason = "The endpoint answered 410 Gone.";
                    return self.disable(&leased, Some(410), reason).await;
                }
            }
        }
        self.release(&leased).await?;
        Ok(Ended::Turn)
    }

    /// Up to which event there is something, and the first one that is wanted.
    async fn find_next(&self, leased: &Leased) -> Result<(Option<EventRow>, u64), StorageError> {
        let mut tx = self.database.begin().await?;
        // The end first: what is committed after it has a higher number, and is not passed unseen.
        let end = events::find_end(&mut tx).await?.sequence;
        let between = (leased.cursor, end);
        let found =
            events::list_between(&mut tx, &EventFilter::default(), &leased.event_types, between, 1).await?;
        Ok((found.into_iter().next(), end))
    }

    async fn attempt(
        &self,
        leased: &Leased,
        secrets: &[WebhookSecret],
        event: EventRow,
    ) -> Result<Sent, DeliveryError> {
        let message = EventMessage::from(event);
        let delivery = Delivery::new(&message, secrets, self.clock.now())?;
        let sent = self.courier.send(&leased.url, &delivery).await;
        let outcome = match &sent {
            Sent::Arrived(_) => "delivered",
            Sent::Failed(_) => "failed",
            Sent::Gone => "gone",
        };
        counter!(WEBHOOK_DELIVERIES, "outcome" => outcome).increment(1);
        if let Sent::Failed(failure) = &sent {
            tracing::info!(
                webhook.id = %leased.webhook, event.sequence = message.sequence,
                "webhook {} did not take event {}: {}", leased.webhook, message.sequence, failure.reason
            );
        }
        Ok(sent)
    }

    async fn pass(&self, leased: &Leased, end: u64) -> Result<bool, StorageError> {
        self.record_delivered(leased, end.max(leased.cursor), None, self.clock.now()).await
    }

    async fn record_delivered(
        &self,
        leased: &Leased,
        to: u64,
        delivered: Option<(DateTime<Utc>, u16)>,
        now: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let mut tx = self.database.begin().await?;
        let still = webhook_positions::update_delivered(&mut tx, leased, to, delivered, now + LEASE).await?;
        tx.commit().await?;
        Ok(still)
    }

    async fn release(&self, leased: &Leased) -> Result<(), StorageError> {
        let mut tx = self.database.begin().await?;
        webhook_positions::update_released(&mut tx, leased).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn fail(&self, leased: &Leased, failure: &Failure) -> Result<Ended, DeliveryError> {
        let now = self.clock.now();
        let failures = leased.attempts + 1;
        let status = failure.status.map(|status| status.as_u16());
        if leased.failing_since.is_some_and(|since| retries::is_given_up(since, now)) {
            let reason = format!("Deliveries failed for a day; the last one: {}", failure.reason);
            return self.disable(leased, status, &reason).await;
        }
        let next_attempt_at = now + retries::delay(leased.webhook, failures, failure.retry_after);
        let failed = FailedAttempt { at: now, status, reason: &failure.reason, next_attempt_at };
        let mut tx = self.database.begin().await?;
        let still = webhook_positions::update_failed(&mut tx, leased, &failed).await?;
        tx.commit().await.map_err(StorageError::from)?;
        Ok(if still { Ended::Failed } else { Ended::Lost })
    }

    /// Disables the endpoint, as an administrator would: with a row in the audit, and so an event for the others.
    async fn disable(
        &self,
        leased: &Leased,
        status: Option<u16>,
        reason: &str,
    ) -> Result<Ended, DeliveryError> {
        let mut tx = self.database.begin().await?;
        let Some(before) = webhooks::find_for_update(&mut tx, leased.webhook).await? else {
            return Ok(Ended::Lost);
        };
        let now = self.clock.now();
        let failed = FailedAttempt { at: now, status, reason, next_attempt_at: now };
        let still = webhook_positions::update_failed(&mut tx, leased, &failed).await?;
        if before.state != WebhookState::Enabled || !still {
            return Ok(Ended::Lost);
        }
        let mut after = before.clone();
        after.state = WebhookState::Disabled;
        (after.state_since, after.updated_at) = (now, now);
        after.state_reason = Some(reason.to_owned());
        after.revision += 1;
        webhooks::update(&mut tx, &after).await?;
        remember(&mut tx, leased.webhook, &before, &after, reason, now).await?;
        tx.commit().await.map_err(StorageError::from)?;
        tracing::warn!(webhook.id = %leased.webhook, "webhook {} is disabled: {reason}", leased.webhook);
        Ok(Ended::Disabled)
    }
}

async fn remember(
    connection: &mut PgConnection,
    webhook: WebhookId,
    before: &webhooks::WebhookRow,
    after: &webhooks::WebhookRow,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let told = |row: &webhooks::WebhookRow| {
        json!({
            "id": row.id.to_string(),
            "state": row.state.as_str(),
            "state_since": row.state_since.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            "state_reason": row.state_reason,
            "cursor": row.position.cursor.to_string(),
        })
    };
    let event = NewAuditEvent {
        id: AuditEventId::generate(now),
        at: now,
        actor: "webhook_delivery",
        action: "webhook.disable",
        subject_kind: "webhook",
        subject_id: &webhook.to_string(),
        reason: Some(reason),
        before: Some(told(before)),
        after: Some(told(after)),
        request_id: None,
    };
    audit_events::insert(connection, &event).await
}

/// Longer than any attempt takes; renewed with each delivery.
const LEASE: TimeDelta = TimeDelta::seconds(60);

/// Deliveries to one endpoint before others have their turn.
const AT_ONCE: usize = 100;
