//! The addresses of host names that instances announce, for clients that cannot follow an alias.
//!
//! The resolvers of musl and glibc take what is in the answer and do not ask for an alias's target; a plain forwarder (dnsmasq, a
//! router) passes on what it gets. So the registry looks the names up itself, as the gateway does ([`service_kit::names`]), from
//! the first question about their service on and for as long as they are asked: answers come from memory.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery::{HostName, forbidden::ForbiddenIp};
use futures::future::join_all;
use service_kit::names::{Name, Names};
use tokio::time::{Instant, timeout};

/// How many names are looked up at most; of those beyond, only the name is told.
const FOLLOWED_MAX: usize = 4096;

/// A name that was not asked for, for so long, is no longer looked up.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// How long a question waits for the first look-up of a name: less than resolvers wait for an answer (musl and glibc 5 s, unbound
/// and dnsmasq about one or two before they ask elsewhere).
const FIRST_MAX: Duration = Duration::from_millis(800);

/// Names that are looked up.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: Names,
    followed: Mutex<HashMap<HostName, Followed>>,
}

#[derive(Debug)]
struct Followed {
    name: Arc<Name>,
    asked: Instant,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) enum Known {
    /// Its addresses; none, if it does not resolve now.
    Addresses(Vec<IpAddr>),
    /// The first look-up is under way.
    NotYet(Arc<Name>),
}

// === impl Hosts ===

impl Hosts {
    /// Looks names up through `names`.
    pub(super) fn new(names: Names) -> Self {
        Self { names, followed: Mutex::default() }
    }

    /// What is known of `host`, which is looked up from now on. Addresses that the gateway would not connect to are left out.
    pub(super) fn known(&self, host: &HostName) -> Known {
        let Some(name) = self.follow(host, Instant::now()) else { return Known::Addresses(Vec::new()) };
        let answer = name.answer();
        if answer.addresses.is_empty() && answer.trouble.is_none() {
            return Known::NotYet(name);
        }
        let ips = answer.addresses.iter().map(IpAddr::to_canonical);
        Known::Addresses(ips.filter(|ip| ForbiddenIp::check(*ip).is_ok()).collect())
    }

    fn follow(&self, host: &HostName, now: Instant) -> Option<Arc<Name>> {
        let mut all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = all.get_mut(host) {
            followed.asked = now;
            return Some(Arc::clone(&followed.name));
        }
        // Rare enough to look over all: a name that is asked for the first time.
        all.retain(|_, followed| now.saturating_duration_since(followed.asked) < FORGOTTEN_AFTER);
        if all.len() >= FOLLOWED_MAX {
            return None;
        }
        let name = self.names.follow(host.as_str());
        all.insert(host.clone(), Followed { name: Arc::clone(&name), asked: now });
        Some(name)
    }
}

/// Waits until each of `names` has been looked up once, for a while.
pub(super) async fn looked_up(names: Vec<Arc<Name>>) {
    let _some_may_be_late = timeout(FIRST_MAX, join_all(names.iter().map(|name| name.addresses()))).await;
}
