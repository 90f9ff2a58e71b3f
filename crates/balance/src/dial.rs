//! From an instance's address to a connection, for requests and for health checks alike.
//!
//! A host name is not resolved here: its last answer is read ([`service_kit::names`]), and waited for only if there was none
//! yet. Several addresses are tried as RFC 8305 says: the families in turn, IPv6 first (section 4), the next one when the
//! one before has failed, or has said nothing for [`NEXT_AFTER`], beside it (section 5). Each is held to the address rules
//! when it is about to be connected to, because a name may mean something else by then.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use discovery::Host;
use futures::{StreamExt as _, stream::FuturesUnordered};
use service_kit::names::Name;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    addresses::{AddressPolicy, Forbidden},
    routing_table::Candidate,
    upstream::ConnectError,
};

/// How long an address may be silent before the next one is tried beside it: the "Connection Attempt Delay", RFC 8305,
/// section 5.
const NEXT_AFTER: Duration = Duration::from_millis(250);

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
    fn in_order(&self, answer: &[IpAddr], now: Instant) -> Vec<IpAddr> {
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

    fn accepted(&self, ip: IpAddr) {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = Some((ip, Instant::now()));
    }
}

/// Waits for the first answer about the instance's name, for at most `limit`. A caller that judges the instance by the time that
/// it takes begins to count after that, because a name server's time is not the instance's.
///
/// # Errors
///
/// [`ConnectError::Unresolved`] or [`ConnectError::Unanswered`].
pub(crate) async fn resolved(candidate: &Candidate, limit: Duration) -> Result<(), ConnectError> {
    let Some(named) = &candidate.named else { return Ok(()) };
    let answer = timeout(limit, named.name.addresses()).await;
    answer.map_err(|_| ConnectError::Unanswered(limit))??;
    Ok(())
}

/// Connects to the instance, within `limit` from the moment when its name is resolved, which may take as long.
///
/// # Errors
///
/// [`ConnectError::Unresolved`] and [`ConnectError::Unanswered`] say nothing about the instance; neither does
/// [`ConnectError::Exhausted`].
pub(crate) async fn connect(
    candidate: &Candidate,
    addresses: &AddressPolicy,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let address = candidate.address();
    let opened = match (address.socket_addr(), &candidate.named) {
        (Some(socket), _) => timeout(limit, open(socket, addresses)).await,
        (None, Some(named)) => {
            let answer = timeout(limit, named.name.addresses()).await;
            let answer = answer.map_err(|_| ConnectError::Unanswered(limit))??;
            timeout(limit, first_of(named, &answer, address.port.get(), addresses)).await
        }
        // Every name is followed from the moment when its instance is known.
        (None, None) => return Err(ConnectError::Unanswered(limit)),
    };
    opened.map_err(|_| ConnectError::Timeout(limit))?
}

async fn first_of(
    named: &Named,
    answer: &[IpAddr],
    port: u16,
    addresses: &AddressPolicy,
) -> Result<TcpStream, ConnectError> {
    let all = named.in_order(answer, Instant::now()).into_iter().map(|ip| SocketAddr::new(ip, port));
    let (mut allowed, mut failure) = (Vec::new(), None);
    for socket in all {
        match addresses.check_socket(socket) {
            Ok(()) => allowed.push(socket),
            Err(forbidden) => failure = Some(ConnectError::Forbidden(forbidden)),
        }
    }
    let mut opening = FuturesUnordered::new();
    let mut rest = allowed.iter().copied();
    let mut left = allowed.len();
    loop {
        if let Some(socket) = rest.next() {
            left -= 1;
            opening.push(async move { (socket, open(socket, addresses).await) });
        }
        tokio::select! {
            biased;
            Some((socket, opened)) = opening.next() => match opened {
                Ok(stream) => {
                    if allowed.first() != Some(&socket) {
                        named.accepted(socket.ip());
                    }
                    return Ok(stream);
                }
                // The next one would need the same of this host.
                Err(error @ ConnectError::Exhausted(_)) => return Err(error),
                Err(error) => failure = Some(error),
            },
            () = sleep(NEXT_AFTER), if left > 0 => {}
            else => return Err(failure.unwrap_or(ConnectError::Forbidden(Forbidden::Own))),
        }
    }
}

async fn open(socket: SocketAddr, addresses: &AddressPolicy) -> Result<TcpStream, ConnectError> {
    addresses.check_socket(socket)?;
    let stream = TcpStream::connect(socket).await.map_err(ConnectError::connecting)?;
    if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
        && addresses.is_loop(local, peer)
    {
        return Err(Forbidden::Own.into());
    }
    // Without it a small request waits for the acknowledgement of the one before.
    let _best_effort = stream.set_nodelay(true);
    Ok(stream)
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
