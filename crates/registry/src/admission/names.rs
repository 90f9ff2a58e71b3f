//! Host names instead of addresses.
//!
//! Whoever connects resolves a name, and it may then mean something else than when it was registered. Resolving it here
//! catches mistakes and the simple attack (a name for `169.254.169.254`); who must exclude the other one refuses names.

use std::{net::IpAddr, time::Duration};

use service_kit::names::Names as Lookups;

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
pub struct Names {
    allow: AllowNames,
    lookups: Lookups,
}

// === impl Names ===

impl Names {
    /// By configuration; names are looked up by `lookups`.
    #[must_use]
    pub fn new(allow: AllowNames, lookups: Lookups) -> Self {
        Self { allow, lookups }
    }

    /// What `name` stands for; nothing, if it is not to be looked at.
    ///
    /// # Errors
    ///
    /// [`Denied::Name`] when names are refused, or it does not resolve.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Denied> {
        let denied = |why| Denied::Name { name: name.to_owned(), why };
        match self.allow {
            AllowNames::Any => return Ok(Vec::new()),
            AllowNames::Refuse => return Err(denied("this registry takes IP addresses only (--allow-names)")),
            AllowNames::Resolve => {}
        }
        // An instance that announces the same name meanwhile waits for the same look-up.
        let name = self.lookups.follow(name);
        match tokio::time::timeout(DEADLINE, name.addresses()).await {
            Ok(Ok(found)) => Ok(found.to_vec()),
            Ok(Err(unresolved)) if unresolved.why().is_denial() => {
                Err(denied("it does not resolve here; announce the IP address"))
            }
            Ok(Err(_)) => Err(denied("no name server could answer here; announce the IP address")),
            Err(_) => Err(denied("it did not resolve in time here; announce the IP address")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(allow: AllowNames) -> Names {
        Names::new(allow, Lookups::default())
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
}
