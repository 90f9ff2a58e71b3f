//! `userlist`: keeps names and e-mail addresses in MySQL or SQLite, and registers itself like any other service.
//!
//! | module | what it settles |
//! |---|---|
//! | [`config`] | flags and variables |
//! | [`user`] | what a name and an address are, and what goes with them |
//! | [`http`] | requests, answers, the table of errors |
//! | [`store`] | what is asked of the database, and what is done when it does not answer |
//! | [`transfer`], [`command`] | import and export: over HTTP, and on the command line |
//!
//! What it promises:
//!
//! - An answer of success means that the database has committed, and that it is on its disk as far as the database
//!   promises that.
//! - An answer comes within the deadline, also from a database that is gone, frozen, locked or full: then it is 503
//!   with `Retry-After`.
//! - While the database cannot be used, `/readyz` says why and the heartbeat says `critical` with the same reason, so
//!   that the gateway sends its requests elsewhere; both end by themselves when it is back.
//! - Start order does not matter: the database, the registries and other instances may come later.
//! - No name and no address is ever in a log.

pub mod command;
pub mod config;
pub mod http;
pub mod store;
pub mod transfer;
pub mod user;

use std::process::ExitCode;

use discovery::{HealthPath, OpenAccess, ServiceName, Status};
use heartbeat::{AddressProof, Condition, Details, Heartbeat, HeartbeatMetrics};
use prometheus_client::registry::Registry;
use service_kit::{
    app,
    browser::Guard,
    connections::Connections,
    health::Readiness,
    serve::{ServeOptions, bind, serve},
    service::{self, Failure},
    tokens::{self, Tokens},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{config::Config, store::Store};

/// Connections at the same time, by default.
const CONNECTIONS_MAX: usize = 4096;

/// The program: its configuration, its signals, its exit code ([`service_kit::service::main`]).
#[must_use]
pub fn main() -> ExitCode {
    service::main("userlist", run)
}

/// Runs the service until `shutdown`, on the address of the configuration; or the command that the configuration names.
///
/// # Errors
/// The address is taken, or the configuration means no database.
pub async fn run(mut config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    if let Some(command) = config.command.take() {
        return command.run(&config.database, shutdown).await;
    }
    let listener = bind(config.listen).await?;
    run_on(listener, config, shutdown).await
}

/// Runs the service on a socket that is bound already.
///
/// # Errors
/// The configuration means no database.
pub async fn run_on(listener: TcpListener, config: Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let database = config.database.kind()?;
    let address = listener.local_addr()?;
    let tokens = Tokens::load(config.tokens_file.as_deref())?;
    tokens::warn_if_open(&tokens, address, "--tokens-file (USERLIST_TOKENS_FILE)");
    let readiness = Readiness::new();
    let mut metrics = Registry::default();

    let (store, monitor) = Store::new(&database, config.database.limits(), &mut metrics);
    tokens.register(&mut metrics);
    // Before the first request: a service without a check is ready.
    report_outage(&store, &readiness, |_| {});
    let connections = Connections::new(config.connections.bounds(CONNECTIONS_MAX));
    connections.register(&mut metrics, "http");
    connections.register_unread(&mut metrics, "http");
    let proof = AddressProof::default();
    let announced = Details {
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        health: Some("/readyz".parse::<HealthPath>()?),
        // Until the database has been opened.
        condition: condition(&store),
        metrics: HeartbeatMetrics::register(&mut metrics),
        meta: OpenAccess::announced(tokens.is_open()).into_iter().collect(),
        proof: proof.clone(),
        ..Details::default()
    };
    let routes = http::routes(store.clone(), tokens).merge(proof.routes());
    let announced_host = config.heartbeat.advertise.as_ref().map(|address| address.host.to_string());
    let guard = Guard::new(&config.common.browser, announced_host.as_deref());
    let router = app::assemble(routes, guard, readiness.clone(), metrics);
    tracing::info!(%address, %database, "listening");

    let stop_serving = CancellationToken::new();
    let close = CancellationToken::new();
    let monitoring = tokio::spawn(monitor.run(close.clone()));
    let options = ServeOptions { connections, ..ServeOptions::default() };
    let serving = tokio::spawn(serve(listener, router, options, stop_serving.clone()));
    let heartbeat = Heartbeat::start(service_name(), address, &config.heartbeat, announced);
    heartbeat::setting::follow_log_filter(&config.heartbeat, &service_name(), &config.common.log);

    let reporting = report(store, readiness, |condition| heartbeat.set_condition(condition));
    shutdown.run_until_cancelled(reporting).await;

    // The gateways let go first, then the requests under way are finished, then the database is closed.
    heartbeat.deregister().await;
    stop_serving.cancel();
    serving.await?;
    close.cancel();
    monitoring.await?;
    Ok(())
}

/// Reports the state of the database to `/readyz` and to the heartbeat, at every change, for ever.
async fn report(mut store: Store, readiness: Readiness, set_condition: impl Fn(Condition)) {
    loop {
        report_outage(&store, &readiness, &set_condition);
        if !store.outage_changed().await {
            return std::future::pending().await;
        }
    }
}

fn report_outage(store: &Store, readiness: &Readiness, set_condition: impl Fn(Condition)) {
    set_condition(condition(store));
    readiness.report("database", store.outage().map_or(Ok(()), |outage| Err(outage.reason)));
}

/// Without its database an instance can do nothing at all: critical, and out of rotation, so that one whose database
/// works is asked.
fn condition(store: &Store) -> Condition {
    match store.outage() {
        None => Condition::default(),
        Some(outage) => Condition::new(Status::Critical, &format!("database: {}", outage.reason)),
    }
}

fn service_name() -> ServiceName {
    "userlist".parse().expect("a DNS label")
}
