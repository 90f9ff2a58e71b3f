//! Which port each process gets: the usual one, or a free one, which is then said aloud.
//!
//! The usual ports are those of the containers, so that every line in the documentation works for both. Where one is
//! taken, the port of the last start is tried, then one that looks like the usual one (18080 for 8080), then any.
//!
//! The members of etcd need no ports among themselves: they talk over sockets in the data folder
//! ([`crate::up::etcd::member`]). A port that etcd remembers and another program has taken would keep it from starting.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

/// Uses and their usual ports, in the order in which they are settled. Those that people type come first.
pub(crate) const USUAL: [(&str, u16); 13] = [
    ("balance", 8080),
    ("balance-admin", 8081),
    ("registry-1", 8500),
    ("registry-2", 8501),
    ("dns-1", 8600),
    ("dns-2", 8601),
    ("mail-1", 7070),
    ("mail-2", 7071),
    ("userlist-1", 6060),
    ("userlist-2", 6061),
    ("etcd-1", 2379),
    ("etcd-2", 22379),
    ("etcd-3", 32379),
];

/// Every port is taken, which takes some doing.
#[derive(Debug, thiserror::Error)]
#[error("no free port is left on 127.0.0.1 for {of}")]
pub(crate) struct NoPortError {
    of: &'static str,
}

/// The port of each use, and which of them are not the usual ones.
#[derive(Debug)]
pub(crate) struct Ports {
    chosen: BTreeMap<&'static str, u16>,
}

/// Ports that no other program gets: by listening on them until the process that wants one starts, and, against another
/// `muster up`, by a claim for the whole life of the suite. Without the claim two suites that start together would take
/// each other's ports in the moment between letting go of one and the process's listening on it.
#[derive(Debug, Default)]
pub(crate) struct HeldPorts {
    listeners: BTreeMap<u16, Vec<TcpListener>>,
    claims: Vec<claim::Claim>,
}

// === impl Ports ===

impl Ports {
    /// Chooses; `take` says whether a port is free, and holds it then.
    pub(crate) fn choose(last: &BTreeMap<String, u16>, mut take: impl FnMut(u16) -> bool) -> Result<Self, NoPortError> {
        let usual: BTreeSet<u16> = USUAL.iter().map(|(_, port)| *port).collect();
        let mut chosen = BTreeMap::new();
        for (of, port) in USUAL {
            let given: BTreeSet<u16> = chosen.values().copied().collect();
            // No process is moved to the usual port of another.
            let others = candidates(port, last.get(of).copied()).filter(|port| !usual.contains(port));
            let found = std::iter::once(port).chain(others).find(|port| !given.contains(port) && take(*port));
            chosen.insert(of, found.ok_or(NoPortError { of })?);
        }
        Ok(Self { chosen })
    }

    /// The port for `of`, one of [`USUAL`].
    pub(crate) fn of(&self, of: &str) -> u16 {
        self.chosen.get(of).copied().expect("every use in USUAL was given a port")
    }

    /// Where `of` listens.
    pub(crate) fn address(&self, of: &str) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.of(of)).into()
    }

    /// Use, usual port and port of whatever had to move.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (&'static str, u16, u16)> {
        USUAL.into_iter().map(|(of, usual)| (of, usual, self.of(of))).filter(|(_, usual, port)| usual != port)
    }

    /// All of them, to be remembered.
    pub(crate) fn to_map(&self) -> BTreeMap<String, u16> {
        self.chosen.iter().map(|(of, port)| ((*of).to_owned(), *port)).collect()
    }
}

/// The port of the last time; the usual one with a digit in front; everything else without privileges, upwards and
/// below the kernel's own choice for outgoing connections (32768 on Linux) first.
fn candidates(usual: u16, last: Option<u16>) -> impl Iterator<Item = u16> {
    let alike = [10_000, 20_000].into_iter().filter_map(move |more| usual.checked_add(more));
    last.into_iter().chain(alike).chain(usual.max(10_000)..32_768).chain(1024..=u16::MAX)
}

// === impl HeldPorts ===

impl HeldPorts {
    /// Takes a port, if it is free on both loopback addresses: `localhost` means either.
    pub(crate) fn take(&mut self, port: u16) -> bool {
        let listen = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, port));
        let Ok(v4) = listen(Ipv4Addr::LOCALHOST.into()) else { return false };
        let Ok(claim) = claim::claim(port) else { return false };
        let mut held = vec![v4];
        match listen(Ipv6Addr::LOCALHOST.into()) {
            Ok(v6) => held.push(v6),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return false,
            // A machine without IPv6.
            Err(_) => {}
        }
        self.listeners.insert(port, held);
        self.claims.extend(claim);
        true
    }

    /// Lets go of a port, for the process that is about to listen on it.
    pub(crate) fn release(&mut self, port: u16) {
        self.listeners.remove(&port);
    }
}

/// A claim is a Unix socket with an abstract name (unix(7)): there is one for the machine, or rather for each network
/// namespace, exactly as with ports; the kernel takes it back when the process ends; and no file is left behind.
#[cfg(target_os = "linux")]
mod claim {
    use std::{
        io,
        os::{
            linux::net::SocketAddrExt as _,
            unix::net::{SocketAddr, UnixListener},
        },
    };

    pub(super) type Claim = UnixListener;

    /// The claim on `port`; an error when another program has it.
    pub(super) fn claim(port: u16) -> Result<Option<Claim>, ()> {
        let Ok(name) = SocketAddr::from_abstract_name(format!("muster-port-{port}")) else { return Ok(None) };
        match UnixListener::bind_addr(&name) {
            Ok(claim) => Ok(Some(claim)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(()),
            // A sandbox without such sockets: then without a claim.
            Err(_) => Ok(None),
        }
    }
}

/// Elsewhere there is no such thing, and a suite that loses the race says so when its process cannot listen.
#[cfg(not(target_os = "linux"))]
mod claim {
    pub(super) type Claim = std::convert::Infallible;

    pub(super) fn claim(_port: u16) -> Result<Option<Claim>, ()> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(last: &[(&str, u16)], taken: &[u16]) -> Ports {
        let last = last.iter().map(|(of, port)| ((*of).to_owned(), *port)).collect();
        Ports::choose(&last, |port| !taken.contains(&port)).unwrap()
    }

    #[test]
    fn the_usual_ports_are_used_where_they_are_free() {
        let ports = choose(&[("balance", 18_080)], &[]);
        assert_eq!(ports.moved().count(), 0, "also when the last start had to use another");
        assert_eq!(ports.address("balance").to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn a_taken_port_moves_only_its_process_and_never_to_the_port_of_another() {
        let ports = choose(&[], &[8080, 2379, 12_379]);
        let moved: Vec<_> = ports.moved().collect();
        assert_eq!(moved, [("balance", 8080, 18_080), ("etcd-1", 2379, 10_000)], "22379 belongs to etcd-2");
    }

    #[test]
    fn the_port_of_the_last_time_comes_before_a_new_one() {
        let ports = choose(&[("mail-1", 17_171), ("mail-2", 7070)], &[7070, 7071]);
        assert_eq!((ports.of("mail-1"), ports.of("mail-2")), (17_171, 17_071));
    }

    #[test]
    fn no_port_is_given_twice_even_if_all_usual_ones_are_taken() {
        let usual: Vec<u16> = USUAL.iter().map(|(_, port)| *port).collect();
        let ports = choose(&[("balance", 20_000), ("mail-1", 20_000)], &usual);
        let different: BTreeSet<u16> = ports.to_map().into_values().collect();
        assert_eq!((different.len(), ports.moved().count()), (USUAL.len(), USUAL.len()));
    }

    #[test]
    fn having_no_port_left_is_an_error_and_not_a_loop() {
        assert!(Ports::choose(&BTreeMap::new(), |_| false).is_err());
    }

    #[test]
    fn a_released_port_is_free_for_a_process_and_not_for_another_suite() {
        let free = testkit::ports::free_ports(1)[0];
        let mut one = HeldPorts::default();
        let mut other = HeldPorts::default();
        assert!(one.take(free));
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, free)).is_err());
        one.release(free);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, free)).is_ok());
        assert!(!other.take(free) || cfg!(not(target_os = "linux")));
        drop(one);
        assert!(other.take(free));
    }
}
