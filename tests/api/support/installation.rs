//! An installation that authenticates with an Ed25519 key of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::app::{TestApp, fresh_uuid};

/// A key, and the JWS that it makes.
pub(crate) struct Installation {
    key: SigningKey,
    pub(crate) instance_id: String,
}

impl Installation {
    /// The same `seed`, the same key.
    pub(crate) fn new(seed: u8) -> Self {
        Self { key: SigningKey::from_bytes(&[seed; 32]), instance_id: fresh_uuid() }
    }

    pub(crate) fn public_key(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes()) })
    }

    /// The same with its private member, for the clients that hold it.
    pub(crate) fn private_key(&self) -> Value {
        let mut key = self.public_key();
        key["d"] = URL_SAFE_NO_PAD.encode(self.key.to_bytes()).into();
        key
    }

    /// A compact JWS by the key.
    pub(crate) fn jws(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).to_bytes());
        format!("{signed}.{signature}")
    }

    /// The claims of a proof that holds at the app's time.
    pub(crate) fn proof_claims(&self, app: &TestApp) -> Value {
        let now = app.clock.now().timestamp();
        json!({ "aud": app.app.issuer(), "instance_id": self.instance_id, "iat": now, "exp": now + 60, "jti": fresh_uuid() })
    }

    /// What the installation sends to be activated.
    pub(crate) fn activation(&self, app: &TestApp, code: &str) -> Value {
        let proof =
            self.jws(&json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" }), &self.proof_claims(app));
        let mut body = super::app::activation(code, &self.instance_id);
        body["public_key"] = self.public_key();
        body["proof"] = proof.into();
        body
    }

    /// The claims of an assertion that holds at the app's time.
    pub(crate) fn assertion_claims(&self, app: &TestApp, uid: &str) -> Value {
        let now = app.clock.now().timestamp();
        json!({ "iss": uid, "sub": uid, "aud": app.app.issuer(), "iat": now, "exp": now + 60, "jti": fresh_uuid() })
    }

    /// A request with a fresh assertion.
    pub(crate) fn request(&self, app: &TestApp, uid: &str, method: Method, path: &str) -> RequestBuilder {
        let assertion = self.jws(&json!({ "alg": "EdDSA", "typ": "JWT" }), &self.assertion_claims(app, uid));
        app.request(method, path).bearer_auth(assertion)
    }
}
