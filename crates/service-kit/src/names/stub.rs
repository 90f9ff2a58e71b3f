//! One look-up, from `/etc/hosts` to the last name server.
//!
//! The name servers are asked in their order, as resolv.conf(5) has it: the first may know names that the others do
//! not. But a dead one costs a third of a second and not five: then the next one is asked beside it, and the first good
//! answer is the answer. "There is no such name" counts when every one before has spoken.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use hickory_resolver::{
    Hosts,
    proto::{
        op::Query,
        rr::{Name as DomainName, RecordType},
    },
};
use tokio::time::{sleep, timeout};

use super::{
    LOOKUP_MAX, LookupError, search,
    server::{Found, Server},
};

/// How long a name server is waited for before the next one is asked, too.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// For how long the files are not read again.
const FILES_EVERY: Duration = Duration::from_secs(1);
/// The time to live of what is in `/etc/hosts`: so soon is a change noticed.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Stub {
    configured: Vec<SocketAddr>,
    files: Mutex<Option<Files>>,
}

/// What the files say, and what they were when they said it.
#[derive(Debug, Clone)]
struct Files {
    read_at: Instant,
    resolv_conf: Vec<u8>,
    hosts_text: Vec<u8>,
    hosts: Arc<Hosts>,
    servers: Arc<[Server]>,
}

// === impl Stub ===

impl Stub {
    pub(super) fn new(configured: Vec<SocketAddr>) -> Self {
        Self { configured, files: Mutex::default() }
    }

    /// The addresses of `host`, within [`LOOKUP_MAX`].
    pub(super) async fn look_up(&self, host: &str) -> Result<Found, LookupError> {
        // RFC 6761, section 6.4: no name server is asked.
        if host == "invalid" || host.ends_with(".invalid") {
            return Err(LookupError::NoSuchName);
        }
        let Files { hosts, servers, .. } = self.files();
        if let Some(addresses) = of_this_machine(&hosts, host) {
            return Ok(Found { addresses, ttl: HOSTS_TTL });
        }
        timeout(LOOKUP_MAX, ask_in_order(&servers, host)).await.unwrap_or(Err(LookupError::Timeout(LOOKUP_MAX)))
    }

    /// The files as they are now; they are small, and read once a second at most.
    fn files(&self) -> Files {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let before = files.take();
        let now = Instant::now();
        let fresh = match before {
            Some(recent) if now < recent.read_at + FILES_EVERY => recent,
            before => Files::read(before.as_ref(), &self.configured, now),
        };
        files.insert(fresh).clone()
    }
}

// === impl Files ===

impl Files {
    fn read(before: Option<&Self>, configured: &[SocketAddr], read_at: Instant) -> Self {
        // One that cannot be read says nothing, which is what an empty one says.
        let read = |path| std::fs::read(path).unwrap_or_default();
        let resolv_conf = read("/etc/resolv.conf");
        let hosts_text = read("/etc/hosts");
        let hosts = match before {
            Some(before) if before.hosts_text == hosts_text => Arc::clone(&before.hosts),
            _ => {
                let mut hosts = Hosts::default();
                let _lines_that_make_no_sense_are_left_out = hosts.read_hosts_conf(&hosts_text[..]);
                Arc::new(hosts)
            }
        };
        let servers = match before {
            Some(before) if before.resolv_conf == resolv_conf => Arc::clone(&before.servers),
            _ => servers(&resolv_conf, configured),
        };
        Self { read_at, resolv_conf, hosts_text, hosts, servers }
    }
}

fn servers(resolv_conf: &[u8], configured: &[SocketAddr]) -> Arc<[Server]> {
    let (listed, search) = search::read(resolv_conf);
    let addresses = if configured.is_empty() { &listed } else { configured };
    let made = addresses.iter().map(|address| (address, Server::new(*address, &search)));
    let made = made.filter_map(|(address, server)| match server {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%address, %error, "name server skipped");
            None
        }
    });
    made.collect()
}

/// The addresses that no name server is asked for: those in `/etc/hosts`, and `localhost` (RFC 6761, section 6.3).
fn of_this_machine(hosts: &Hosts, host: &str) -> Option<Vec<IpAddr>> {
    let name = DomainName::from_ascii(host).ok()?;
    let listed = |of_type| hosts.lookup_static_host(&Query::query(name.clone(), of_type));
    let found = [listed(RecordType::A), listed(RecordType::AAAA)].into_iter().flatten();
    let records: Vec<_> = found.flat_map(|lookup| lookup.answers().to_vec()).collect();
    let addresses: Vec<_> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let is_localhost = host == "localhost" || host.ends_with(".localhost");
    match (addresses.is_empty(), is_localhost) {
        (false, _) => Some(addresses),
        (true, true) => Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        (true, false) => None,
    }
}

async fn ask_in_order(servers: &[Server], host: &str) -> Result<Found, LookupError> {
    let mut verdicts: Vec<Option<LookupError>> = vec![None; servers.len()];
    let mut asked = FuturesUnordered::new();
    let mut next = 0;
    loop {
        if let Some(server) = servers.get(next) {
            let n = next;
            asked.push(async move { (n, server.ask(host).await) });
            next += 1;
        }
        loop {
            tokio::select! {
                biased;
                Some((n, answer)) = asked.next() => match answer {
                    Ok(found) => return Ok(found),
                    Err(error) => {
                        let is_failure = !error.is_denial();
                        verdicts[n] = Some(error);
                        match verdict(&verdicts) {
                            Some(error) => return Err(error),
                            None if is_failure && next < servers.len() => break,
                            None => {}
                        }
                    }
                },
                () = sleep(NEXT_AFTER), if next < servers.len() => break,
                else => return Err(LookupError::Failed("there is no name server to ask".to_owned())),
            }
        }
    }
}

/// The first denial before which no server is still being asked; if all have failed, how the last one did.
fn verdict(verdicts: &[Option<LookupError>]) -> Option<LookupError> {
    for verdict in verdicts {
        if verdict.as_ref()?.is_denial() {
            return verdict.clone();
        }
    }
    verdicts.last().cloned().flatten()
}
