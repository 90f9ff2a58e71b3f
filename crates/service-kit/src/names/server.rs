//! One name server.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
};

use super::{LookupError, search::Search, stub::Found};

/// How long one name server is asked for; less than [`super::LOOKUP_MAX`], so that the addresses of one family are not
/// lost when the question for the other is never answered.
const ASKED_MAX: Duration = Duration::from_secs(2);

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
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = ASKED_MAX;
        // It sends a question again while it waits; a failure is looked up again later.
        options.attempts = 0;
        options.num_concurrent_reqs = 1;
        // What is kept, and for how long, is decided by the followers.
        options.cache_size = 0;
        builder.build().map(Self)
    }

    pub(super) async fn ask(&self, host: &str) -> Result<Found, LookupError> {
        let found = self.0.lookup_ip(host).await.map_err(|error| LookupError::of(&error, ASKED_MAX))?;
        let ttl_s = found.as_lookup().answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(LookupError::NoAddress);
        }
        Ok(Found { addresses, ttl: Duration::from_secs(ttl_s.into()) })
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
