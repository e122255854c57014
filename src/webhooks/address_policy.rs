//! Which addresses deliveries may go to: what a caller names must not lead into the operator's own network.

use std::net::IpAddr;

use url::Host;

use crate::config::Network;
use crate::domain::public_address::is_public;
use crate::domain::webhook::WebhookUrl;

/// Public addresses over `https`, and whatever is in these networks.
#[derive(Clone, Debug)]
pub struct AddressPolicy {
    allowed: Vec<Network>,
}

/// Why nothing is delivered there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressRefusal {
    #[error(
        "the host has the address {0}, which is not on the public internet and not in `webhook_allowed_networks`"
    )]
    NotPublic(IpAddr),
    #[error("plain http goes to `webhook_allowed_networks` only; use https")]
    Plain,
    #[error("the host has no address")]
    Unknown,
}

impl AddressPolicy {
    #[must_use]
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Passes when this address may be connected to, for a URL with or without TLS.
    ///
    /// # Errors
    /// It may not.
    pub fn check_address(&self, is_plain: bool, address: IpAddr) -> Result<(), AddressRefusal> {
        if self.allowed.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(AddressRefusal::NotPublic(address));
        }
        if is_plain { Err(AddressRefusal::Plain) } else { Ok(()) }
    }

    /// Passes when nothing in the URL itself is refused. A name is judged by its addresses, at each delivery.
    ///
    /// # Errors
    /// It names an address that is refused, or plain `http` could lead nowhere.
    pub fn check_url(&self, url: &WebhookUrl) -> Result<(), AddressRefusal> {
        match url.as_url().host() {
            Some(Host::Ipv4(address)) => self.check_address(url.is_plain(), address.into()),
            Some(Host::Ipv6(address)) => self.check_address(url.is_plain(), address.into()),
            Some(Host::Domain(_)) if url.is_plain() && self.allowed.is_empty() => Err(AddressRefusal::Plain),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(AddressRefusal::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_and_what_is_allowed() {
        let policy = AddressPolicy::new(vec!["10.1.0.0/16".parse().unwrap()]);
        let check = |url: &str| policy.check_url(&url.parse().unwrap());
        assert_eq!(check("https://1.1.1.1/"), Ok(()));
        assert_eq!(check("http://1.1.1.1/"), Err(AddressRefusal::Plain));
        assert_eq!(check("https://10.1.2.3/"), Ok(()));
        assert_eq!(check("http://10.1.2.3:8080/"), Ok(()));
        assert_eq!(check("https://10.2.0.1/"), Err(AddressRefusal::NotPublic("10.2.0.1".parse().unwrap())));
        assert!(matches!(check("https://[::1]/"), Err(AddressRefusal::NotPublic(_))));
        assert!(matches!(check("https://[::ffff:169.254.169.254]/"), Err(AddressRefusal::NotPublic(_))));
        assert_eq!(check("http://intern.example/"), Ok(()));
        let strict = AddressPolicy::new(vec![]);
        assert_eq!(strict.check_url(&"http://example.com/".parse().unwrap()), Err(AddressRefusal::Plain));
    }
}
