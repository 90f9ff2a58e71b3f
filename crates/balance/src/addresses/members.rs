//! Where etcd's members are, although their endpoints are names.
//!
//! An instance may give the IP address behind the name `etcd-1`, or another name for it. So the names are resolved in
//! the background, again and again, and whatever is about to be connected to is compared with the answers. Starting
//! does not wait for that: as long as a name has no answer, its port is refused on every machine, because any of them
//! may be the member. That withholds nobody but an instance on etcd's own port.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use discovery::Address;
use futures::future::join_all;
use tokio::{
    net::lookup_host,
    time::{sleep, timeout},
};

use super::Forbidden;

/// How often names are resolved again; shorter than most records' time to live.
const EVERY: Duration = Duration::from_secs(10);
/// The first pause, doubled up to [`EVERY`]: the resolver may start together with us.
const AT_FIRST: Duration = Duration::from_secs(1);
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
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

    /// Resolves the names for as long as it is polled; at once done when there are none.
    pub(super) async fn follow(&self) {
        let names: Vec<_> = self.endpoints.iter().filter(|endpoint| endpoint.host.ip().is_none()).collect();
        let mut pause = AT_FIRST;
        while !names.is_empty() {
            for (name, answer) in join_all(names.iter().map(|name| ask(name))).await {
                self.learn(name, answer);
            }
            sleep(pause).await;
            pause = EVERY.min(pause * 2);
        }
    }

    pub(super) fn learn(&self, name: &Address, answer: io::Result<Vec<IpAddr>>) {
        let before = self.resolved.load_full();
        let known = before.get(name);
        let mut members = match answer {
            Ok(members) if !members.is_empty() => members,
            Ok(_) | Err(_) if known.is_some() => return,
            Ok(_) => return tracing::warn!(%name, "etcd's name has no address; instances on its port are not used"),
            Err(error) => {
                return tracing::warn!(%name, %error, "etcd's name is not resolved; instances on its port are not used");
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

async fn ask(name: &Address) -> (&Address, io::Result<Vec<IpAddr>>) {
    let answer = match timeout(ANSWER_MAX, lookup_host((name.host.to_string(), name.port.get()))).await {
        Ok(answer) => answer.map(|sockets| sockets.map(|socket| socket.ip().to_canonical()).collect()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    (name, answer)
}

/// Whether a connection to `ip` may end at `member`: all of 127.0.0.0/8 and `::1` are this machine, and so is 0.0.0.0
/// for whoever connects to it.
fn is_same(member: IpAddr, ip: IpAddr) -> bool {
    let member = match member.to_canonical() {
        member if member.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        member => member,
    };
    member == ip || member.is_loopback() && ip.is_loopback()
}
