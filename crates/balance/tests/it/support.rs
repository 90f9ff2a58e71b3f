//! A gateway in this process with a table that the test writes, and a client that speaks bytes.

mod client;
mod program;
mod real;

use std::{net::SocketAddr, time::Duration};

use balance::{
    addresses::AddressPolicy,
    clock::Millis,
    config::GatewayOptions,
    discovery::instances::Instances,
    health::checks::Checker,
    listener::listeners::Listeners,
    listener::worker::Workers,
    table::routing_table::{Source, TableHandle},
    telemetry::metrics::DataMetrics,
};
use clap::Parser;
use discovery::{Instance, LeaseId, Registered, Revision, Update};
use discovery_etcd::WatchHealth;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio_util::sync::CancellationToken;

pub(crate) use client::{Answer, Client};
pub(crate) use program::{Program, get};
pub(crate) use real::RealServer;

/// The options of the data path, as the command line has them.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    gateway: GatewayOptions,
}

/// Workers on a loopback port, and the notebook behind their table.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) workers: Workers,
    pub(crate) instances: Instances,
    table: TableHandle,
    metrics: DataMetrics,
    revision: i64,
}

fn parse(options: &[&str]) -> GatewayOptions {
    Options::parse_from(["balance"].iter().chain(options)).gateway
}

impl Gateway {
    /// With the defaults, on one core.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With these options (`--header-timeout=1s`) instead of the defaults.
    pub(crate) fn with(options: &[&str]) -> Self {
        let mut gateway = Self::without_table(options);
        gateway.publish();
        gateway
    }

    /// One that has never heard from etcd.
    pub(crate) fn without_table(options: &[&str]) -> Self {
        // Connections to instances are counted by tests, so none may grow too old on a busy machine.
        let defaults = ["--workers=1", "--upstream-keep-alive=10m"];
        let is_given =
            |default: &str| options.iter().any(|option| option.split('=').next() == default.split('=').next());
        let defaults = defaults.iter().filter(|default| !is_given(default));
        let options: Vec<&str> = defaults.chain(options).copied().collect();
        let options = parse(&options);
        let listeners = Listeners::bind(([127, 0, 0, 1], 0).into(), &options).unwrap();
        let addresses = AddressPolicy::new([], [listeners.address()]);
        let instances = Instances::new(listeners.cores(), addresses.clone(), Duration::from_secs(600))
            .with_policy(options.default_policy());
        let (table, metrics) = (TableHandle::new(), DataMetrics::new(&options));
        let workers = Workers::start(listeners, &options, &addresses, &table, &metrics).unwrap();
        // Ends with the runtime of the test.
        tokio::spawn(table.clone().keep_issuers_keys(CancellationToken::new()));
        Self { workers, instances, table, metrics, revision: 0 }
    }

    /// One with an instance of `mail` at each of `addresses`, in that order.
    pub(crate) fn before(addresses: &[SocketAddr], options: &[&str]) -> Self {
        let mut gateway = Self::with(options);
        for (n, address) in addresses.iter().enumerate() {
            gateway.register(&format!("service/mail/{n}"), &address.to_string());
        }
        gateway
    }

    /// The same, which also asks the instances whether they are awake. Its regular checks only open connections.
    pub(crate) fn watching(addresses: &[SocketAddr], options: &[&str]) -> Self {
        let gateway = Self::before(addresses, options);
        let addresses = AddressPolicy::new([], [gateway.workers.address()]);
        let options = parse(options);
        let checks = DataMetrics::new(&options).checks();
        let checker = Checker::new(gateway.table.clone(), addresses, checks, options.timeouts.stall_timeout);
        // Ends with the runtime of the test.
        tokio::spawn(checker.run(CancellationToken::new()));
        gateway
    }

    /// Registers an instance, or changes what it says.
    pub(crate) fn register(&mut self, key: &str, value: &str) {
        let registered = Registered {
            key: key.parse().unwrap(),
            instance: Instance::parse(value.as_bytes()).unwrap(),
            lease: Some(LeaseId(1)),
            created: Revision(1),
            modified: Revision(self.revision + 1),
        };
        self.instances.apply(Update::Add(registered), Millis::now());
        self.publish();
    }

    /// The instance's key is gone from etcd.
    pub(crate) fn remove(&mut self, key: &str) {
        self.instances.apply(Update::Remove(key.parse().unwrap()), Millis::now());
        self.publish();
    }

    /// The text of `config/<service>` in etcd is this.
    pub(crate) fn set_policy(&mut self, service: &str, json: &str) {
        self.instances.set_policy(&service.parse().unwrap(), Some(json.to_owned())).unwrap();
        self.publish();
    }

    /// etcd holds a policy that cannot be understood.
    pub(crate) fn set_mistaken_policy(&mut self, service: &str, json: &str) {
        self.instances.set_policy(&service.parse().unwrap(), Some(json.to_owned())).unwrap_err();
        self.publish();
    }

    /// etcd holds this API key, or no longer holds it.
    pub(crate) fn set_access_key(&mut self, id: &str, json: Option<&str>) {
        let mistake = self.instances.set_access_key(&id.parse().unwrap(), json.map(str::to_owned));
        assert_eq!(mistake, None);
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        self.revision += 1;
        self.instances.at(Source::Etcd, Revision(self.revision));
        self.table.publish(self.instances.table().expect("the revision has changed"));
    }

    /// What `/metrics` would say of one series, without its name's ending: `balance_ejections{service="mail"}`.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry, self.table.clone(), WatchHealth::default(), Default::default());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let starts = [format!("{name}_total{{{labels} "), format!("{name}{{{labels} "), format!("{name} ")];
        let mut lines = text.lines().filter_map(|line| starts.iter().find_map(|start| line.strip_prefix(start)));
        lines.next().map_or(0, |value| value.parse().unwrap())
    }

    /// How often an instance of the service was ejected.
    pub(crate) fn ejected(&self, service: &str) -> u64 {
        self.metric(&format!("balance_ejections{{service=\"{service}\"}}"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.workers.address()
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, head: &str) -> Answer {
        self.connect().await.ask(head).await
    }

    /// `GET target` on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n")).await
    }
}
