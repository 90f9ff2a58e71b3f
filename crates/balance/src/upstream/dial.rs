//! From an instance's address to a connection, for requests and for health checks alike.
//!
//! A host name is not resolved here: its last answer is read ([`service_kit::names`]), and waited for only if there was
//! none yet. Several addresses are tried as RFC 8305 says: the families in turn, IPv6 first (section 4), the next one
//! when the one before has failed, or has been silent for [`NEXT_AFTER`], beside it (section 5). Each is held to the
//! address rules when it is about to be connected to, because a name may mean something else by then.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    addresses::{AddressPolicy, Forbidden},
    instance::{candidate::Candidate, named::Named},
    upstream::connect_error::ConnectError,
};

/// How long an address may be silent before the next one is tried beside it: the "Connection Attempt Delay", RFC 8305,
/// section 5.
const NEXT_AFTER: Duration = Duration::from_millis(250);

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
