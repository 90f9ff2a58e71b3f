//! The host name of an instance, and the order in which its addresses are tried (RFC 8305, section 4).
//!
//! The name is looked up beside the data path ([`service_kit::names`]); a request reads its last answer.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use discovery::Host;
use service_kit::names::Name;

use crate::addresses::AddressPolicy;

/// For how long the address that accepted is tried before those that did not.
const PREFERRED_FOR: Duration = Duration::from_secs(60);

/// The host name of an instance.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Arc<Name>,
    /// The address that accepted although it was not the first, and when. Read and written only for several addresses.
    preferred: Mutex<Option<(IpAddr, Instant)>>,
}

// === impl Named ===

impl Named {
    /// The name of `host`, followed from now on, unless it is an IP address.
    pub(crate) fn of(host: &Host, addresses: &AddressPolicy) -> Option<Self> {
        let Host::Name(name) = host else { return None };
        Some(Self { name: addresses.names().follow(name.as_str()), preferred: Mutex::default() })
    }

    /// The addresses in the order in which they are tried.
    pub(crate) fn in_order(&self, answer: &[IpAddr], now: Instant) -> Vec<IpAddr> {
        let mut all = interleaved(answer);
        let preferred = *self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ip, since)) = preferred
            && now < since + PREFERRED_FOR
            && let Some(at) = all.iter().position(|other| *other == ip)
        {
            all[..=at].rotate_right(1);
        }
        all
    }

    /// The address of several that accepted a connection.
    pub(crate) fn accepted(&self, ip: IpAddr) {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = Some((ip, Instant::now()));
    }
}

/// The families in turn, IPv6 first, each in the order of the answer.
fn interleaved(answer: &[IpAddr]) -> Vec<IpAddr> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = answer.iter().partition(|ip| ip.is_ipv6());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut all = Vec::with_capacity(answer.len());
    loop {
        match (six.next(), four.next()) {
            (None, None) => return all,
            (six, four) => all.extend(six.into_iter().chain(four)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_are_tried_in_turn_and_ipv6_first() {
        let answer = ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"]);
        assert_eq!(interleaved(&answer), ips(&["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "10.0.0.3"]));
    }

    #[test]
    fn the_address_that_accepted_is_tried_first_for_a_minute() {
        let named = Named::of(&"mail".parse().unwrap(), &AddressPolicy::default()).unwrap();
        let answer = ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        named.accepted(answer[1]);
        let now = Instant::now();
        assert_eq!(named.in_order(&answer, now), ips(&["10.0.0.2", "10.0.0.1", "10.0.0.3"]));
        assert_eq!(named.in_order(&answer, now + PREFERRED_FOR), answer);
        assert_eq!(named.in_order(&answer[2..], now), answer[2..], "it is none of the name's any more");
    }

    #[test]
    fn an_ip_address_has_no_name() {
        assert!(Named::of(&"10.0.0.1".parse().unwrap(), &AddressPolicy::default()).is_none());
    }
}
