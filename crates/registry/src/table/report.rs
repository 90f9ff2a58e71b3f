//! What can be read of a table: at `/v1/table`, and by `muster ls`.

use std::{collections::BTreeSet, path::PathBuf};

use discovery::{Address, InstanceId, InstanceKey, Origin, Reason, ServiceName};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::{
    announcement::{State, Trouble, unix_ms},
    board::{Board, CheckStanding},
    document::Entry,
    file::Loaded,
    peers::{Peers, View, name},
};
use crate::mirror::Mirror;

/// Where it is looked up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableView {
    pub(super) path: PathBuf,
    pub(super) loaded: watch::Receiver<Loaded>,
    pub(super) peers: Peers,
    pub(super) board: Board,
    pub(super) mirror: Mirror,
}

/// The instances of the table of services, and how their checks go.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ServicesTable)]
pub struct TableReport {
    /// The file; `null`: this registry has no table.
    #[schema(required)]
    file: Option<FileReport>,
    /// Every registry that has a table.
    registries: Vec<RegistryReport>,
    /// What this registry's table has.
    instances: Vec<InstanceReport>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FileReport {
    /// Where it is.
    path: String,
    /// What is wrong with its newest version; the one in force is an earlier one then.
    mistakes: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RegistryReport {
    /// Where it listens.
    listen: String,
    /// How many instances its table has.
    instances: usize,
    /// How many of them it checks.
    checks: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct InstanceReport {
    service: ServiceName,
    /// `null` for the nameless instance of a service.
    #[schema(required)]
    id: Option<InstanceId>,
    address: Address,
    state: State,
    /// Why it is in that state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Reason>,
    /// Since when it has been in that state, in milliseconds since 1970, as far as the registry knows that checks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    since_ms: Option<u64>,
    /// Where the registry listens that checks it; `null`: it is being settled.
    #[schema(required)]
    checked_by: Option<String>,
    /// Whether another registry's table says something else about it.
    differs: bool,
    /// Its checks, if this registry does them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckStanding>,
}

// === impl TableView ===

impl TableView {
    /// As it is now.
    #[must_use]
    pub fn report(&self) -> TableReport {
        let loaded = self.loaded.borrow().clone();
        let view = self.peers.view();
        let mistakes = loaded.mistakes.iter().map(ToString::to_string).collect();
        let entries = loaded.table.entries.iter();
        TableReport {
            file: Some(FileReport { path: self.path.display().to_string(), mistakes }),
            registries: registries(&view),
            instances: entries.map(|(key, entry)| self.instance(key, entry, &view)).collect(),
        }
    }

    fn instance(&self, key: &InstanceKey, entry: &Entry, view: &View) -> InstanceReport {
        let name = name(key);
        let checker = view.checker(&name).and_then(|id| view.members.get(id));
        let own = self.board.of(key);
        let announced = checker.and_then(|checker| checker.states.get(&name).cloned());
        let (state, reason, since_ms, checks) = match (own, announced) {
            (Some(own), _) => (own.state, own.reason, Some(unix_ms(own.since)), own.checks),
            (None, Some(Trouble { state, reason, since_ms })) => (state, reason, Some(since_ms), Vec::new()),
            (None, None) => (self.listed(key), None, None, Vec::new()),
        };
        let digests = view.members.values().filter_map(|said| said.instances.get(&name));
        InstanceReport {
            service: key.service.clone(),
            id: key.instance.clone(),
            address: entry.instance.address.clone(),
            state,
            reason,
            since_ms,
            checked_by: checker.map(|checker| checker.listen.clone()),
            differs: digests.collect::<BTreeSet<_>>().len() > 1,
            checks,
        }
    }

    /// Of an instance of which nothing else is known: another registry has just begun to check it, or all is well there.
    fn listed(&self, key: &InstanceKey) -> State {
        let held = self.mirror.read().held(key);
        let origin = held.and_then(|held| Some(Origin::of(held.instance.as_ref()?, held.lease)));
        if origin == Some(Origin::Table) { State::Passing } else { State::Pending }
    }
}

fn registries(view: &View) -> Vec<RegistryReport> {
    let checks = |id: &String| {
        let names = view.members[id].instances.keys();
        names.filter(|name| view.checker(name) == Some(id)).count()
    };
    let report = |id: &String| {
        let said = &view.members[id];
        RegistryReport { listen: said.listen.clone(), instances: said.instances.len(), checks: checks(id) }
    };
    view.members.keys().map(report).collect()
}
