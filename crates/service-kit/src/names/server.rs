//! One name server.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures::future::{Either, select};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};
use tokio::time::timeout;

use super::{LookupError, search::Search};

/// How long one name server is asked for; less than [`super::LOOKUP_MAX`], so that the next one has time left.
pub(super) const ASKED_MAX: Duration = Duration::from_secs(2);

/// How long the IPv4 addresses wait for those of IPv6: the "Resolution Delay" of RFC 8305, section 3, which says 50 ms.
/// Here only the first look-up has someone who waits for it, and an answer without IPv6 stands for longer.
const RESOLUTION_DELAY: Duration = Duration::from_millis(200);

/// The longest time to live of an answer that lacks one family because that question was not answered.
const HALF_TTL: Duration = Duration::from_secs(5);

/// The port of a name server that is given without one.
const PORT: u16 = 53;

/// Reads `10.0.0.2`, `10.0.0.2:5353`, `fd00::2` or `[fd00::2]:5353`: for `--name-servers`.
///
/// # Errors
///
/// What to write instead.
pub fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let alone = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    let mistake = "it is no name server; write for example 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:5353";
    text.parse().or_else(|_| alone()).map_err(|_| mistake.to_owned())
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Asks one name server, over UDP, and over TCP for what does not fit into a datagram.
#[derive(Debug, Clone)]
pub(super) struct Server(TokioResolver);

// === impl Server ===

impl Server {
    pub(super) fn new(address: SocketAddr, search: &Search) -> Result<Self, NetError> {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        server.connections.iter_mut().for_each(|connection: &mut ConnectionConfig| connection.port = address.port());
        let config = ResolverConfig::from_parts(search.domain.clone(), search.domains.clone(), vec![server]);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ndots = search.ndots;
        options.edns0 = search.edns0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = ASKED_MAX;
        // It sends a question again while it waits; a failure is looked up again later.
        options.attempts = 0;
        options.num_concurrent_reqs = 1;
        // What is kept, and for how long, is decided by the followers.
        options.cache_size = 0;
        builder.build().map(Self)
    }

    /// Asks for the addresses of both families at once. IPv4 addresses do not wait for an answer about IPv6 that some
    /// name servers never give; those of IPv6 wait for IPv4, because this host may not have IPv6.
    pub(super) async fn ask(&self, host: &str) -> Result<Found, LookupError> {
        let four = pin!(self.ask_for(RecordType::A, host));
        let six = pin!(self.ask_for(RecordType::AAAA, host));
        let (four, six) = match select(four, six).await {
            Either::Left((four, six)) => {
                let patience = if four.is_ok() { RESOLUTION_DELAY } else { ASKED_MAX };
                (four, timeout(patience, six).await.unwrap_or(Err(LookupError::Timeout(patience))))
            }
            Either::Right((six, four)) => (four.await, six),
        };
        together(four, six)
    }

    async fn ask_for(&self, records: RecordType, host: &str) -> Result<Found, LookupError> {
        let found = self.0.lookup(host, records).await.map_err(|error| LookupError::of(&error, ASKED_MAX))?;
        let ttl_s = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let addresses: Vec<IpAddr> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            return Err(LookupError::NoAddress);
        }
        Ok(Found { addresses, ttl: Duration::from_secs(ttl_s.into()) })
    }
}

/// One answer from those about either family. The name is denied when both say so: one that says nothing may have
/// addresses.
fn together(four: Result<Found, LookupError>, six: Result<Found, LookupError>) -> Result<Found, LookupError> {
    match (four, six) {
        (Ok(four), Ok(six)) => {
            Ok(Found { addresses: [four.addresses, six.addresses].concat(), ttl: four.ttl.min(six.ttl) })
        }
        (Ok(found), Err(why)) | (Err(why), Ok(found)) => {
            let ttl = if why.is_denial() { found.ttl } else { found.ttl.min(HALF_TTL) };
            Ok(Found { ttl, ..found })
        }
        (Err(four), Err(six)) => match (four.is_denial(), six.is_denial()) {
            (true, false) => Err(six),
            (true, true) if six == LookupError::NoSuchName => Err(six),
            _ => Err(four),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_ip_address_with_or_without_a_port() {
        let read = |text| parse_name_server(text).map(|address| address.to_string());
        assert_eq!(read("10.0.0.2").unwrap(), "10.0.0.2:53");
        assert_eq!(read(" 10.0.0.2:5353").unwrap(), "10.0.0.2:5353");
        assert_eq!(read("fd00::2").unwrap(), "[fd00::2]:53");
        assert_eq!(read("[fd00::2]:5353").unwrap(), "[fd00::2]:5353");
        assert!(read("dns.example").is_err() && read("").is_err());
    }
}
