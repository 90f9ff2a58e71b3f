//! `balance`, the gateway: `/mail/…` goes to a live instance of `mail`, or the answer says that it is down, since when and
//! why.
//!
//! Two halves meet in one value, the routing table. The control half learns: etcd → [`discovery`] → [`table`]. The data half
//! serves: one worker per core, each on its own, reading the table.
//!
//! Each room is a folder with a page that lists its files. From the top down, and a room knows only rooms below it
//! (`tests/it/layout.rs` holds the table of what each may import):
//!
//! A request and its response are an *exchange* on either side (`downstream/exchange.rs`, `upstream/exchange.rs`), so
//! that `proxy` knows of no protocol; HTTP/1.1 is the first framing, on both sides in a file `http1.rs`.
//!
//! | room | what it settles |
//! |---|---|
//! | [`admin`] | what an operator sees |
//! | [`listener`] | one port for all cores, a thread for each, one client connection, and how they end |
//! | `proxy` | a request's way, from its head to the last byte of its response; `proxy/gateway.rs` is **the life of a request, on one page** |
//! | [`discovery`] | which instances there are, which are gone and why |
//! | [`health`] | which instances are well |
//! | [`telemetry`] | what is counted |
//! | `access` | who may use a service, and how much |
//! | `routing` | which service a request is for |
//! | [`table`] | service → instances: what a request sees of discovery and health |
//! | `load_balancing` | which instance gets the request |
//! | `upstream` | the instance's side: an exchange, and one attempt at it |
//! | `instance` | what this gateway has seen of one instance |
//! | `downstream` | the client's side: an exchange, its deadlines and its body |
//! | `message` | what is pure in a message: bytes in, bytes out |
//! | `io` | a stream with a buffer, and a body in it |
//! | [`addresses`], [`clock`], [`config`], `counters`, `hash` | where nothing is ever sent; the time; the options; what cores count; hashes |

mod access;
pub mod addresses;
pub mod admin;
pub mod clock;
pub mod config;
mod counters;
pub mod discovery;
mod downstream;
mod hash;
pub mod health;
mod instance;
mod io;
pub mod listener;
mod load_balancing;
mod message;
mod proxy;
mod routing;
pub mod table;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod upstream;

use std::{process::ExitCode, time::Duration};

use discovery_etcd::{Etcd, WatchOptions};
use prometheus_client::registry::Registry;
use service_kit::{
    browser::Guard,
    health::Readiness,
    names::Names,
    open_files,
    serve::{ServeOptions, bind, serve},
    service::{self, Failure},
};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressPolicy,
    config::Config,
    discovery::{instances::Instances, watcher::Watcher},
    health::checks::Checker,
    listener::{listeners::Listeners, worker::Workers},
    table::routing_table::{Source, TableHandle},
    telemetry::metrics::DataMetrics,
};

/// How long the gateway waits for a first table before it listens without one, and how often it looks. A client that is
/// refused goes elsewhere, and comes back; one whose service is not known does not.
const FIRST_TABLE_MAX: Duration = Duration::from_secs(1);
const FIRST_TABLE_LOOK: Duration = Duration::from_millis(5);

/// The program: its configuration, its signals, its exit code ([`service_kit::service::main`]).
#[must_use]
pub fn main() -> ExitCode {
    service::main("balance", run)
}

/// The gateway, from its configuration to its orderly end.
///
/// # Errors
///
/// An address that cannot be listened on; a worker that ended before it was asked to.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    // Two for a request: one to the client, one to the instance.
    open_files::raise(config.gateway.limits.connections_max.saturating_mul(2));
    let etcd = Etcd::new(&config.etcd)?;
    let listeners = Listeners::bind(config.listen, &config.gateway)?;
    let admin_listener = bind(config.admin_listen).await?;
    let admin_address = admin_listener.local_addr()?;

    let etcd_endpoints = config.etcd.etcd_endpoints.iter().map(String::as_str);
    let names = Names::new(config.name_servers.clone());
    let addresses = AddressPolicy::new(etcd_endpoints, [listeners.address(), admin_address]).with_names(names.clone());
    let instances = Instances::new(listeners.cores(), addresses.clone(), config.last_resort)
        .with_policy(config.gateway.default_policy())
        .in_zone(config.zone.clone());
    let changes = discovery_etcd::watch(etcd, WatchOptions::default());
    let (table, readiness, health) = (TableHandle::new(), Readiness::new(), changes.health());
    readiness.report("listener", Err("requests are not accepted yet".to_owned()));
    let mut watcher = Watcher::new(instances, table.clone(), readiness.clone(), health.clone())
        .warning_of_what_is_open_at(listeners.address());
    if let Some(file) = &config.snapshot_file {
        watcher = watcher.with_snapshot(file);
    }

    let (metrics, mut registry) = (DataMetrics::new(&config.gateway), Registry::default());
    metrics.register(&mut registry, table.clone(), health.clone(), names);
    let guard = Guard::new(&config.common.browser, None);
    let admin = admin::api::router(table.clone(), health, config.zone, guard, readiness.clone(), registry);

    let (control_end, cores) = (CancellationToken::new(), listeners.cores());
    let resolving = tokio::spawn(addresses.clone().follow_etcd(control_end.clone()));
    let checker =
        Checker::new(table.clone(), addresses.clone(), metrics.checks(), config.gateway.timeouts.stall_timeout);
    let checking = tokio::spawn(checker.run(control_end.clone()));
    let fetching = tokio::spawn(table.clone().keep_issuers_keys(control_end.clone()));
    let watching = tokio::spawn(watcher.run(changes, control_end.clone()));
    let administering = tokio::spawn(serve(admin_listener, admin, ServeOptions::default(), control_end.clone()));
    first_table(&table, &shutdown).await;
    let mut workers = Workers::start(listeners, &config.gateway, &addresses, &table, &metrics)?;
    readiness.report("listener", Ok(()));
    tracing::info!(address = %workers.address(), admin = %admin_address, workers = cores, "serving");

    let was_asked = tokio::select! {
        () = shutdown.cancelled() => true,
        () = workers.ended() => false,
    };
    // At once, so that a balancer in front sends the next requests elsewhere, although they are still answered here.
    readiness.report("listener", Err("the gateway ends: every answer is the last of its connection".to_owned()));
    workers.drain();
    workers.ended().await;
    // Last, so that an operator can watch the drain.
    control_end.cancel();
    let _ended = tokio::join!(resolving, checking, fetching, watching, administering);
    if was_asked { Ok(()) } else { Err("the workers ended by themselves".into()) }
}

/// Waits until there is a table, from etcd or the disk, for a moment at most.
async fn first_table(table: &TableHandle, shutdown: &CancellationToken) {
    let wait = async {
        while table.load().source == Source::Nothing {
            tokio::time::sleep(FIRST_TABLE_LOOK).await;
        }
    };
    let _without = shutdown.run_until_cancelled(tokio::time::timeout(FIRST_TABLE_MAX, wait)).await;
}
