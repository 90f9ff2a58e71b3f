//! What is known about each process. Level-triggered, so that no reader misses a change.

use std::net::SocketAddr;

use tokio::sync::watch;

use crate::{
    state::{Phase, ProcessState, process_id::ProcessId},
    up::topology::{Process, Stage},
};

/// The one place for it. Written by the supervisors; read by waiting tasks, and by the writer of `muster.json`.
#[derive(Debug)]
pub(crate) struct ProcessTable(watch::Sender<Known>);

/// Everything that is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) phase: Phase,
    pub(crate) ready_after_ms: Option<u64>,
    /// In the order of starting.
    pub(crate) processes: Vec<Entry>,
}

/// What is known about one process.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) address: SocketAddr,
    pub(crate) condition: Condition,
    /// While it runs.
    pub(crate) pid: Option<u32>,
    /// The same, where the system tells more.
    pub(crate) identity: Option<ProcessId>,
    pub(crate) restarts: u32,
}

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Not ready, and why not. Before its first start, too.
    Starting(String),
    /// It said so.
    Ready,
    /// It died and will be started again.
    Restarting,
    /// It died too often, and how the last time.
    GivenUp(String),
    /// It was asked to end.
    Stopping,
    /// It ended, as asked.
    Stopped,
}

// === impl ProcessTable ===

impl ProcessTable {
    /// Nothing runs yet.
    pub(crate) fn new(processes: &[Process]) -> Self {
        let entry = |process: &Process| Entry {
            name: process.name.clone(),
            stage: process.stage,
            address: process.address,
            condition: Condition::Starting("it has not been started yet".to_owned()),
            pid: None,
            identity: None,
            restarts: 0,
        };
        let processes = processes.iter().map(entry).collect();
        Self(watch::Sender::new(Known { phase: Phase::Starting, ready_after_ms: None, processes }))
    }

    /// Changes what is known about `name`.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        self.0.send_modify(|known| {
            if let Some(entry) = known.processes.iter_mut().find(|entry| entry.name == name) {
                change(entry);
            }
        });
    }

    /// Sets the condition of `name`.
    pub(crate) fn set(&self, name: &str, condition: Condition) {
        self.0.send_if_modified(|known| match known.processes.iter_mut().find(|entry| entry.name == name) {
            Some(entry) if entry.condition != condition => {
                entry.condition = condition;
                true
            }
            _ => false,
        });
    }

    /// Sets how far the whole is.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.0.send_modify(|known| known.phase = phase);
    }

    /// Everything is ready, for the first time.
    pub(crate) fn set_ready(&self, after_ms: u64) {
        self.0.send_modify(|known| {
            known.phase = Phase::Ready;
            known.ready_after_ms = Some(after_ms);
        });
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Known {
        self.0.borrow().clone()
    }

    /// Changes as they come.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Known> {
        self.0.subscribe()
    }

    /// Waits until `condition` holds for what is known.
    pub(crate) async fn wait_until(&self, condition: impl FnMut(&Known) -> bool) {
        // The sender is `self`, so it cannot be gone.
        let _ = self.0.subscribe().wait_for(condition).await;
    }
}

// === impl Known ===

impl Known {
    /// The processes of one stage.
    pub(crate) fn of(&self, stage: Stage) -> impl Iterator<Item = &Entry> {
        self.processes.iter().filter(move |entry| entry.stage == stage)
    }

    /// Those that are not ready, and why: `mail-1: it does not answer yet`.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let reason = |entry: &Entry| {
            let why = match &entry.condition {
                Condition::Ready => return None,
                Condition::Starting(why) | Condition::GivenUp(why) => why.as_str(),
                Condition::Restarting => "it died and is started again",
                Condition::Stopping | Condition::Stopped => "it was stopped",
            };
            Some(format!("{}: {why}", entry.name))
        };
        self.processes.iter().filter_map(reason).collect()
    }
}

// === impl Entry ===

impl Entry {
    /// Whether there is nothing left to wait for: it is ready, or it never will be.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.condition, Condition::Ready | Condition::GivenUp(_))
    }

    /// As it is written to `muster.json`.
    pub(crate) fn to_state(&self) -> ProcessState {
        ProcessState {
            name: self.name.clone(),
            address: self.address.to_string(),
            condition: self.condition.as_str().to_owned(),
            pid: self.pid,
            identity: self.identity.clone(),
            restarts: self.restarts,
        }
    }
}

// === impl Condition ===

impl Condition {
    /// One word, for machines.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::GivenUp(_) => "given_up",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}
