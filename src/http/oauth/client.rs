//! Who asks at the token endpoint: `private_key_jwt` (RFC 7523 §2.2) or `client_secret_basic` (RFC 6749 §2.3.1).

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use super::answer::TokenError;
use super::{Form, Refused};
use crate::app::App;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::InstanceUid;
use crate::http::authentication::{client_address, slow_down};
use crate::issuing::{CallerProof, ClientAssertion};

/// A client, not yet believed.
pub(super) struct Client {
    pub(super) proof: CallerProof,
    address: IpAddr,
}

impl Client {
    /// # Errors
    /// `invalid_client` where there is no credential that could be one; `invalid_request` for two of them
    /// (RFC 6749 §2.3); 429 where too many failed before.
    pub(super) fn read(app: &App, request: &HttpRequest, form: &Form, body: &[u8]) -> Result<Self, Refused> {
        let address = client_address(app, request);
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (assertion, kind) = (form.get("client_assertion"), form.get("client_assertion_type"));
        if header.is_some() && (assertion.is_some() || form.get("client_secret").is_some()) {
            return Err(TokenError::invalid_request("A client authenticates in one way at a time.").into());
        }
        let proof = match (header, assertion) {
            (Some(header), _) => basic(app, header),
            (None, Some(assertion)) if kind == Some(JWT_BEARER) => {
                let mut context = format!("{} {}\n", request.method(), request.path()).into_bytes();
                context.extend_from_slice(body);
                ClientAssertion::parse(assertion, app.issuer(), &context)
                    .map(|assertion| CallerProof::Assertion(Box::new(assertion)))
            }
            (None, Some(_)) => {
                return Err(TokenError::invalid_request(
                    "`client_assertion_type` is not the one of RFC 7523.",
                )
                .into());
            }
            (None, None) => None,
        };
        let uid = proof.as_ref().map(|proof| proof.uid().as_uuid());
        app.failed_authentications.admit(address, uid).map_err(|wait| Refused::Api(slow_down(wait)))?;
        let names_another =
            |proof: &CallerProof| form.get("client_id").is_some_and(|id| id.parse() != Ok(proof.uid()));
        match proof {
            Some(proof) if !names_another(&proof) => Ok(Self { proof, address }),
            _ => {
                app.failed_authentications.failed(address, uid);
                Err(TokenError::invalid_client().into())
            }
        }
    }

    /// `invalid_client`, counted against the address and the claimed instance.
    pub(super) fn fail(&self, app: &App) -> TokenError {
        app.failed_authentications.failed(self.address, Some(self.proof.uid().as_uuid()));
        metrics::counter!(crate::telemetry::metric_names::AUTHENTICATION_FAILURES, "surface" => "oauth")
            .increment(1);
        TokenError::invalid_client()
    }
}

/// Id and secret are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic(app: &App, header: &str) -> Option<CallerProof> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(credentials.trim()).ok()?;
    let (uid, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    let uid: InstanceUid = form_decoded(uid)?.parse().ok()?;
    let secret = Credential::parse(CredentialKind::InstanceSecret, &form_decoded(secret)?)?;
    Some(CallerProof::Secret { uid, digest: app.keystore.digest(&secret) })
}

fn form_decoded(text: &str) -> Option<String> {
    // Neither a uid nor a secret has characters that separate pairs.
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    let (decoded, rest) = pairs.next()?;
    (rest.is_empty() && pairs.next().is_none()).then(|| decoded.into_owned())
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
