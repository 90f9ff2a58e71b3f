//! Which process listens on a TCP port, so that "address already in use" comes with a name.
//!
//! Linux tells it in `/proc`: a table of sockets, and behind each process's open files the sockets that it has.
//! Processes of other users may keep theirs to themselves, and then nothing is known. Asking takes milliseconds, for
//! when something is wrong.

use std::{fmt, net::SocketAddr};

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// What it is called: the first 15 bytes of its program's file name (proc(5), comm).
    pub name: String,
    /// Its process id.
    pub pid: i32,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

impl PortHolder {
    /// Who keeps others from listening on `address` with TCP; none when that cannot be seen.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(address: SocketAddr) -> Option<Self> {
        use procfs::net;

        let sockets = [net::tcp(), net::tcp6()].into_iter().flatten().flatten();
        let mut listening = sockets.filter(|socket| socket.state == net::TcpState::Listen);
        Self::of_socket(listening.find(|socket| is_in_the_way(socket.local_address, address))?.inode)
    }

    /// Which process has the socket that `/proc` knows by this number; the first one, if several share it.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn of_socket(inode: u64) -> Option<Self> {
        use procfs::process;

        let has_it = |process: &process::Process| {
            let mut files = process.fd().into_iter().flatten().flatten();
            files.any(|file| file.target == process::FDTarget::Socket(inode))
        };
        let holder = process::all_processes().ok()?.flatten().find(has_it)?;
        Some(Self { name: holder.stat().ok()?.comm, pid: holder.pid })
    }

    /// Nothing is known.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_address: SocketAddr) -> Option<Self> {
        None
    }
}

/// Whether a socket that listens on `held` leaves no room for one on `wanted`: the same port, of the same address or of
/// all.
///
/// All addresses of IPv6 are taken to be those of IPv4 as well, as they are unless a program says otherwise.
#[must_use]
pub fn is_in_the_way(held: SocketAddr, wanted: SocketAddr) -> bool {
    let held_ip = held.ip().to_canonical();
    let wanted_ip = wanted.ip().to_canonical();
    let is_all = held_ip.is_unspecified() || wanted_ip.is_unspecified();
    let is_both = [held_ip, wanted_ip].iter().any(|ip| ip.is_ipv6() && ip.is_unspecified());
    let is_same_family = held_ip.is_ipv4() == wanted_ip.is_ipv4();
    held.port() == wanted.port() && (held_ip == wanted_ip || is_all && (is_both || is_same_family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_listener_of_our_own_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = PortHolder::of(listener.local_addr().unwrap()).expect("our own files are ours to see");
        assert_eq!(holder.pid.cast_unsigned(), std::process::id());
        let free = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(PortHolder::of(free), None, "it listens no longer");
    }

    #[test]
    fn the_same_port_of_another_address_is_not_in_the_way() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let wanted = address("127.0.0.1:80");
        for held in ["127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(is_in_the_way(address(held), wanted), "{held}");
        }
        assert!(is_in_the_way(wanted, address("0.0.0.0:80")) && is_in_the_way(wanted, address("[::]:80")));
        for held in ["127.0.0.2:80", "127.0.0.1:81", "[::1]:80"] {
            assert!(!is_in_the_way(address(held), wanted), "{held}");
        }
        assert!(!is_in_the_way(address("[::1]:80"), address("0.0.0.0:80")), "0.0.0.0 has no address of IPv6");
    }
}
