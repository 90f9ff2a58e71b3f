//! Which sockets listen on a port, and which of them the program has, as Linux tells it in `/proc` (proc(5)).
//!
//! The table of sockets is readable by every user; the open files of a process only by its own user and by root.

use std::net::{IpAddr, SocketAddr};

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listening {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Its number in `/proc`.
    pub(crate) inode: u64,
}

/// The sockets of some processes.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The number of each, and the link in `/proc` that names it.
    pub(crate) sockets: Vec<(u64, String)>,
    /// Whether a process among them keeps its open files to itself.
    pub(crate) is_partial: bool,
}

// === impl Held ===

impl Held {
    /// The link that names one of `wanted`.
    pub(crate) fn any_of(&self, wanted: &[Listening]) -> Option<&(u64, String)> {
        self.sockets.iter().find(|(inode, _)| wanted.iter().any(|socket| socket.inode == *inode))
    }
}

/// Those of `all` that get the connections to `ip`: of the sockets on one port, the one with the most specific address.
/// All of them where it is not known to which address the connections go.
pub(crate) fn serving(all: &[Listening], ip: Option<IpAddr>) -> Vec<Listening> {
    let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return all.to_vec() };
    let rank = |socket: &Listening| match socket.address.ip().to_canonical() {
        held if held == ip => Some(2),
        held if held.is_unspecified() && held.is_ipv4() == ip.is_ipv4() => Some(1),
        held if held.is_unspecified() && held.is_ipv6() => Some(0),
        _ => None,
    };
    let Some(best) = all.iter().filter_map(rank).max() else { return Vec::new() };
    all.iter().filter(|socket| rank(socket) == Some(best)).copied().collect()
}

/// All sockets that listen on `port`; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn listening(port: u16) -> Option<Vec<Listening>> {
    use procfs::net;

    // A kernel without IPv6 has one table only.
    let tables = [net::tcp(), net::tcp6()].map(Result::ok);
    if tables.iter().all(Option::is_none) {
        return None;
    }
    let sockets = tables.into_iter().flatten().flatten();
    let listening =
        sockets.filter(|socket| socket.state == net::TcpState::Listen && socket.local_address.port() == port);
    Some(listening.map(|socket| Listening { address: socket.local_address, inode: socket.inode }).collect())
}

/// The sockets of this process and of all its descendants; `None` where the system does not tell.
///
/// What the program leaves behind becomes a child of this process (see `reaper`), so nothing of it is missed.
#[cfg(target_os = "linux")]
pub(crate) fn of_descendants() -> Option<Held> {
    use std::collections::HashMap;

    use procfs::process::{Process, all_processes};

    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all_processes().ok()?.flatten() {
        if let Ok(stat) = process.stat() {
            children.entry(stat.ppid).or_default().push(process);
        }
    }
    let mut family = vec![Process::myself().ok()?];
    let mut held = Held::default();
    while let Some(process) = family.pop() {
        add(&mut held, &process);
        family.extend(children.remove(&process.pid).into_iter().flatten());
    }
    Some(held)
}

/// The sockets of this process alone: those that were handed to it, among others.
#[cfg(target_os = "linux")]
pub(crate) fn of_this_process() -> Held {
    let mut held = Held::default();
    if let Ok(process) = procfs::process::Process::myself() {
        add(&mut held, &process);
    }
    held
}

#[cfg(target_os = "linux")]
fn add(held: &mut Held, process: &procfs::process::Process) {
    use procfs::{ProcError, process::FDTarget};

    match process.fd() {
        Ok(files) => held.sockets.extend(files.flatten().filter_map(|file| match file.target {
            FDTarget::Socket(inode) => Some((inode, format!("/proc/{}/fd/{}", process.pid, file.fd))),
            _ => None,
        })),
        Err(ProcError::PermissionDenied(_)) => held.is_partial = true,
        // It has ended.
        Err(_) => {}
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn listening(_port: u16) -> Option<Vec<Listening>> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_descendants() -> Option<Held> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn of_this_process() -> Held {
    Held::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_address_gets_the_connection() {
        let socket = |(inode, address): (u64, &str)| Listening { address: address.parse().unwrap(), inode };
        let all: Vec<Listening> =
            [(1, "0.0.0.0:80"), (2, "127.0.0.1:80"), (3, "[::]:80"), (4, "[::ffff:10.0.0.5]:80")].map(socket).into();
        let inodes = |all: &[Listening], ip: Option<&str>| -> Vec<u64> {
            let served = serving(all, ip.map(|ip| ip.parse().unwrap()));
            served.into_iter().map(|socket| socket.inode).collect()
        };
        assert_eq!(inodes(&all, Some("127.0.0.1")), [2]);
        assert_eq!(inodes(&all, Some("10.0.0.5")), [4]);
        assert_eq!(inodes(&all, Some("10.0.0.6")), [1]);
        assert_eq!(inodes(&all, Some("::1")), [3]);
        assert_eq!(inodes(&all[2..], Some("10.0.0.6")), [3], "all of IPv6 are all of IPv4, too");
        assert_eq!(inodes(&all[..2], Some("::1")), [0; 0]);
        assert_eq!(inodes(&all, None).len(), 4);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_is_found_with_the_process_that_has_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let all = listening(address.port()).unwrap();
        assert!(all.iter().any(|socket| socket.address == address), "{all:?}");
        let wanted = serving(&all, Some(address.ip()));
        for held in [of_this_process(), of_descendants().unwrap()] {
            let (inode, link) = held.any_of(&wanted).expect("it is ours");
            assert_eq!(std::fs::read_link(link).unwrap().display().to_string(), format!("socket:[{inode}]"));
        }
    }
}
