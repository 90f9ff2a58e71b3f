//! Host names instead of addresses.
//!
//! Whoever connects resolves a name, and it may then mean something else than when it was registered. Resolving it here
//! catches mistakes and the simple attack (a name for `169.254.169.254`); who must exclude the other one refuses names.

use std::{net::IpAddr, time::Duration};

use super::denied::Denied;

/// How long a name may take to resolve: a heartbeat waits for it, once.
const DEADLINE: Duration = Duration::from_secs(1);

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
pub struct Names(AllowNames);

// === impl Names ===

impl Names {
    /// By configuration.
    #[must_use]
    pub fn new(allow: AllowNames) -> Self {
        Self(allow)
    }

    /// What `name` stands for; nothing, if it is not to be looked at.
    ///
    /// # Errors
    ///
    /// [`Denied::Name`] when names are refused, or it does not resolve.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Denied> {
        let denied = |why| Denied::Name { name: name.to_owned(), why };
        match self.0 {
            AllowNames::Any => return Ok(Vec::new()),
            AllowNames::Refuse => return Err(denied("this registry takes IP addresses only (--allow-names)")),
            AllowNames::Resolve => {}
        }
        let lookup = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((name, 0))).await;
        let found: Vec<IpAddr> = match lookup {
            Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
            Ok(Err(_)) => Vec::new(),
            Err(_) => return Err(denied("it did not resolve in time here; announce the IP address")),
        };
        if found.is_empty() {
            return Err(denied("it does not resolve here; announce the IP address"));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_or_refused_or_taken_by_configuration() {
        let all_loopback = |ips: Vec<IpAddr>| !ips.is_empty() && ips.iter().all(IpAddr::is_loopback);
        assert!(all_loopback(Names::new(AllowNames::Resolve).resolve("localhost").await.unwrap()));
        assert!(matches!(Names::new(AllowNames::Refuse).resolve("localhost").await, Err(Denied::Name { .. })));
        assert!(Names::new(AllowNames::Any).resolve("localhost").await.unwrap().is_empty());
        let missing = Names::new(AllowNames::Resolve).resolve("no-such-name.invalid").await;
        assert!(matches!(missing, Err(Denied::Name { .. })), "RFC 6761: it never resolves");
    }
}
