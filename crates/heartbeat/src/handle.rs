use std::{net::SocketAddr, time::Duration};

use discovery::ServiceName;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    Condition, Details, HeartbeatOptions, State,
    task::{ShutdownRequest, Task},
};

/// A running heartbeat: as long as this value lives, the instance is kept registered.
///
/// Dropping it stops the heartbeats without deregistering, as a crash would: the registration ends one TTL later.
/// [`Heartbeat::deregister`] is the orderly end.
#[derive(Debug)]
#[must_use = "a heartbeat that is dropped stops"]
pub struct Heartbeat {
    condition: watch::Sender<Condition>,
    state: watch::Receiver<State>,
    leave: oneshot::Sender<ShutdownRequest>,
    task: JoinHandle<()>,
    let_go: Duration,
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Starts announcing an instance of `service` that listens on `listen`, the address of the bound socket (its port
    /// is announced, so it must not be 0 any more). The first heartbeat is sent at once.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn start(service: ServiceName, listen: SocketAddr, options: &HeartbeatOptions, details: Details) -> Self {
        let (condition, condition_seen) = watch::channel(details.condition.clone());
        let (leave, asked_to_leave) = oneshot::channel();
        let (task, state) = Task::new(service, listen, options, details, condition_seen);
        Self { condition, state, leave, task: tokio::spawn(task.run(asked_to_leave)), let_go: options.let_go }
    }

    /// Says what this instance is to others from now on, and why. A change is sent at once, or when the heartbeat under
    /// way has ended (within two fifths of the TTL, if registries are frozen); the same again is nothing. A change that
    /// moves it neither in nor out of rotation is sent ten seconds after the last one at the earliest.
    ///
    /// A [`Status`](discovery::Status) alone is a condition without a reason.
    pub fn set_condition(&self, condition: impl Into<Condition>) {
        let condition = condition.into();
        self.condition.send_if_modified(|current| {
            let is_new = *current != condition;
            *current = condition;
            is_new
        });
    }

    /// How the registration stands, now and whenever it changes. An operator's drain is in [`State::is_draining`].
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Leaves in order: says `draining`, deregisters, and waits [`HeartbeatOptions::let_go`] for the gateways. Call it
    /// when the shutdown begins, before the listener is closed.
    ///
    /// `draining` goes first because a deletion alone looks like an expiry to a gateway: it tells "left" from
    /// "vanished". Takes at most 2 s and the let-go time, also when no registry answers; the registration then ends
    /// by itself. An instance that is not registered does not wait. Dropping the future cancels nothing but
    /// the waiting.
    pub async fn deregister(self) {
        let let_go = self.let_go;
        self.end(let_go).await;
    }

    /// Leaves without waiting for the gateways: for an instance that is gone already.
    pub async fn withdraw(self) {
        self.end(Duration::ZERO).await;
    }

    async fn end(self, let_go: Duration) {
        // It fails only when the task has ended, which is what is waited for.
        let _ = self.leave.send(ShutdownRequest { let_go });
        if let Err(error) = self.task.await {
            tracing::error!(error = %service_kit::chain(&error), "the heartbeat task failed");
        }
    }
}
