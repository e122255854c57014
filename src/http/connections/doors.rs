//! Counts the connections of each address, and lets no more in than one may have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Network;

/// How many connections each address has.
#[derive(Debug)]
pub(super) struct Doors {
    most: usize,
    /// Proxies speak for many.
    exempt: Vec<Network>,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; it is free again when this value goes.
#[derive(Debug)]
pub(super) struct Place(Option<(Arc<Doors>, IpAddr)>);

impl Doors {
    pub(super) fn new(most: usize, exempt: Vec<Network>) -> Self {
        Self { most, exempt, counts: Mutex::default() }
    }

    /// A place for a connection from this address; `None` when it has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        if self.exempt.iter().any(|network| network.contains(address)) {
            return Some(Place(None));
        }
        let address = one_client(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place(Some((Arc::clone(self), address))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((doors, address)) = &self.0 else { return };
        let mut counts = doors.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(address);
            }
        }
    }
}

/// What one client can choose from freely counts as one: an IPv6 client has a whole /64 (RFC 6177).
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(most: usize) -> Arc<Doors> {
        Arc::new(Doors::new(most, vec!["10.0.0.0/8".parse().unwrap()]))
    }

    fn enter(doors: &Arc<Doors>, address: &str) -> Option<Place> {
        doors.enter(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_places_and_each_is_given_back() {
        let doors = doors(2);
        let first = enter(&doors, "192.0.2.1").unwrap();
        let _second = enter(&doors, "::ffff:192.0.2.1").unwrap();
        assert!(enter(&doors, "192.0.2.1").is_none());
        let _other = enter(&doors, "192.0.2.2").unwrap();
        drop(first);
        assert!(enter(&doors, "192.0.2.1").is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let doors = doors(1);
        drop(enter(&doors, "192.0.2.1"));
        assert!(doors.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_trusted_proxy_is_not_counted() {
        let doors = doors(1);
        let _one = enter(&doors, "2001:db8::1").unwrap();
        assert!(enter(&doors, "2001:db8::ffff:2").is_none());
        assert!(enter(&doors, "2001:db8:0:1::1").is_some());
        let proxies: Vec<_> = (0..9).map(|_| enter(&doors, "10.1.2.3").unwrap()).collect();
        assert_eq!(proxies.len(), 9);
    }
}
