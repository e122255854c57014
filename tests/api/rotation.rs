//! The life of keys against a running service and a fleet that verifies for itself.

mod commands;
mod compromise;
mod crash;
mod load;
mod silence;
mod story;

use serde_json::{Value, json};
use token_authority_verifier::Kid;

use crate::support::app::{Instance, TestApp, activate, sell, text};

/// A token as an instance holds it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    audience: String,
    token: String,
    expires_at: chrono::DateTime<chrono::Utc>,
}

/// Syncs an instance; `version` tells this sync from the one before, so that fresh tokens are issued.
pub(crate) async fn sync(app: &TestApp, instance: &Instance, version: &str) -> Vec<Held> {
    let synced = instance.sync(app, &json!({ "version": version })).await;
    held(&synced.expect(reqwest::StatusCode::OK))
}

fn held(synced: &Value) -> Vec<Held> {
    let tokens = synced["tokens"].as_array().unwrap().iter();
    tokens
        .map(|token| Held {
            audience: text(&token["audience"]),
            token: text(&token["token"]),
            expires_at: text(&token["expires_at"]).parse().unwrap(),
        })
        .collect()
}

/// An instance that gets a token for each backend of the example catalog.
pub(crate) async fn instance(app: &TestApp) -> Instance {
    let sold = sell(app, Some("duo_pro"), 5).await;
    activate(app, &sold.activation_code).await
}

/// The key that signed a token.
fn kid_of(token: &str) -> Kid {
    use base64::Engine;
    let header = token.split('.').next().unwrap();
    let header = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    text(&header["kid"]).parse().unwrap()
}
