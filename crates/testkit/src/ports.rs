//! Free loopback ports for processes that cannot be told to choose one themselves.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use nix::fcntl::{Flock, FlockArg};

/// Below what Linux hands out by itself (`net.ipv4.ip_local_port_range`, from 32768): otherwise an outgoing
/// connection could take the port while a member that uses it is being restarted.
const RANGE: std::ops::Range<u16> = 10_240..32_768;

/// The ports of this process, each with a lock that other test processes respect. They are ours until we end.
static OURS: Mutex<Option<HashMap<u16, Flock<File>>>> = Mutex::new(None);

/// Returns `count` different TCP ports that are free on 127.0.0.1, and that no other test will get while this process
/// lives, even while nothing listens on them.
///
/// A program that can listen on port 0 should do that instead.
///
/// # Panics
///
/// When the machine has no free port left, or no temporary folder.
pub fn free_ports(count: usize) -> Vec<u16> {
    let locks = locks();
    fs::create_dir_all(&locks).expect("a writable temporary folder");
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = ours.get_or_insert_default();
    let mut ports = Vec::new();
    // Tests that start together should not all walk the same way.
    let start = RANGE.start + u16::try_from(std::process::id() % 20_000).expect("less than 20000");
    let mut candidates = (start..RANGE.end).chain(RANGE.start..start);
    while ports.len() < count {
        let port = candidates.next().expect("a free loopback port");
        if ours.contains_key(&port) {
            continue;
        }
        let Ok(file) = File::options().create(true).append(true).open(locks.join(port.to_string())) else { continue };
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        // A program that knows nothing of our locks may have it all the same.
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ours.insert(port, lock);
            ports.push(port);
        }
    }
    ports
}

/// Where the locks are: one folder for each user, who could not open those of others.
fn locks() -> PathBuf {
    std::env::temp_dir().join(format!("muster-test-ports-{}", nix::unistd::getuid()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<u16> = (0..10).flat_map(|_| free_ports(10)).collect();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn another_process_does_not_get_our_port() {
        let port = free_ports(1)[0];
        let file = File::options().append(true).open(locks().join(port.to_string())).unwrap();
        assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
    }
}
