//! `muster.json` in the data folder: what runs where.
//!
//! It is replaced as a whole at every change, so a reader never sees half of it. Three readers: a test or a script that
//! waits for `"phase": "ready"` and then takes addresses and process ids from it; `muster ls`, `watch`, `explain` and
//! `drain`, which find a suite whose ports have moved; and the next `muster up`, which takes the ports again and ends
//! processes that were left behind.

pub(crate) mod process_id;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::state::process_id::ProcessId;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    /// How far `muster up` is.
    pub(crate) phase: Phase,
    /// How long it took until everything was ready, in milliseconds; absent until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready_after_ms: Option<u64>,
    /// The `muster up` that wrote this; absent where the system does not tell (no `/proc`).
    pub(crate) muster: Option<ProcessId>,
    /// The gateway: `http://127.0.0.1:8080`.
    pub(crate) gateway: String,
    /// The gateway's admin side.
    pub(crate) admin: String,
    /// The registries.
    pub(crate) registries: Vec<String>,
    /// The etcd members' client side.
    pub(crate) etcd_endpoints: Vec<String>,
    /// Which port has which use; the next start prefers the same.
    pub(crate) ports: BTreeMap<String, u16>,
    /// Every process, in the order of starting.
    pub(crate) processes: Vec<ProcessState>,
}

/// One supervised process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessState {
    /// `mail-1`.
    pub(crate) name: String,
    /// Where it listens, `127.0.0.1:7070`.
    pub(crate) address: String,
    /// `starting`, `ready`, `restarting`, `given_up`, `stopping`, `stopped`.
    pub(crate) condition: String,
    /// Its process id; absent when it does not run.
    pub(crate) pid: Option<u32>,
    /// The same, safe against the kernel's reusing the id.
    pub(crate) identity: Option<ProcessId>,
    /// How often it was started again.
    pub(crate) restarts: u32,
}

/// How far `muster up` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Not everything is ready yet.
    Starting,
    /// Everything was ready, and requests pass.
    Ready,
    /// Ctrl-C or SIGTERM came.
    Stopping,
    /// Everything has ended.
    Stopped,
}

// === impl State ===

impl State {
    /// Where the file is.
    pub(crate) fn path(data: &Path) -> PathBuf {
        data.join("muster.json")
    }

    /// Reads what the last `muster up` wrote. `None` when there was none, or when a power cut left something that makes
    /// no sense: it is a convenience, never worth refusing a start.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data)).ok()?).ok()
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The folder cannot be written: full, gone, read-only.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        let path = Self::path(data);
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(new, path)
    }

    /// Whether the `muster up` that wrote this still runs.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Stopped) && self.muster.as_ref().is_none_or(ProcessId::is_running)
    }
}

#[cfg(test)]
pub(crate) fn sample() -> State {
    State {
        phase: Phase::Ready,
        ready_after_ms: Some(3200),
        muster: ProcessId::of(std::process::id()),
        gateway: "http://127.0.0.1:8080".to_owned(),
        admin: "http://127.0.0.1:8081".to_owned(),
        registries: vec!["http://127.0.0.1:8500".to_owned()],
        etcd_endpoints: vec!["http://127.0.0.1:2379".to_owned()],
        ports: [("balance".to_owned(), 8080)].into(),
        processes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_rubbish_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::read(dir.path()).is_none());
        sample().write(dir.path()).unwrap();
        let state = State::read(dir.path()).unwrap();
        assert_eq!((state.phase, state.ports["balance"]), (Phase::Ready, 8080));
        assert!(state.is_running(), "this test is the process that is named in it");
        fs::write(State::path(dir.path()), "{\"phase\":").unwrap();
        assert!(State::read(dir.path()).is_none());
    }
}
