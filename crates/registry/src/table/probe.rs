//! One check, done once.
//!
//! | file | what it asks |
//! |---|---|
//! | [`clients`] | what they connect with |
//! | [`http`] | a path, by GET |
//! | [`grpc`] | `grpc.health.v1.Health/Check` |
//! | [`command`] | a program, by how it ends |
//!
//! (`tcp` is a line here.) A result that comes much later than its deadline says nothing about the instance: this
//! process stood still meanwhile, because it was stopped, its machine was paused, or had no time for it. It is void.
//!
//! *Names* are resolved beside the checks ([`service_kit::names`]), and the time that takes is not the instance's: a
//! name server that does not answer makes no check fail, only one that says that there is no such name.

mod clients;
mod command;
mod grpc;
mod http;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use discovery::{Address, Host, Reason};
use service_kit::{
    duration,
    names::{Name, Names, Unresolved},
};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

use self::clients::Clients;
use super::{
    check::{Check, Probe},
    document::Entry,
};

/// Checks by connection under way at the same time; others wait for their turn, which counts against no timeout.
const AT_ONCE_MAX: usize = 64;
/// Programs under way at the same time, beside those. Each is a process, which costs more than a connection.
const COMMANDS_AT_ONCE_MAX: usize = 8;
/// So much later than its deadline no result counts.
const LATE: Duration = Duration::from_secs(1);

/// Does checks. Cheap to clone; clones share what may be under way.
#[derive(Debug, Clone)]
pub(super) struct Prober {
    clients: Clients,
    places: Arc<Semaphore>,
    commands: Arc<Semaphore>,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    /// With the reason, for people.
    Bad(Reason),
    /// It says nothing.
    Void,
    /// The instance was not asked, because the name of the host cannot be resolved for now; with that reason.
    Unresolved(Reason),
}

// === impl Prober ===

impl Prober {
    /// With host names resolved by `names`.
    pub(super) fn new(names: Names) -> Self {
        Self {
            clients: Clients::new(names),
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            commands: Arc::new(Semaphore::new(COMMANDS_AT_ONCE_MAX)),
        }
    }

    /// The name that `check` connects to. While it is held, it is looked up again and again, and no check waits for
    /// that.
    pub(super) fn follow(&self, check: &Check) -> Option<Arc<Name>> {
        check.probe.host_name().map(|name| self.clients.names.follow(name))
    }

    /// Does `check` of `entry` when its turn has come.
    pub(super) async fn ask(&self, check: &Check, entry: &Entry) -> Outcome {
        let found = match self.follow(check) {
            None => Ok(Arc::default()),
            Some(name) => name.addresses().await,
        };
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(unresolved) => return unknown(check, &unresolved),
        };
        // Of one kind only: programs that hang keep no connection waiting.
        let places = match check.probe {
            Probe::Command(_) => &self.commands,
            Probe::Tcp(_) | Probe::Http(_) | Probe::Grpc(_) => &self.places,
        };
        let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
        let started = Instant::now();
        let answer = match &check.probe {
            Probe::Tcp(address) => tcp(address, &addresses, check.timeout).await,
            Probe::Http(probe) => http::ask(&self.clients, probe, check.timeout).await,
            Probe::Grpc(probe) => grpc::ask(&self.clients, probe, check.timeout).await,
            Probe::Command(words) => command::ask(words, entry, check.timeout, Some(place)).await,
        };
        judged(answer, started.elapsed(), check.timeout)
    }
}

/// What a check comes to whose host has no address.
fn unknown(check: &Check, unresolved: &Unresolved) -> Outcome {
    let why = format!("{} {unresolved}", check.probe.host_name().unwrap_or_default());
    let outcome = if unresolved.why().is_denial() { Outcome::Bad } else { Outcome::Unresolved };
    Reason::shorten(&why).map_or(Outcome::Void, outcome)
}

fn judged(answer: Result<(), String>, took: Duration, limit: Duration) -> Outcome {
    match answer {
        Ok(()) => Outcome::Good,
        Err(_) if took > limit + LATE => Outcome::Void,
        Err(why) => Reason::shorten(&why).map_or(Outcome::Void, Outcome::Bad),
    }
}

/// Connects to one of the `resolved` addresses, if the host is a name.
async fn tcp(address: &Address, resolved: &[IpAddr], limit: Duration) -> Result<(), String> {
    let ips = match address.host {
        Host::V4(ip) => &[ip.into()],
        Host::V6(ip) => &[ip.into()],
        Host::Name(_) => resolved,
    };
    let targets: Vec<SocketAddr> = ips.iter().map(|ip| SocketAddr::new(*ip, address.port.get())).collect();
    match timeout(limit, TcpStream::connect(&targets[..])).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{address} cannot be connected to: {error}")),
        Err(_) => Err(format!("{address} cannot be connected to within {}", duration::format(limit))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_result_of_a_process_that_stood_still_says_nothing() {
        let limit = Duration::from_secs(1);
        let bad = |took| judged(Err("no".to_owned()), took, limit);
        assert_eq!(bad(limit), Outcome::Bad("no".parse().unwrap()));
        assert_eq!(bad(limit + LATE + Duration::from_millis(1)), Outcome::Void);
        assert_eq!(judged(Ok(()), limit * 9, limit), Outcome::Good, "an answer is an answer");
    }

    #[tokio::test]
    async fn programs_that_wait_for_their_turn_keep_no_connection_waiting() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let text = format!(
            r#"{{"instances":[{{"service":"a","address":"{address}","checks":[{{"type":"tcp"}},
            {{"type":"command","command":["/bin/sleep","71.0091"],"timeout":"1m"}}]}}]}}"#
        );
        let table = crate::table::document::Table::parse(std::path::Path::new("t.json"), &text).unwrap();
        let entry = Arc::clone(table.entries.values().next().unwrap());
        let prober = Prober::new(Names::default());
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..=AT_ONCE_MAX {
            let (prober, entry) = (prober.clone(), Arc::clone(&entry));
            hanging.spawn(async move { prober.ask(&entry.checks[1], &entry).await });
        }
        tokio::task::yield_now().await;
        let asked = timeout(Duration::from_secs(10), prober.ask(&entry.checks[0], &entry)).await;
        assert_eq!(asked, Ok(Outcome::Good));
    }

    #[tokio::test]
    async fn a_name_server_that_does_not_answer_is_not_the_fault_of_the_instance() {
        let text = r#"{"instances":[{"service":"a","address":"db.name.test:3306","checks":[{"type":"tcp"}]}]}"#;
        let table = crate::table::document::Table::parse(std::path::Path::new("t.json"), text).unwrap();
        let entry = Arc::clone(table.entries.values().next().unwrap());
        // Nothing listens there.
        let prober = Prober::new(Names::new(vec!["127.0.0.1:1".parse().unwrap()]));
        let Outcome::Unresolved(reason) = prober.ask(&entry.checks[0], &entry).await else { panic!("it says nothing") };
        assert!(reason.as_str().starts_with("db.name.test has a name that cannot be resolved for now"), "{reason:?}");
    }

    #[tokio::test]
    async fn a_port_that_listens_passes_and_one_that_does_not_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let limit = Duration::from_secs(5);
        assert_eq!(tcp(&address, &[], limit).await, Ok(()));
        drop(listener);
        let why = tcp(&address, &[], limit).await.unwrap_err();
        assert!(why.contains("refused") && why.contains(&address.to_string()), "{why}");
    }
}
