//! Whether it is the program that listens on its port, or something else: a first copy of it, say, that still runs.
//!
//! A connection that is accepted proves only that *something* listens. Announcing the program on that proof would put
//! a second name on the other's address, and the end of the program would take the other's registration away.

use std::{net::IpAddr, path::Path};

use clap::ValueEnum;

use crate::sockets::{self, Held, Listening};

/// Whose the sockets on the program's port may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listeners {
    /// The program's alone: it is started when the port is free, and announced when the socket is its own
    #[default]
    Own,
    /// The program's beside others (`SO_REUSEPORT`): it is started at once, and announced when it has one, too
    Shared,
    /// Any program's: what listens there is taken to be the program (a container's port, say)
    Any,
}

/// What can be said about the socket that gets the connections.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// The program has it; this link in `/proc` names it for as long as that is so.
    Own { inode: u64, link: String },
    /// Other processes have it: one of them.
    Other(u64),
    /// The system does not tell.
    Unknown(&'static str),
}

/// Watches over the socket of the program on one port.
#[derive(Debug)]
pub(crate) struct Owner {
    port: u16,
    /// What was found last.
    proven: Option<Proven>,
    /// Whether it was said that the system does not tell.
    has_said: bool,
}

/// A socket that was found to be the program's.
#[derive(Debug)]
struct Proven {
    /// For connections to this address.
    ip: Option<IpAddr>,
    inode: u64,
    link: String,
}

// === impl Proven ===

impl Proven {
    /// Whether the program still has it: one look, in the place of a search.
    fn holds(&self) -> bool {
        std::fs::read_link(&self.link).is_ok_and(|target| target == Path::new(&format!("socket:[{}]", self.inode)))
    }
}

// === impl Owner ===

impl Owner {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, proven: None, has_said: false }
    }

    /// Whether the program is seen to listen on its port, at whatever address.
    pub(crate) fn is_seen(&self) -> bool {
        if self.proven.as_ref().is_some_and(Proven::holds) {
            return true;
        }
        let all = sockets::listening(self.port).filter(|all| !all.is_empty());
        all.is_some_and(|all| sockets::of_descendants().is_some_and(|held| held.any_of(&all).is_some()))
    }

    /// Whether connections to `ip` (to any address, if it is not known) arrive at the program. Where the system does
    /// not tell, that is said once and taken to be so.
    ///
    /// # Errors
    /// They arrive elsewhere; says where, and what to do.
    pub(crate) fn confirm(&mut self, ip: Option<IpAddr>) -> Result<(), String> {
        if self.proven.as_ref().is_some_and(|proven| proven.ip == ip && proven.holds()) {
            return Ok(());
        }
        self.proven = None;
        match self.find(ip) {
            Finding::Own { inode, link } => {
                self.proven = Some(Proven { ip, inode, link });
                Ok(())
            }
            Finding::Other(inode) => Err(format!(
                "port {} belongs to {}, which this sidecar did not start; if that is the program all the same (in a \
                 container, say), give --listeners any",
                self.port,
                holder(inode)
            )),
            Finding::Unknown(why) => {
                if !std::mem::replace(&mut self.has_said, true) {
                    tracing::info!(port = self.port, reason = why, "cannot determine which process listens");
                }
                Ok(())
            }
        }
    }

    fn find(&self, ip: Option<IpAddr>) -> Finding {
        let Some(all) = sockets::listening(self.port) else {
            return Finding::Unknown("this system does not tell who listens");
        };
        let serving = sockets::serving(&all, ip);
        if serving.is_empty() {
            return Finding::Unknown("no process of this host listens on its port");
        }
        match sockets::of_descendants() {
            None => Finding::Unknown("this system does not tell which sockets a process has"),
            Some(held) => judge(&serving, &held),
        }
    }
}

/// Whose `serving` is, if these are the sockets of the program.
fn judge(serving: &[Listening], held: &Held) -> Finding {
    match held.any_of(serving) {
        Some((inode, link)) => Finding::Own { inode: *inode, link: link.clone() },
        None if held.is_partial => Finding::Unknown("a part of it runs as another user"),
        None => serving.first().map_or(Finding::Unknown("nothing listens"), |socket| Finding::Other(socket.inode)),
    }
}

/// Which process has a socket, as far as that can be seen.
#[cfg(target_os = "linux")]
pub(crate) fn holder(inode: u64) -> String {
    let holder = service_kit::port_holder::PortHolder::of_socket(inode);
    holder.map_or_else(|| "a process of another user".to_owned(), |holder| holder.to_string())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder(_inode: u64) -> String {
    "another process".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_program_has_not_is_another_ones_unless_a_part_of_it_cannot_be_seen() {
        let serving = [Listening { address: "127.0.0.1:80".parse().unwrap(), inode: 7 }];
        let held = |inode, is_partial| Held { sockets: vec![(inode, "link".to_owned())], is_partial };
        assert_eq!(judge(&serving, &held(7, true)), Finding::Own { inode: 7, link: "link".to_owned() });
        assert_eq!(judge(&serving, &held(8, false)), Finding::Other(7));
        assert!(matches!(judge(&serving, &held(8, true)), Finding::Unknown(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_our_own_is_confirmed_for_as_long_as_it_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut owner = Owner::new(address.port());
        assert!(owner.is_seen());
        assert_eq!(owner.confirm(Some(address.ip())), Ok(()));
        assert!(owner.proven.as_ref().unwrap().holds());
        drop(listener);
        assert!(!owner.proven.as_ref().unwrap().holds(), "the link is gone with the socket");
    }
}
