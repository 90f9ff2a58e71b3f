//! What `/etc/resolv.conf` says: the name servers, and how a short name is completed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_resolver::{proto::rr::Name as DomainName, system_conf::parse_resolv_conf};

/// How a name is completed that is not fully qualified (resolv.conf(5): `search`, `ndots`).
#[derive(Debug, Clone)]
pub(super) struct Search {
    pub(super) domain: Option<DomainName>,
    pub(super) domains: Vec<DomainName>,
    pub(super) ndots: usize,
    pub(super) edns0: bool,
}

/// The name servers and the search list of `contents`. Without a name server there is one on this machine, as
/// resolv.conf(5) has it.
pub(super) fn read(contents: &[u8]) -> (Vec<SocketAddr>, Search) {
    let Ok((config, options)) = parse_resolv_conf(with_a_server(contents)) else {
        let search = Search { domain: None, domains: Vec::new(), ndots: 1, edns0: false };
        return (vec![here()], search);
    };
    let servers = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
    let domains = config.search().to_vec();
    // The domain of the machine's own name is for a file without a search list.
    let domain = config.domain().filter(|_| domains.is_empty()).cloned();
    (servers, Search { domain, domains, ndots: options.ndots, edns0: options.edns0 })
}

/// The parser takes a file without a name server for a broken one.
fn with_a_server(contents: &[u8]) -> Vec<u8> {
    let is_server = |line: &[u8]| line.trim_ascii_start().starts_with(b"nameserver");
    let mut contents = contents.to_vec();
    if !contents.split(|byte| *byte == b'\n').any(is_server) {
        contents.extend_from_slice(format!("\nnameserver {}\n", here().ip()).as_bytes());
    }
    contents
}

fn here() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(contents: &str) -> Vec<String> {
        read(contents.as_bytes()).0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_stay_in_their_order_and_without_one_this_machine_is_asked() {
        assert_eq!(servers("nameserver 127.0.0.11\nnameserver 10.0.0.2\n"), ["127.0.0.11:53", "10.0.0.2:53"]);
        assert_eq!(servers(""), ["127.0.0.1:53"]);
        assert_eq!(servers("search example.com\n"), ["127.0.0.1:53"]);
    }

    #[test]
    fn the_search_list_and_ndots_are_taken_over() {
        let (_, search) = read(b"search prod.svc example.com\nnameserver 10.0.0.2\noptions ndots:5\n");
        let domains: Vec<_> = search.domains.iter().map(ToString::to_string).collect();
        assert_eq!(
            (domains, search.ndots, search.domain),
            (vec!["prod.svc".into(), "example.com".to_owned()], 5, None)
        );
    }
}
