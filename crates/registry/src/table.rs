//! Instances that cannot send heartbeats, databases and other people's services, registered by a table of them:
//! `services.json`.
//!
//! ```text
//! file ─▶ table ─▶ which are ours to check? ─▶ checks ─▶ passes or fails ─▶ registrar ─▶ etcd
//!                  (rendezvous over the registries that have them, as they say in etcd)
//! ```
//!
//! | room | what it settles |
//! |---|---|
//! | [`options`] | where the file is |
//! | `source`, `fields`, [`mistake`] | JSON or TOML as values with their lines; what is wrong with them |
//! | [`document`], [`check`] | what a table may say |
//! | [mod@file] | the file, read again when it changes |
//! | `probe` | one check, done once: TCP, HTTP, gRPC, a program |
//! | `verdict` | rise and fall |
//! | [`announcement`], `peers` | what registries say of themselves, and which of them checks what |
//! | `checker` | checks one instance and keeps it registered while it passes |
//! | `assignment` | which checkers run here; what is no longer in the table is deregistered |
//! | `board`, [mod@report], `metrics` | what can be read of it |
//!
//! A registration of the table is one like any other: the same registrar writes it, with one lease for its life, and
//! `meta.registered-by=table` in its value distinguishes it. Any registry may keep that lease alive, so when another
//! one takes the checks over, nothing is deregistered.
//!
//! *Taken out of the table.* An instance that the last registry has dropped from its table is deregistered, at once and
//! once. As long as another one has it still, that one checks it: files do not change everywhere in the same moment.

pub mod announcement;
mod assignment;
mod board;
pub mod check;
mod checker;
pub mod document;
mod fields;
pub mod file;
mod metrics;
pub mod mistake;
pub mod options;
mod peers;
mod probe;
pub mod report;
mod source;
mod verdict;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use discovery_etcd::Etcd;
use prometheus_client::registry::Registry;
use service_kit::{health::Readiness, names::Names, service::Failure};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use self::{
    assignment::Assignment,
    board::Board,
    checker::Parts,
    file::{Loaded, TableFile},
    metrics::TableMetrics,
    peers::Peers,
    probe::Prober,
};
pub use self::{
    options::TableOptions,
    report::{TableReport, TableView},
};
use crate::{mirror::Mirror, registrar::Registrar};

/// How often is looked which instances are ours to check, also when nothing seems to have changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The check of `/readyz`.
const READINESS: &str = "services file";

/// Registers what a table says, for as long as it is polled.
#[derive(Debug)]
pub struct StaticServices {
    file: TableFile,
    view: TableView,
    parts: Parts,
}

/// What a registry has that its table is registered and checked with.
#[derive(Debug)]
pub struct Backing {
    /// Where registries tell each other what they check.
    pub etcd: Etcd,
    /// What is registered.
    pub mirror: Mirror,
    /// Who registers.
    pub registrar: Arc<Registrar>,
    /// Who resolves the host names that are checked.
    pub names: Names,
}

// === impl StaticServices ===

impl StaticServices {
    /// By `options`, for a registry that listens on `listen`; `None` when there is no table.
    ///
    /// # Errors
    ///
    /// The file cannot be read or has mistakes.
    pub fn new(
        options: &TableOptions,
        listen: SocketAddr,
        backing: Backing,
        registry: &mut Registry,
    ) -> Result<Option<Self>, Failure> {
        let Some(path) = &options.services_file else { return Ok(None) };
        let Backing { etcd, mirror, registrar, names } = backing;
        let file = TableFile::open(path)?;
        let loaded = file.subscribe();
        let board = Board::default();
        let metrics = TableMetrics::register(registry, board.clone(), loaded.clone());
        let peers = Peers::new(etcd, named(listen));
        let view = TableView {
            path: path.clone(),
            loaded,
            peers: peers.clone(),
            board: board.clone(),
            mirror: mirror.clone(),
        };
        let parts = Parts { registrar, mirror, peers, prober: Prober::new(names), board, metrics };
        Ok(Some(Self { file, view, parts }))
    }

    /// What can be read of it.
    #[must_use]
    pub fn view(&self) -> TableView {
        self.view.clone()
    }

    /// Never ends. What is wrong with the file is reported to `readiness`.
    pub async fn run(self, readiness: Readiness) -> Infallible {
        let Self { file, view: TableView { loaded, .. }, parts } = self;
        let peers = parts.peers.clone();
        tokio::select! {
            never = file.follow() => match never {},
            never = peers.run() => match never {},
            never = assign(parts, loaded, readiness) => match never {},
        }
    }
}

async fn assign(parts: Parts, mut loaded: watch::Receiver<Loaded>, readiness: Readiness) -> Infallible {
    let mut members = parts.peers.subscribe();
    let mut assignment = Assignment::new(parts);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = loaded.borrow_and_update().clone();
        report(&readiness, &now);
        assignment.arrange(&now.table).await;
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = members.changed() => {}
            Ok(()) = loaded.changed() => {}
        }
    }
}

fn report(readiness: &Readiness, Loaded { mistakes, .. }: &Loaded) {
    // Which they are is not for everyone, and this is answered without a token.
    let count = mistakes.len();
    let reason = format!("an earlier version is in force: the table has {count} mistakes, see GET /v1/table");
    readiness.degrade(READINESS, (!mistakes.is_empty()).then_some(reason));
}

/// Where this registry listens, as others can make use of it: on every interface, the name of the machine says more.
fn named(listen: SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().filter(|_| listen.ip().is_unspecified());
    host.map_or_else(|| listen.to_string(), |host| format!("{}:{}", host.trim(), listen.port()))
}
