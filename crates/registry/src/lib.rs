//! Heartbeats in, leased keys out.
//!
//! A service says every two seconds that it is present; the registry sees to it that etcd holds one key for it, under
//! one lease, for as long as it does. In the order in which a heartbeat passes:
//!
//! | room | what it settles |
//! |---|---|
//! | [`config`] | where to listen, how to reach etcd |
//! | [`http`] | which path is whose; JSON and names in, JSON and problems out |
//! | [`grpc`] | the same for gRPC: `muster.v1` |
//! | [`admission`] | who may do what, and which addresses may be announced |
//! | [`concurrency_limit`] | how many heartbeats are processed concurrently, and when each is answered at the latest |
//! | [`registrar`] | what a heartbeat means: register, keep alive, update, register afresh |
//! | [`heard`], [`restore`] | when each instance was heard; keys that vanish nevertheless are written again |
//! | [`holders`] | two programs with one instance id, and who is told |
//! | [`overrides`] | operators' overrides end with the lives that they are for |
//! | [`dialects`] | the same instances in other systems' formats |
//! | [`mirror`] | what etcd holds, kept up to date by a watch, and what this replica has committed since |
//! | [`write_watch`] | whether etcd writes: what no watch tells |
//! | [`catalog`] | what readers get of it: one service as a value, its index, and being woken by its changes |
//! | [`table`] | instances that cannot send heartbeats: checked here, by one registry of all |
//! | [`import`] | what other frameworks have registered, made instances like all others |
//! | [`dns`] | the same, asked by name |
//! | [`settings`] | the config centre: what is below `config/`, with revisions |
//! | [`alerts`] | sending an alert about services that are gone, by one replica of all |
//! | [`error`] | the one table from error to status and code |
//! | [`metrics`] | what is counted |
//!
//! Any number of registries run side by side without knowing of each other. What they must agree on is in etcd, and
//! etcd's comparisons are the only lock. None of them owns an instance: when one ends, nothing is deregistered, and the
//! next heartbeat is taken by another.

pub mod admission;
pub mod alerts;
pub mod catalog;
pub mod concurrency_limit;
pub mod config;
pub mod dialects;
pub mod dns;
pub mod error;
pub mod grpc;
pub mod heard;
pub mod holders;
pub mod http;
pub mod import;
pub mod metrics;
pub mod mirror;
pub mod overrides;
pub mod registrar;
pub mod restore;
pub mod settings;
pub mod table;
pub mod token_command;
pub mod write_watch;

use std::{convert::Infallible, process::ExitCode, sync::Arc, time::Duration};

use axum::middleware::from_fn_with_state;
use discovery::{deadlines, dialect::Dialects};
use discovery_etcd::{Etcd, WatchOptions};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    browser::Guard,
    connections::Connections,
    health::Readiness,
    names::Names,
    serve::{self, Http2Options, ServeOptions},
    service::{self, Failure},
    tokens::{self, Tokens},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    admission::{Admission, access},
    alerts::Alerts,
    catalog::Catalog,
    concurrency_limit::{ConcurrencyLimit, Limits},
    config::Config,
    dns::Dns,
    grpc::{Calls, Rpc},
    heard::Heard,
    holders::Holders,
    http::{Api, LongPolls},
    import::Importer,
    metrics::{DnsMetrics, Gauges, Metrics, RestoreMetrics},
    mirror::Mirror,
    registrar::Registrar,
    restore::Restorer,
    settings::Settings,
    table::{Backing, StaticServices},
};

/// Connections at the same time, by default.
const CONNECTIONS_MAX: usize = 4096;

/// The program: its configuration, its signals, its exit code ([`service_kit::service::main`]); or `registry token`.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "token") {
        return token_command::run(std::env::args_os().skip(1));
    }
    service::main("registry", run)
}

/// Serves until `shutdown` is cancelled and what is under way is finished. Does not wait for etcd: until it answers,
/// `/readyz` says so and heartbeats are answered with 503.
///
/// # Errors
///
/// An address cannot be listened on, or the etcd options name a file that cannot be used.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let listener = serve::bind(config.listen).await?;
    run_on(listener, config, shutdown).await
}

/// [`run`] on a listener that is bound already, whatever the configuration says: tests let the system choose the port.
///
/// # Errors
///
/// The options name a file that cannot be used, or the address for DNS cannot be had.
pub async fn run_on(listener: TcpListener, config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let dialects = Dialects::from(config.dialects.iter().copied()).under(&config.dns_domain.to_string());
    let etcd = Etcd::new(&config.etcd)?.with_dialects(dialects);
    let watch = discovery_etcd::watch(etcd.clone(), WatchOptions::default());
    let (vanished, vanished_keys) = mirror::vanished::channel();
    let mirror = Mirror::new(watch.health()).reporting_to(vanished);

    let dns_server = dns::bind(config.dns_listen).await?;
    let mut metrics = Registry::default();
    let concurrency = ConcurrencyLimit::new(Limits::around(config.etcd.etcd_deadline));
    warn_of_impatience(config.etcd.etcd_deadline);
    let tokens = Tokens::load(config.admission.tokens_file.as_deref())?;
    tokens.register(&mut metrics);
    let listen = listener.local_addr()?;
    tokens::warn_if_open(&tokens, listen, "--tokens-file (REGISTRY_TOKENS_FILE)");
    let tls = config.tls.load()?;
    let catalog = Catalog::new(mirror.clone());
    let alerts = Alerts::new(&config.alerts, etcd.clone(), catalog.clone(), listen.to_string(), &mut metrics)?;
    let own = [Some(listen), dns_server.as_ref().and_then(|server| server.local_addr().ok())];
    let infrastructure = config.admission.infrastructure(own.into_iter().flatten(), &config.etcd.etcd_endpoints);
    let admission = Admission::new(&config.admission, listen, infrastructure, mirror.clone(), &mut metrics);
    let importer = Importer::new(etcd.clone(), mirror.clone(), admission.clone(), config.imports.clone());
    let counted = Metrics::register(&mut metrics);
    let writes = &config.admission.writes;
    let settings =
        Settings::new(etcd.clone(), concurrency.clone(), mirror.notifier().clone(), admission.clone(), writes);
    let restored = RestoreMetrics::register(&mut metrics);
    let heard = Heard::default();
    let restorer = Restorer::new(vanished_keys, etcd.clone(), mirror.clone(), heard.clone(), restored);
    let holders = Holders::new(mirror.clone(), counted.contested.clone());
    let registrar = Registrar::new(etcd.clone(), mirror.clone(), concurrency.clone(), admission.clone(), counted);
    let registrar = Arc::new(registrar.noting(heard, holders.clone()));
    let names = Names::new(config.admission.name_servers.clone());
    let backing =
        Backing { etcd: etcd.clone(), mirror: mirror.clone(), registrar: registrar.clone(), names: names.clone() };
    let table = StaticServices::new(&config.table, listen, backing, &mut metrics)?;
    let table_view = table.as_ref().map(StaticServices::view);
    metrics.register_collector(Box::new(Gauges { mirror: mirror.clone(), concurrency, writes: etcd.writes().clone() }));
    let ending = overrides::run(etcd.clone(), mirror.clone());
    let counted = DnsMetrics::register(&mut metrics);
    let dns = Dns::new(config.dns_domain.clone(), catalog.clone(), names, config.dns_client_rate, counted);
    let connections = Connections::new(config.connections.bounds(CONNECTIONS_MAX));
    connections.register(&mut metrics, "http");
    connections.register_unread(&mut metrics, "http");
    let readiness = Readiness::new();
    mirror.report(&readiness);
    let long_polls = LongPolls::new(admission.clone(), shutdown.clone());
    let guard = Guard::new(&config.common.browser, None);
    let calls = Calls::new(&long_polls, admission.clone(), shutdown.clone(), &mut metrics);
    let rpc = Rpc { registrar: registrar.clone(), catalog: catalog.clone(), closing: shutdown.clone() };
    let (health_routes, health) = grpc::open_routes(admission.clone(), calls.clone());
    let routes = http::routes(Api { registrar, catalog, settings: settings.clone(), long_polls, table: table_view });
    let routes = access::guard(routes.merge(grpc::routes(rpc, calls.clone())), admission, tokens).merge(health_routes);
    let router = app::assemble(routes, guard, readiness.clone(), metrics);
    let router = router.layer(from_fn_with_state(calls, grpc::convert));

    tracing::info!(
        %listen,
        dns_listen = dns_server.as_ref().and_then(|server| server.local_addr().ok()).map(tracing::field::display),
        etcd_endpoints = config.etcd.etcd_endpoints.join(","),
        "registry serves"
    );
    let serving = ServeOptions { connections, http2: Some(Http2Options::default()), ..ServeOptions::default() };
    tokio::select! {
        () = serve::serve_with(listener, router, serving, tls, shutdown) => Ok(()),
        // Until the last request is answered: a heartbeat during the drain is as good as any.
        never = mirror::run(watch, mirror.clone(), readiness.clone()) => match never {},
        never = grpc::follow_readiness(health, readiness.clone()) => match never {},
        never = write_watch::run(etcd, mirror, readiness.clone()) => match never {},
        never = settings.follow() => match never {},
        never = dns::run(dns_server, dns) => match never {},
        never = importer.run() => match never {},
        never = restorer.run() => match never {},
        never = holders.run() => match never {},
        never = ending => match never {},
        never = run_alerts(alerts) => match never {},
        never = run_table(table, readiness) => match never {},
    }
}

/// Heartbeats that give up before the registry has an answer do not hear what is wrong.
fn warn_of_impatience(etcd_deadline: Duration) {
    let answer = deadlines::registry_answer(etcd_deadline);
    let heartbeat = deadlines::HEARTBEAT_ATTEMPT;
    if answer >= heartbeat {
        let answer_ms = answer.as_millis();
        let heartbeat_ms = heartbeat.as_millis();
        tracing::warn!(
            answer_ms,
            heartbeat_ms,
            "heartbeats time out before the registry answers; set a shorter --etcd-deadline"
        );
    }
}

async fn run_alerts(alerts: Option<Alerts>) -> Infallible {
    match alerts {
        Some(alerts) => alerts.run().await,
        None => std::future::pending().await,
    }
}

async fn run_table(table: Option<StaticServices>, readiness: Readiness) -> Infallible {
    match table {
        Some(table) => table.run(readiness).await,
        None => std::future::pending().await,
    }
}
