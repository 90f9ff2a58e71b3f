//! Host names instead of addresses.
//!
//! Every client resolves a name anew, and it may then mean something else than when it was registered. Resolving it here
//! catches mistakes and the simple attack (a name for `169.254.169.254`); who must exclude the other one refuses names.
//!
//! | the name servers say | answer |
//! |---|---|
//! | addresses | those are checked |
//! | there is no such name, or it has no address | 422: the sender changes the name |
//! | nothing in time, or that they failed | 503: the sender tries again |
//!
//! A heartbeat waits for a short time only. The look-up goes on for [`KEPT`], so that the next heartbeat finds the answer of
//! a name server that is slower than that.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery::deadlines::NAME_LOOKUP;
use service_kit::names::{Name, Names as Lookups};
use tokio::time::{Instant, timeout};

use super::denied::Denied;

/// How long a name is followed that could not be resolved: some heartbeats.
pub const KEPT: Duration = Duration::from_secs(10);
/// How many names are followed at most for that reason.
const KEPT_MAX: usize = 256;

/// What to do with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum AllowNames {
    /// Take it if everything it resolves to now is allowed.
    #[default]
    Resolve,
    /// Take no names: they may mean something else tomorrow.
    Refuse,
    /// Take any name as it is.
    Any,
}

/// Resolves, or does not.
#[derive(Debug)]
pub struct HostnamePolicy {
    allow: AllowNames,
    lookups: Lookups,
    /// Names that could not be resolved lately, and until when each is followed.
    unresolved: Mutex<VecDeque<(Instant, Arc<Name>)>>,
}

// === impl HostnamePolicy ===

impl HostnamePolicy {
    /// By configuration; names are looked up by `lookups`.
    #[must_use]
    pub fn new(allow: AllowNames, lookups: Lookups) -> Self {
        Self { allow, lookups, unresolved: Mutex::default() }
    }

    /// What `name` stands for; nothing, if it is not to be looked at.
    ///
    /// # Errors
    ///
    /// [`Denied::Name`] when names are refused, or there is none; [`Denied::Unresolved`] when that is not known now.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Denied> {
        let denied = |why| Denied::Name { name: name.to_owned(), why };
        match self.allow {
            AllowNames::Any => return Ok(Vec::new()),
            AllowNames::Refuse => return Err(denied("this registry takes IP addresses only (--allow-names)")),
            AllowNames::Resolve => {}
        }
        // An instance that announces the same name meanwhile waits for the same look-up.
        let followed = self.lookups.follow(name);
        let unresolved = |why: String| Denied::Unresolved { name: name.to_owned(), why };
        let found = match timeout(NAME_LOOKUP, followed.addresses()).await {
            Ok(Ok(found)) => return Ok(found.to_vec()),
            Ok(Err(error)) if error.why().is_denial() => {
                return Err(denied("it does not resolve here; announce the IP address"));
            }
            Ok(Err(error)) => unresolved(error.why().to_string()),
            Err(_) => unresolved(format!("no name server answered within {} ms", NAME_LOOKUP.as_millis())),
        };
        self.go_on_with(followed);
        Err(found)
    }

    /// Lets the look-up go on when no request waits for it any more.
    fn go_on_with(&self, name: Arc<Name>) {
        let now = Instant::now();
        let mut unresolved = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        unresolved.retain(|(until, other)| *until > now && !Arc::ptr_eq(other, &name));
        if unresolved.len() == KEPT_MAX {
            unresolved.pop_front();
        }
        unresolved.push_back((now + KEPT, name));
    }
}

#[cfg(test)]
mod tests {
    use testkit::{
        name_server::{Manner, NameServer},
        wait::{SOON, wait_for},
    };

    use super::*;

    fn names(allow: AllowNames) -> HostnamePolicy {
        HostnamePolicy::new(allow, Lookups::default())
    }

    #[tokio::test]
    async fn a_name_is_resolved_or_refused_or_taken_by_configuration() {
        let all_loopback = |ips: Vec<IpAddr>| !ips.is_empty() && ips.iter().all(IpAddr::is_loopback);
        assert!(all_loopback(names(AllowNames::Resolve).resolve("localhost").await.unwrap()));
        assert!(matches!(names(AllowNames::Refuse).resolve("localhost").await, Err(Denied::Name { .. })));
        assert!(names(AllowNames::Any).resolve("localhost").await.unwrap().is_empty());
        let missing = names(AllowNames::Resolve).resolve("no-such-name.invalid").await;
        assert!(matches!(missing, Err(Denied::Name { .. })), "RFC 6761: it never resolves");
    }

    #[tokio::test]
    async fn what_no_name_server_can_tell_now_is_no_denial_and_a_slow_answer_serves_the_next_heartbeat() {
        let server = NameServer::start().await;
        let names = HostnamePolicy::new(AllowNames::Resolve, Lookups::new(vec![server.address()]));
        server.set("mail-1.test", &["127.0.0.7"], 60);
        let gone = names.resolve("gone.test").await;
        assert!(matches!(gone, Err(Denied::Name { .. })), "NXDOMAIN: {gone:?}");
        server.set_manner(Manner::Failing);
        let failed = names.resolve("mail-2.test").await;
        assert!(matches!(failed, Err(Denied::Unresolved { .. })), "SERVFAIL: {failed:?}");
        server.set_manner(Manner::Slow(2 * NAME_LOOKUP));
        let slow = names.resolve("mail-1.test").await;
        assert!(matches!(slow, Err(Denied::Unresolved { .. })), "{slow:?}");
        let found = wait_for("the answer that came late", SOON, async || names.resolve("mail-1.test").await.ok()).await;
        assert_eq!(found, ["127.0.0.7".parse::<IpAddr>().unwrap()]);
    }
}
