//! By which address the program is announced, and whether it is reached by that.
//!
//! | `--host` | `--advertise` | announced | asked for a connection |
//! |---|---|---|---|
//! | an address or a name | | that | that |
//! | none | `HOST:PORT` | that | this machine: the way from outside is not ours to try |
//! | none | | the address of the interface that reaches the registry | that |
//!
//! In the last case, a program that listens on another loopback address only (`localhost` is `::1` to Node.js) is
//! announced by that, if the registry is on this machine, too; if not, it could not be reached, and that is said
//! instead.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use discovery::{Address, Host};
use heartbeat::{AnnouncedAddress, HeartbeatOptions};
use tokio::{net::TcpStream, time::timeout};

use crate::config::Target;

/// The way to the program.
#[derive(Debug)]
pub(crate) struct Reach {
    target: Target,
    /// What would be announced, where no option says it.
    announced: Option<AnnouncedAddress>,
    /// The only address that the program was found at, where it is not the one of the interface.
    settled: Option<IpAddr>,
}

/// Where the program was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The address that was asked, where that is known as a number.
    pub(crate) ip: Option<IpAddr>,
    /// What to announce: that it listens on this.
    pub(crate) listen: SocketAddr,
}

// === impl Reach ===

impl Reach {
    pub(crate) fn new(target: &Target, options: &HeartbeatOptions) -> Self {
        let is_open = options.advertise.is_none() && target.is_everywhere();
        let announced = is_open.then(|| AnnouncedAddress::new(target.listen(), options));
        Self { target: target.clone(), announced, settled: None }
    }

    /// For a check that does not connect.
    pub(crate) fn unseen(&self) -> Reached {
        Reached { ip: None, listen: self.target.listen() }
    }

    /// Connects by the address that is, or will be, announced. A third of `limit` is for finding that out.
    ///
    /// # Errors
    /// Nothing accepts connections there; says where something does, and what to do.
    pub(crate) async fn connect(&mut self, limit: Duration) -> Result<Reached, String> {
        if let Some(ip) = self.settled {
            return self.one(&[self.at(ip)], Some(ip)).await;
        }
        let Some(announced) = &mut self.announced else { return self.local().await };
        match timeout(limit / 3, announced.get()).await {
            Ok(Ok(address)) => self.by_interface(address).await,
            // Nothing is announced before it is known, and then this is asked again.
            Ok(Err(_)) | Err(_) => self.local().await,
        }
    }

    /// Keeps to what was reached and found to be right.
    pub(crate) fn settle(&mut self, reached: &Reached) {
        let listen = reached.listen.ip();
        if self.announced.is_some() && !listen.is_unspecified() && self.settled.replace(listen).is_none() {
            tracing::info!(address = %reached.listen, "the program listens on this address only: it is announced");
        }
    }

    async fn local(&self) -> Result<Reached, String> {
        self.one(&self.target.local(), None).await
    }

    /// The first of `addresses` that accepts a connection; `only` is announced then.
    async fn one(&self, addresses: &[Address], only: Option<IpAddr>) -> Result<Reached, String> {
        let mut reasons = Vec::new();
        for address in addresses {
            match connect(address).await {
                Ok(()) => {
                    let all = self.target.listen();
                    let listen = only.map_or(all, |ip| SocketAddr::new(ip, all.port()));
                    return Ok(Reached { ip: address.host.ip(), listen });
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(format!("nothing accepts connections ({}); --host says where it listens", reasons.join(", ")))
    }

    async fn by_interface(&self, address: Address) -> Result<Reached, String> {
        let Err(reason) = connect(&address).await else {
            return Ok(Reached { ip: address.host.ip(), listen: self.target.listen() });
        };
        let is_loopback = address.host.ip().is_some_and(|ip| ip.is_loopback());
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            if connect(&self.at(ip)).await.is_err() {
                continue;
            }
            if is_loopback {
                return Ok(Reached { ip: Some(ip), listen: SocketAddr::new(ip, self.target.port.get()) });
            }
            return Err(format!(
                "it accepts connections at {ip} only, and not at {address}, by which others would look for it; let it \
                 listen on all addresses (0.0.0.0), or give --host {ip} if registry and gateway are on this machine"
            ));
        }
        Err(format!("nothing accepts connections ({reason}); --host says where it listens"))
    }

    fn at(&self, ip: IpAddr) -> Address {
        let host: Host = ip.to_string().parse().expect("an IP address is a host");
        Address { host, port: self.target.port }
    }
}

pub(crate) async fn connect(address: &Address) -> Result<(), String> {
    TcpStream::connect(address.to_string()).await.map(drop).map_err(|error| format!("{address}: {error}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// The way to a program on the port of `listener`, for a registry at this address.
    fn reach(listener: &TcpListener, host: Option<&str>, registry: &str) -> Reach {
        let port = listener.local_addr().unwrap().port().try_into().unwrap();
        let host = host.map(|host| host.parse().unwrap());
        let target = Target { service: "web".parse().unwrap(), host, port };
        Reach::new(&target, &HeartbeatOptions::for_registries(vec![registry.parse().unwrap()]))
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_listens_on_all_addresses_stays_announced_by_that_of_the_interface() {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let mut reach = reach(&listener, None, "http://127.0.0.1:8500");
        let reached = reach.connect(LIMIT).await.unwrap();
        assert_eq!(reached.ip, Some(Ipv4Addr::LOCALHOST.into()));
        assert!(reached.listen.ip().is_unspecified(), "a change of the network is followed");
    }

    #[tokio::test]
    async fn what_listens_on_the_other_loopback_address_is_announced_by_it_and_stays_so() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut reach = reach(&listener, None, "http://127.0.0.1:8500");
        let reached = reach.connect(LIMIT).await.unwrap();
        assert_eq!((reached.ip, reached.listen), (Some(address.ip()), address));
        reach.settle(&reached);
        assert_eq!(reach.connect(LIMIT).await, Ok(reached));
        drop(listener);
        assert!(reach.connect(LIMIT).await.unwrap_err().starts_with("nothing accepts connections ([::1]:"));
    }

    #[tokio::test]
    async fn what_others_could_not_reach_is_not_announced_and_what_to_change_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reach = reach(&listener, None, "http://127.0.0.1:8500");
        // Multicast: the kernel refuses to connect to it at once.
        let elsewhere = format!("224.0.0.1:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let reason = reach.by_interface(elsewhere).await.unwrap_err();
        assert!(reason.contains("at 127.0.0.1 only") && reason.contains("--host 127.0.0.1"), "{reason}");
    }

    #[tokio::test]
    async fn an_option_says_where_and_nothing_else_is_tried() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let reason = reach(&listener, Some("127.0.0.1"), "http://127.0.0.1:8500").connect(LIMIT).await.unwrap_err();
        assert!(reason.contains("127.0.0.1:") && !reason.contains("::1"), "{reason}");
    }
}
