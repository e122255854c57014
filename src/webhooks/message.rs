//! One event as it is told: the same content in the feed and to webhooks, signed for the latter.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::domain::webhook::{WebhookSecret, tells_content};
use crate::storage::events::EventRow;

/// An event as whoever reads the feed is told of it.
#[derive(Clone, Debug, Serialize)]
pub struct EventMessage {
    /// Its place in the feed; a cursor that names it goes on behind it.
    pub sequence: u64,
    /// The same each time that the event is told.
    pub id: uuid::Uuid,
    /// What happened, such as `license.revoke`.
    pub r#type: String,
    pub timestamp: String,
    /// What it happened to, such as `license`.
    pub subject_kind: String,
    pub subject_id: String,
    /// The record as it was then. `null` for kinds that need more than `fulfillment:read` to be read.
    pub data: Option<Value>,
}

impl From<EventRow> for EventMessage {
    fn from(row: EventRow) -> Self {
        let data = row.after.filter(|_| tells_content(&row.subject_kind));
        Self {
            sequence: row.sequence,
            id: row.id.as_uuid(),
            r#type: row.action,
            timestamp: row.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            subject_kind: row.subject_kind,
            subject_id: row.subject_id,
            data,
        }
    }
}

/// A delivery, ready to be sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `webhook-id`: the same at every attempt.
    pub id: String,
    /// `webhook-timestamp`: Unix seconds of this attempt.
    pub timestamp: i64,
    /// `webhook-signature`: one for each secret, separated by spaces; a receiver needs to find its own.
    pub signature: String,
    pub body: Vec<u8>,
}

impl Delivery {
    /// Signs a message with each of these secrets for an attempt at `now`.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn new(
        message: &EventMessage,
        secrets: &[WebhookSecret],
        now: DateTime<Utc>,
    ) -> Result<Self, serde_json::Error> {
        let (id, timestamp, body) = (message.id.to_string(), now.timestamp(), serde_json::to_vec(message)?);
        let signatures: Vec<_> = secrets.iter().map(|secret| sign(secret, &id, timestamp, &body)).collect();
        let signature = signatures.join(" ");
        Ok(Self { id, timestamp, signature, body })
    }
}

/// `v1,` and the HMAC-SHA256 over `id.timestamp.body` in base64.
fn sign(secret: &WebhookSecret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.sign().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_signature_is_the_known_one() {
        let secret = WebhookSecret::from_bytes(&STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
