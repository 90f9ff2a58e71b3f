//! The host names that are ours.

use std::{collections::HashSet, net::IpAddr};

use super::HostName;

/// Where the operating system keeps names of this machine.
const HOSTS: &str = "/etc/hosts";

/// The names by which this service may be asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Those that an operator has allowed.
    allowed: HashSet<String>,
    /// Whether any name is.
    any: bool,
    /// Those that this machine, or what is announced, gives.
    own: HashSet<String>,
}

// === impl Names ===

impl Names {
    pub(super) fn new(allowed: &[HostName], announced: Option<&str>) -> Self {
        // A machine without the file has no more names than `localhost`.
        let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
        let announced = announced.map(str::to_ascii_lowercase);
        Self {
            allowed: allowed.iter().map(|name| name.as_str().to_owned()).collect(),
            any: allowed.iter().any(HostName::is_any),
            own: of_loopback(&hosts).chain(announced).collect(),
        }
    }

    /// Whether an operator has named any.
    pub(super) fn are_configured(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whether requests may ask for `host`. Any IP address will do: it means the same to everyone, and no name server
    /// can make it lead elsewhere.
    pub(super) fn are_ours(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || host.ends_with(".localhost")
            || self.own.contains(&host)
            || self.admit(&host)
    }

    /// Whether an operator has named `host`.
    pub(super) fn admit(&self, host: &str) -> bool {
        self.any || self.allowed.contains(&host.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// The names that a hosts file (hosts(5)) gives to loopback addresses; Debian's own name of the machine is at
/// 127.0.1.1.
fn of_loopback(hosts: &str) -> impl Iterator<Item = String> {
    hosts.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        words.filter(move |_| address.is_some_and(|ip| ip.is_loopback())).map(str::to_ascii_lowercase)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_gives_names_to_loopback() {
        let hosts = "# 127.0.0.1 no\n127.0.0.1\tlocalhost\n127.0.1.1 Box box.lan # mine\n10.0.0.5 other\n::1 ip6-localhost\nx y\n";
        let found: Vec<String> = of_loopback(hosts).collect();
        assert_eq!(found, ["localhost", "box", "box.lan", "ip6-localhost"]);
    }
}
