//! How the instances are that this registry checks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use discovery::{InstanceKey, Reason};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    announcement::{State, Trouble, unix_ms},
    check::Kind,
    peers::name,
};

/// Written by checkers, read for lists, metrics and the other registries. Cheap to clone; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<BTreeMap<InstanceKey, Standing>>>);

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: State,
    /// Why it is not passing.
    pub(super) reason: Option<Reason>,
    pub(super) since: SystemTime,
    pub(super) checks: Vec<CheckStanding>,
}

/// One of its checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct CheckStanding {
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// Whether it passes; `null`: too few results yet.
    #[schema(required)]
    pub(super) passes: Option<bool>,
    /// Why the last result was bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<Reason>,
}

// === impl Board ===

impl Board {
    /// The instance is like this; since when, if it was another state before, now.
    pub(super) fn show(&self, key: &InstanceKey, state: State, reason: Option<Reason>, checks: Vec<CheckStanding>) {
        let mut standings = self.standings();
        let before = standings.get(key).filter(|before| before.state == state);
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        standings.insert(key.clone(), Standing { state, reason, since, checks });
    }

    /// Forgets those that are not `ours` any more.
    pub(super) fn retain(&self, ours: impl Fn(&InstanceKey) -> bool) {
        self.standings().retain(|key, _| ours(key));
    }

    /// How it is, if this registry checks it.
    pub(super) fn of(&self, key: &InstanceKey) -> Option<Standing> {
        self.standings().get(key).cloned()
    }

    /// How many are in each state.
    pub(super) fn count(&self, state: State) -> usize {
        self.standings().values().filter(|standing| standing.state == state).count()
    }

    /// What the other registries are to know: all that is not as it should be.
    pub(super) fn troubles(&self) -> BTreeMap<String, Trouble> {
        let standings = self.standings();
        let bad = standings.iter().filter(|(_, standing)| standing.state != State::Passing);
        bad.map(|(key, Standing { state, reason, since, .. })| {
            (name(key), Trouble { state: *state, reason: reason.clone(), since_ms: unix_ms(*since) })
        })
        .collect()
    }

    fn standings(&self) -> MutexGuard<'_, BTreeMap<InstanceKey, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
