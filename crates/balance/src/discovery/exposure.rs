//! Services that ask for no token, and that other machines reach through this gateway.
//!
//! A service that listens on loopback may be open to everyone there; a gateway in front of it that listens beyond loopback opens
//! it to everyone who reaches the gateway. The service cannot see that; the gateway can, because the service announces that
//! it is open ([`OpenAccess`]).

use std::{collections::BTreeSet, net::SocketAddr};

use discovery::{OpenAccess, Registered, ServiceName};

/// Remembers what was warned of.
#[derive(Debug)]
pub(crate) struct Exposure {
    /// Where users come in, if that is beyond loopback.
    listen: Option<SocketAddr>,
    told: BTreeSet<ServiceName>,
}

// === impl Exposure ===

impl Exposure {
    /// Of a gateway whose users come in at `listen`.
    pub(crate) fn at(listen: SocketAddr) -> Self {
        Self { listen: Some(listen).filter(|listen| !listen.ip().to_canonical().is_loopback()), told: BTreeSet::new() }
    }

    /// Warns of the open services among `added`, once each.
    pub(crate) fn look_at(&mut self, added: &[Registered]) {
        let Some(listen) = self.listen else { return };
        for service in self.news(added) {
            tracing::warn!(
                service.name = %service,
                %listen,
                "this service asks for no token, and every client of this gateway can use it; give it tokens (--tokens-file), or \
                 let the gateway listen on loopback"
            );
        }
    }

    fn news(&mut self, added: &[Registered]) -> Vec<ServiceName> {
        let open = added.iter().filter(|new| self.listen.is_some() && OpenAccess::is_said_by(&new.instance));
        open.map(|new| new.key.service.clone()).filter(|service| self.told.insert(service.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use discovery::{Instance, Revision};

    use super::*;

    fn registered(key: &str, value: &str) -> Registered {
        let (key, instance) = (key.parse().unwrap(), Instance::parse(value.as_bytes()).unwrap());
        Registered { key, instance, lease: None, created: Revision(1), modified: Revision(1) }
    }

    #[test]
    fn an_open_service_is_warned_of_once_where_others_come_in() {
        let open = "http://127.0.0.1:7070?meta.open=yes";
        let added = [
            registered("service/mail/a", open),
            registered("service/mail/b", open),
            registered("service/web/a", "127.0.0.1:80"),
        ];
        let mut exposure = Exposure::at("0.0.0.0:8080".parse().unwrap());
        let news: Vec<String> = exposure.news(&added).iter().map(ToString::to_string).collect();
        assert_eq!(news, ["mail"]);
        assert!(exposure.news(&added).is_empty(), "said once");
        for loopback in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert!(Exposure::at(loopback.parse().unwrap()).news(&added).is_empty(), "{loopback}");
        }
    }
}
