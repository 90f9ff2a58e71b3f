//! Writes what is known to `muster.json`, at every change.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::{
    state::{Phase, State, process_id::ProcessId},
    up::{supervisor::Shared, topology::Settings},
};

/// Keeps `muster.json` equal to what is known, until everything has stopped.
pub(crate) fn start(shared: &Arc<Shared>, settings: &Settings<'_>) -> JoinHandle<()> {
    let mut state = State {
        phase: Phase::Starting,
        ready_after_ms: None,
        muster: ProcessId::of(std::process::id()),
        gateway: settings.gateway(),
        admin: settings.admin(),
        registries: settings.registries(),
        etcd_endpoints: settings.etcd_endpoints(),
        ports: settings.ports.to_map(),
        processes: Vec::new(),
    };
    let shared = Arc::clone(shared);
    let data = settings.data.path().to_owned();
    let mut known = shared.process_table.subscribe();
    known.mark_changed();
    tokio::spawn(async move {
        let mut is_failing = false;
        while state.phase != Phase::Stopped && known.changed().await.is_ok() {
            let now = known.borrow_and_update().clone();
            (state.phase, state.ready_after_ms) = (now.phase, now.ready_after_ms);
            state.processes = now.processes.iter().map(crate::up::process_table::Entry::to_state).collect();
            let written = state.write(&data);
            if let Err(error) = &written
                && !is_failing
            {
                shared.console.say(&format!("cannot write {}: {error}", State::path(&data).display()));
            }
            is_failing = written.is_err();
        }
    })
}
