//! Where etcd's members are, although their endpoints are names.
//!
//! An instance may give the IP address behind the name `etcd-1`, or another name for it. So the names are resolved in
//! the background, again and again, and whatever is about to be connected to is compared with the answers. Starting
//! does not wait for that: as long as a name has no answer, its port is refused on every machine, because any of them
//! may be the member. That excludes only an instance on etcd's own port.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use discovery::Address;
use futures::future::join_all;
use service_kit::names::{LookupError, Names};
use tokio::time::sleep;

use super::Forbidden;

/// How often the names' answers are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Addresses kept for a name. Former ones stay for as long as there is room: a record in rotation or a member that
/// restarts leaves an answer for a while, and is a member nevertheless.
const PER_NAME_MAX: usize = 64;

/// What the names stand for, the newest answers first. A name without an entry has never been resolved.
pub(crate) type Resolved = HashMap<Address, Vec<IpAddr>>;

/// etcd's endpoints and what is known about them.
#[derive(Debug, Default)]
pub(super) struct Members {
    endpoints: Vec<Address>,
    resolved: ArcSwap<Resolved>,
}

// === impl Members ===

impl Members {
    pub(super) fn new(mut endpoints: Vec<Address>) -> Self {
        endpoints.sort();
        endpoints.dedup();
        Self { endpoints, resolved: ArcSwap::default() }
    }

    /// Whether this is an endpoint to the letter.
    pub(super) fn contains(&self, address: &Address) -> bool {
        self.endpoints.contains(address)
    }

    /// `ip` is canonical: no IPv4 address in IPv6's clothes.
    pub(super) fn check(&self, ip: IpAddr, port: u16) -> Result<(), Forbidden> {
        // Nearly no instance has etcd's port, so nearly no request goes further than this.
        let mut suspicious = self.endpoints.iter().filter(|endpoint| endpoint.port.get() == port).peekable();
        if suspicious.peek().is_none() {
            return Ok(());
        }
        let resolved = self.resolved.load();
        let mut verdict = Ok(());
        for endpoint in suspicious {
            match (endpoint.host.ip(), resolved.get(endpoint)) {
                (Some(member), _) if is_same(member, ip) => return Err(Forbidden::Etcd),
                (None, Some(members)) if members.iter().any(|member| is_same(*member, ip)) => {
                    return Err(Forbidden::Etcd);
                }
                (None, None) => verdict = Err(Forbidden::PerhapsEtcd),
                (Some(_), _) | (None, Some(_)) => {}
            }
        }
        verdict
    }

    /// What is known now; another value, not the same one changed, when more becomes known.
    pub(super) fn resolved(&self) -> Arc<Resolved> {
        self.resolved.load_full()
    }

    /// Follows the names for as long as it is polled; at once done when there are none.
    pub(super) async fn follow(&self, names: &Names) {
        let followed: Vec<_> = self.endpoints.iter().filter(|endpoint| endpoint.host.ip().is_none()).collect();
        let followed: Vec<_> =
            followed.into_iter().map(|endpoint| (endpoint, names.follow(&endpoint.host.to_string()))).collect();
        // The first answers as soon as they come.
        join_all(followed.iter().map(|(_, name)| name.addresses())).await;
        while !followed.is_empty() {
            for (endpoint, name) in &followed {
                let answer = name.answer();
                match &answer.trouble {
                    Some(trouble) if answer.addresses.is_empty() => self.learn(endpoint, Err(&trouble.why)),
                    _ => self.learn(endpoint, Ok(&answer.addresses)),
                }
            }
            sleep(EVERY).await;
        }
    }

    pub(super) fn learn(&self, name: &Address, answer: Result<&[IpAddr], &LookupError>) {
        let before = self.resolved.load_full();
        let known = before.get(name);
        let mut members: Vec<_> = match answer {
            Ok(members) if !members.is_empty() => members.iter().map(IpAddr::to_canonical).collect(),
            Ok(_) | Err(_) if known.is_some() => return,
            Ok(_) => return tracing::debug!(%name, "etcd's name has no address; instances on its port are not used"),
            Err(error) => {
                return tracing::debug!(%name, %error, "etcd's name is not resolved; instances on its port are not used");
            }
        };
        if known.is_some_and(|known| members.iter().all(|member| known.contains(member))) {
            return;
        }
        let former: Vec<_> = known.into_iter().flatten().filter(|former| !members.contains(former)).copied().collect();
        members.extend(former);
        members.truncate(PER_NAME_MAX);
        let mut resolved = Resolved::clone(&before);
        resolved.insert(name.clone(), members);
        self.resolved.store(Arc::new(resolved));
    }
}

/// Whether a connection to `ip` may end at `member`: all of 127.0.0.0/8 and `::1` are this machine, and so is 0.0.0.0
/// for what connects to it.
fn is_same(member: IpAddr, ip: IpAddr) -> bool {
    let member = match member.to_canonical() {
        member if member.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        member => member,
    };
    member == ip || member.is_loopback() && ip.is_loopback()
}
