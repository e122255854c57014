//! Sends one delivery: to an address that was checked, once, without following anyone elsewhere.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::TimeDelta;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};

use super::AddressPolicy;
use super::address_policy::AddressRefusal;
use super::message::Delivery;
use crate::domain::webhook::WebhookUrl;

/// What became of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sent {
    /// 2xx.
    Arrived(StatusCode),
    Failed(Failure),
    /// 410: the endpoint wants nothing any more.
    Gone,
}

/// Why a delivery did not arrive. It may be told to administrators: it holds nothing of the answer's body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    pub status: Option<StatusCode>,
    pub reason: String,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<TimeDelta>,
}

/// Sends deliveries. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    policy: Arc<AddressPolicy>,
    authorities: Option<Arc<Path>>,
    clients: Arc<Clients>,
}

#[derive(Default)]
struct Clients {
    plain: OnceLock<Client>,
    secure: OnceLock<Client>,
}

impl Courier {
    /// Delivers as far as `policy` allows, to whom the system's certificate authorities and those of the PEM file
    /// `authorities` know.
    #[must_use]
    pub fn new(policy: AddressPolicy, authorities: Option<PathBuf>) -> Self {
        Self { policy: Arc::new(policy), authorities: authorities.map(Arc::from), clients: Arc::default() }
    }

    /// Where deliveries may go.
    #[must_use]
    pub fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// Sends one delivery and reads the status of its answer, within [`TIME`].
    pub async fn send(&self, url: &WebhookUrl, delivery: &Delivery) -> Sent {
        // The resolver sees names only; an address in the URL is connected to as it is.
        if let Err(refusal) = self.policy.check_url(url) {
            return failed(refusal.to_string());
        }
        let client = match self.client(url.is_plain()) {
            Ok(client) => client,
            Err(error) => return failed(format!("no connection can be made from here: {error}")),
        };
        let request = client
            .post(url.as_url().clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", delivery.timestamp)
            .header("webhook-signature", &delivery.signature)
            .body(delivery.body.clone());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return failed(told(&error)),
        };
        let status = answer.status();
        if status.is_success() {
            return Sent::Arrived(status);
        }
        if status == StatusCode::GONE {
            return Sent::Gone;
        }
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let reason = match status.is_redirection() {
            true => format!("answered {status}; redirects are not followed"),
            false => format!("answered {status}"),
        };
        let retry_after = retry_after.and_then(TimeDelta::try_seconds);
        Sent::Failed(Failure { status: Some(status), reason, retry_after })
    }

    /// Made when it is first needed: a machine without root certificates can do everything else.
    fn client(&self, is_plain: bool) -> Result<&Client, AuthoritiesError> {
        let place = if is_plain { &self.clients.plain } else { &self.clients.secure };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let own = self.authorities.as_deref().map(read_authorities).transpose()?;
        let resolver = CheckedResolver { policy: Arc::clone(&self.policy), is_plain };
        let client = Client::builder()
            .redirect(Policy::none())
            // A proxy would resolve names by itself, unchecked.
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .https_only(!is_plain)
            .tls_certs_merge(own.into_iter().flatten())
            .connect_timeout(CONNECT_TIME)
            .timeout(TIME)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(place.get_or_init(|| client))
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// Why nobody can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("{} holds no certificate (PEM)", .0.display())]
    Empty(PathBuf),
    #[error("{} cannot be read: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Tls(#[from] reqwest::Error),
}

/// The certificates of a PEM file, of which there is at least one.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn read_authorities(path: &Path) -> Result<Vec<Certificate>, AuthoritiesError> {
    let file = |error| AuthoritiesError::File { path: path.to_owned(), error };
    let certificates = Certificate::from_pem_bundle(&std::fs::read(path).map_err(file)?)?;
    if certificates.is_empty() { Err(AuthoritiesError::Empty(path.to_owned())) } else { Ok(certificates) }
}

/// Answers the addresses of a name once all of them are allowed; what is connected to is one of these.
#[derive(Debug)]
struct CheckedResolver {
    policy: Arc<AddressPolicy>,
    is_plain: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, is_plain) = (Arc::clone(&self.policy), self.is_plain);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            check_all(&policy, is_plain, found.iter().map(SocketAddr::ip))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// One refused address is enough: a name that leads inside at times is not to be tried at others.
fn check_all(
    policy: &AddressPolicy,
    is_plain: bool,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<(), AddressRefusal> {
    let mut addresses = addresses.peekable();
    addresses.peek().ok_or(AddressRefusal::Unknown)?;
    addresses.try_for_each(|address| policy.check_address(is_plain, address))
}

fn failed(reason: String) -> Sent {
    Sent::Failed(Failure { status: None, reason, retry_after: None })
}

/// The innermost cause: the outer ones only say that a request failed, and repeat the URL.
fn told(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("did not answer within {} seconds", TIME.as_secs());
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let mut reason = innermost.to_string();
    if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
        reason.truncate(end);
    }
    reason
}

/// From the first byte sent to the head of the answer.
pub const TIME: Duration = Duration::from_secs(15);
const CONNECT_TIME: Duration = Duration::from_secs(5);
const LONGEST_REASON: usize = 300;
const AGENT: &str = concat!("token-authority/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refused_address_among_many_is_enough() {
        let policy = AddressPolicy::new(vec![]);
        let check = |addresses: &[&str]| {
            check_all(&policy, false, addresses.iter().map(|address| address.parse().unwrap()))
        };
        assert_eq!(check(&["1.1.1.1", "2606:4700::1111"]), Ok(()));
        assert_eq!(
            check(&["1.1.1.1", "127.0.0.1"]),
            Err(AddressRefusal::NotPublic("127.0.0.1".parse().unwrap()))
        );
        assert_eq!(check(&[]), Err(AddressRefusal::Unknown));
    }
}
