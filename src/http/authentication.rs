//! Reads who asks: an instance by its secret or assertion, and from which address.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::ApiError;
use super::problems;
use crate::app::App;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::InstanceUid;
use crate::issuing::{self, CallerProof, ClientAssertion};
use crate::storage::facts::{self, InstanceFacts, PreviousKey};
use crate::storage::{activations, assertion_uses, fences, instance_credentials};

/// What a request without a valid credential of an instance is told to send.
pub(crate) const INSTANCE_CHALLENGE: &str =
    "Basic realm=\"instances\", charset=\"UTF-8\", Bearer realm=\"instances\"";

/// Who an instance claims to be, not yet believed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) proof: CallerProof,
    pub(crate) address: IpAddr,
}

/// Reads the credential of an instance: `Basic uid:secret`, or `Bearer` and a client assertion.
///
/// # Errors
/// 401 where there is none that was ever handed out; 429 where too many failed before.
pub(crate) fn claimed(app: &App, request: &HttpRequest, body: &[u8]) -> Result<Claimed, ApiError> {
    let address = client_address(app, request);
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let proof = header.and_then(|header| proof(app, request, header, body));
    let uid = proof.as_ref().map(|proof| proof.uid().as_uuid());
    app.failed_authentications.admit(address, uid).map_err(slow_down)?;
    match proof {
        Some(proof) => Ok(Claimed { proof, address }),
        None => {
            if header.is_some() {
                app.failed_authentications.failed(address, None);
            }
            Err(ApiError::unauthenticated(INSTANCE_CHALLENGE))
        }
    }
}

impl Claimed {
    /// 401, counted against the address and the claimed instance.
    pub(crate) fn fail(&self, app: &App) -> ApiError {
        app.failed_authentications.failed(self.address, Some(self.proof.uid().as_uuid()));
        metrics::counter!(crate::telemetry::metric_names::AUTHENTICATION_FAILURES, "surface" => "instances")
            .increment(1);
        ApiError::unauthenticated(INSTANCE_CHALLENGE)
    }
}

/// An instance that proved to be itself, for everything but a sync, which proves it in its batch.
#[derive(Debug)]
pub(crate) struct KnownInstance {
    pub(crate) facts: InstanceFacts,
    by_previous_key: bool,
}

impl KnownInstance {
    /// Of its registered keys the one that another may follow: the newest that it was seen to hold. `None` for an
    /// instance with secrets.
    pub(crate) fn held_key(&self) -> Option<&[u8]> {
        let unused = |previous: &&PreviousKey| self.by_previous_key && previous.dies_at.is_none();
        let previous = self.facts.previous_key.as_ref().filter(unused);
        previous.map(|previous| &previous.public_key).or(self.facts.public_key.as_ref()).map(Vec::as_slice)
    }
}

/// Believes the claim, or not. Takes the instance's lock until the transaction ends.
///
/// # Errors
/// 401; 503 when the database is away.
pub(crate) async fn prove(
    app: &App,
    connection: &mut sqlx::PgConnection,
    claimed: &Claimed,
) -> Result<KnownInstance, ApiError> {
    prove_as(app, connection, claimed, |app, claimed| claimed.fail(app)).await
}

/// The same for another surface, whose failures are counted and told by `fail`.
///
/// # Errors
/// What `fail` says; 503 when the database is away.
pub(crate) async fn prove_as(
    app: &App,
    connection: &mut sqlx::PgConnection,
    claimed: &Claimed,
    fail: impl Fn(&App, &Claimed) -> ApiError,
) -> Result<KnownInstance, ApiError> {
    let uid = claimed.proof.uid();
    let now = app.now();
    fences::lock_instance(connection, uid).await?;
    let environment = app.settings.environment.as_str();
    let found =
        facts::list_for_batch(connection, environment, &[uid], now..now).await?.instances.pop().flatten();
    let authenticated = issuing::authenticate(found.as_ref(), &claimed.proof, now);
    let (Some(facts), Some(authenticated)) = (found, authenticated) else { return Err(fail(app, claimed)) };
    if let CallerProof::Assertion(assertion) = &claimed.proof
        && !assertion_uses::insert_once(connection, &assertion.usage()).await?
    {
        return Err(fail(app, claimed));
    }
    if let Some(effect) = &authenticated.effect {
        instance_credentials::update_use(connection, uid, effect).await?;
    }
    if let Some(dies_at) = authenticated.previous_key_dies_at {
        activations::update_previous_key_to_die(connection, uid, dies_at, now).await?;
    }
    Ok(KnownInstance { facts, by_previous_key: authenticated.by_previous_key })
}

/// 429 with the wait.
pub(crate) fn slow_down(wait: std::time::Duration) -> ApiError {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    ApiError::refused(&problems::RATE_LIMITED, "Too many failed attempts; wait before the next one.")
        .with_retry_after(seconds)
}

/// Where the request comes from: the peer, or what trusted proxies say of it.
pub(crate) fn client_address(app: &App, request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let trusted =
        |address: IpAddr| app.settings.trusted_proxies.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        return peer;
    }
    let forwarded = request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok());
    let mut chain: Vec<&str> = forwarded.flat_map(|list| list.split(',')).map(str::trim).collect();
    // From the nearest proxy outwards: the first that we do not trust is the client.
    while let Some(address) = chain.pop().and_then(|text| text.parse().ok()) {
        if !trusted(address) {
            return address;
        }
    }
    peer
}

fn proof(app: &App, request: &HttpRequest, header: &str, body: &[u8]) -> Option<CallerProof> {
    let (scheme, credentials) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(credentials.trim()).ok()?;
        let (uid, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        let uid: InstanceUid = uid.parse().ok()?;
        let secret = Credential::parse(CredentialKind::InstanceSecret, secret)?;
        return Some(CallerProof::Secret { uid, digest: app.keystore.digest(&secret) });
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        let mut context = format!("{} {}\n", request.method(), request.path()).into_bytes();
        context.extend_from_slice(body);
        let assertion = ClientAssertion::parse(credentials.trim(), app.issuer(), &context)?;
        return Some(CallerProof::Assertion(Box::new(assertion)));
    }
    None
}
