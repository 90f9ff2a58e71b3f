//! What a heartbeat means that says of which life it is.
//!
//! ```text
//! is the key held by this life?          (the mirror if it says yes; else etcd itself)
//! ├─ yes ──────────────────────────────── keep it alive, as any other
//! ├─ a new one: whatever is there ─────── take it over: one that has really moved or restarted wins
//! └─ one that has been:
//!    ├─ another life holds it ─────────── 409 another_incarnation; nothing is touched
//!    └─ there is no key ───────────────── 409 incarnation_ended; nothing is registered
//! ```
//!
//! *No* is said by etcd alone: another registry may have registered the life a moment ago, and the mirror not know it yet.
//!
//! *A beginning is wanted.* A heartbeat that waits in a registry that was stopped has been given up by its
//! sender, whose connection is closed. One of a life that has been is harmless then, but one that begins a life would
//! bring back an instance that may have left since. So before anything begins, the connection that it came over is looked at
//! ([`ensure_client_connected`]): a request whose connection turns out to be closed is dropped, and what would follow in a
//! task of its own never starts.

use discovery::{Address, Incarnation, InstanceKey, LeaseId, Life, Status};
use discovery_etcd::{EtcdError, Held};
use service_kit::serve::ensure_client_connected;

use super::{Heartbeat, Registrar, Round, failed};
use crate::{
    error::RegistryError,
    holders::Claimant,
    metrics::{Outcome, Refused},
};

// === impl Registrar ===

impl Registrar {
    /// Before a life begins: is its sender still there? If not, this future is dropped.
    pub(super) async fn begin(heartbeat: &Heartbeat) {
        if heartbeat.begins() {
            ensure_client_connected().await;
        }
    }

    pub(super) async fn round_of(
        &self,
        life: Life,
        heartbeat: &Heartbeat,
        known: Option<Held>,
    ) -> Result<Round, RegistryError> {
        let lease = match life {
            Life::New => return self.register(heartbeat, known).await,
            Life::NewAs(incarnation) | Life::Of(incarnation) => incarnation.0,
        };
        let known = match life {
            Life::Of(_) if !lives_by(lease, known.as_ref()) => self.find(&heartbeat.key).await?,
            Life::Of(_) | Life::New | Life::NewAs(_) => known,
        };
        match (known, life) {
            (Some(held), _) if held.lease == Some(lease) => match self.etcd.keep_alive(lease).await {
                Ok(ttl) => self.sustain(heartbeat, held, lease, ttl).await,
                Err(EtcdError::LeaseNotFound { .. }) => self.find(&heartbeat.key).await.map(Round::Again),
                Err(source) => Err(failed("keep the lease alive")(source)),
            },
            (Some(held), Life::Of(incarnation)) => {
                self.note_displaced(heartbeat, incarnation, &held);
                Err(self.refuse(Refused::Heartbeat, &heartbeat.key, &held))
            }
            (None, Life::Of(incarnation)) => {
                Err(RegistryError::IncarnationEnded { key: heartbeat.key.clone(), incarnation })
            }
            (known, Life::New | Life::NewAs(_)) => self.register_as(lease, heartbeat, known).await,
        }
    }

    /// Grants `lease` and puts, if the key is still as `seen`.
    async fn register_as(
        &self,
        lease: LeaseId,
        heartbeat: &Heartbeat,
        seen: Option<Held>,
    ) -> Result<Round, RegistryError> {
        let Heartbeat { key, instance, ttl, .. } = heartbeat;
        let reserved = self.admission.reserve(key, instance, self.etcd.bytes_of(key, instance))?;
        match self.etcd.claim_as(lease, key, instance, *ttl, seen.as_ref()).await {
            Ok(claim) => self.claimed(heartbeat, claim, reserved),
            Err(EtcdError::LeaseInUse { .. }) => Err(RegistryError::LeaseInUse(Incarnation(lease))),
            // It was revoked between the grant and the put: by the deregistration of this very life.
            Err(EtcdError::Register { source, .. }) if source.is_lease_gone() => {
                Err(RegistryError::IncarnationEnded { key: key.clone(), incarnation: Incarnation(lease) })
            }
            Err(source) => Err(failed("register the instance")(source)),
        }
    }

    /// The instance is held by another life than the request is of: that is counted, logged and answered.
    pub(super) fn refuse(&self, what: Refused, key: &InstanceKey, held: &Held) -> RegistryError {
        self.metrics.refused(what);
        let address = held.instance.as_ref().map(|instance| Box::new(instance.address.clone()));
        let error = RegistryError::AnotherIncarnation {
            key: Box::new(key.clone()),
            address,
            incarnation: held.lease.map(Incarnation),
            since: held.modified,
        };
        if what != Refused::Heartbeat {
            tracing::warn!(parent: None, %key, request = what.as_str(), holder = %error, "refused: another incarnation holds the id");
        }
        error
    }

    /// A life goes on that does not hold its id any more; unless it is about to end.
    fn note_displaced(&self, heartbeat: &Heartbeat, incarnation: Incarnation, held: &Held) {
        let Heartbeat { key, instance, ttl, .. } = heartbeat;
        if instance.status == Status::Draining {
            return;
        }
        if let Some(holder) = &held.instance {
            let loser = Claimant { address: instance.address.clone(), incarnation: Some(incarnation) };
            let holder = Claimant { address: holder.address.clone(), incarnation: held.lease.map(Incarnation) };
            self.holders.displaced(key, loser, holder, *ttl);
        }
    }

    /// An address was written over another one, by a heartbeat that begins no life.
    pub(super) fn note_move(&self, heartbeat: &Heartbeat, before: Option<Address>, outcome: Outcome) {
        let Heartbeat { key, instance, ttl, .. } = heartbeat;
        if heartbeat.begins() || outcome == Outcome::KeptAlive {
            return;
        }
        if let Some(from) = before.filter(|before| *before != instance.address) {
            self.holders.moved(key, from, instance.address.clone(), *ttl);
        }
    }

    /// A heartbeat of a life that does not hold the id says nothing about the one that does.
    pub(super) fn not_heard(&self, heartbeat: &Heartbeat, error: RegistryError) -> RegistryError {
        let is_other =
            matches!(error, RegistryError::AnotherIncarnation { .. } | RegistryError::IncarnationEnded { .. });
        if let Some(Life::Of(incarnation) | Life::NewAs(incarnation)) = heartbeat.life.filter(|_| is_other) {
            self.heard.leave(&heartbeat.key, Some(incarnation));
        }
        error
    }
}

fn lives_by(lease: LeaseId, held: Option<&Held>) -> bool {
    held.is_some_and(|held| held.lease == Some(lease))
}
