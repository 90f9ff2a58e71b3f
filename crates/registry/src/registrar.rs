//! Decides what a heartbeat means, and has etcd do it.
//!
//! ```text
//! what is known of the key?      (this replica's own commits, then the mirror; a stale mirror: etcd itself)
//! ├─ nothing, or no lease ────── grant a lease and put the key, if the key is still as known   → registered
//! └─ a lease: keep it alive
//!    ├─ it is gone ───────────── the same, if there is no key                                  → registered
//!    ├─ it has another TTL ───── the same, if the key is still as known; the old lease ends    → registered
//!    ├─ the instance changed ─── put the new value under the same lease                        → updated
//!    ├─ only its remark did ──── the same, within the bound of `remarks`                       → updated
//!    └─ nothing changed ──────── is the key still there? (mirror)                              → kept alive
//! ```
//!
//! Nearly every heartbeat comes to the last line, and has a short way there (see `unchanged`).
//!
//! That is for a heartbeat that does not say of which life it is, from the plainest client. One that does is taken for no
//! other life (see `life`), and keeps the TTL with which that began: another lease would be another life.
//!
//! Whatever turns out not to be as known is looked at again, with what etcd said it is: a few rounds, then the caller
//! is asked to come back.
//!
//! What changes something is metered ([`crate::admission::writes`]), behind the keep-alive: an instance that changes too often lives on as
//! it was.
//!
//! *Any replica, no lock.* Two replicas that register the same new instance at once both compare the key with "not
//! there"; etcd lets one of them through, and the other revokes its lease, takes over the first one's and keeps it
//! alive. The same comparison makes a mirror that lags harmless: it costs a round, never a second lease.
//!
//! *No proof but the key.* A keep-alive that etcd reports as done says nothing about the key, which another program may have
//! deleted; so the mirror is asked again afterwards. When it has heard nothing from etcd for
//! [`FRESH_MAX`](crate::mirror::FRESH_MAX), it is no witness, and etcd is read instead.

mod checked;
mod lease_ttl;
mod leave;
mod life;
mod orders;
mod remarks;
mod report;
mod unchanged;

use std::{sync::Arc, time::Duration};

use discovery::{Instance, InstanceKey, LeaseId, Life, Revision, Status, Ttl, heartbeat::HeartbeatReply};
use discovery_etcd::{CallError, Claim, Etcd, EtcdError, Held, Registration};
use tokio::time::{Instant, timeout_at};

pub use self::orders::Order;
use self::{lease_ttl::LeaseTtl, remarks::Remarks};
use crate::{
    admission::{Admission, writes::Reservation},
    concurrency_limit::ConcurrencyLimit,
    dialects::Dialects,
    error::RegistryError,
    heard::Heard,
    holders::Holders,
    metrics::{Metrics, Outcome},
    mirror::Mirror,
};

/// How often one heartbeat looks again when the key is not as known. Every round but the first needs another writer that
/// wrote the same key in between.
const ROUNDS_MAX: usize = 5;

/// What an instance says, in either form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who it is.
    pub key: InstanceKey,
    /// What it says about itself.
    pub instance: Instance,
    /// For how long.
    pub ttl: Ttl,
    /// Of which life this is, if it says so.
    pub life: Option<Life>,
}

/// Takes heartbeats. Clones share their bounds; it is shared as it is, because a clone has a dozen parts to count.
#[derive(Debug, Clone)]
pub struct Registrar {
    etcd: Etcd,
    mirror: Mirror,
    concurrency: ConcurrencyLimit,
    admission: Admission,
    lease_ttl: LeaseTtl,
    dialects: Dialects,
    metrics: Metrics,
    heard: Heard,
    remarks: Remarks,
    holders: Holders,
}

/// What a heartbeat came to.
#[derive(Debug, Clone, Copy)]
struct Committed {
    outcome: Outcome,
    /// What the instance lives by.
    lease: LeaseId,
    /// The revision at which the key is known to be as the heartbeat says.
    revision: Revision,
    /// For how long: what was asked for, or what the life has.
    ttl: Ttl,
}

/// What one round came to.
enum Round {
    Committed(Committed),
    /// The key is not as known, but like this.
    Again(Option<Held>),
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Whether it begins a life.
    fn begins(&self) -> bool {
        matches!(self.life, Some(Life::New | Life::NewAs(_)))
    }
}

// === impl Registrar ===

impl Registrar {
    /// Writes through `etcd` within `bounds` what `admission` lets pass, believes `mirror`.
    pub fn new(
        etcd: Etcd,
        mirror: Mirror,
        concurrency: ConcurrencyLimit,
        admission: Admission,
        metrics: Metrics,
    ) -> Self {
        let dialects = Dialects::new(etcd.clone());
        let holders = Holders::new(mirror.clone(), metrics.contested.clone());
        let lease_ttl = LeaseTtl::default();
        let heard = Heard::default();
        let remarks = Remarks::default();
        Self { etcd, mirror, concurrency, admission, lease_ttl, dialects, metrics, heard, holders, remarks }
    }

    /// Notes in `heard` who was heard, and in `holders` who claims the id of another.
    #[must_use]
    pub fn noting(mut self, heard: Heard, holders: Holders) -> Self {
        self.heard = heard;
        self.holders = holders;
        self
    }

    /// Takes one heartbeat. When this returns `Ok`, it is committed in etcd.
    ///
    /// # Errors
    ///
    /// All but [`RegistryError::NoSuchInstance`] and [`RegistryError::NotLoaded`]. It may have been committed
    /// nevertheless; the same heartbeat again is harmless.
    pub async fn accept(self: &Arc<Self>, heartbeat: Heartbeat) -> Result<HeartbeatReply, RegistryError> {
        let answer_at = self.concurrency.limits().heartbeat_deadline(heartbeat.ttl);
        self.admission.admit(&heartbeat.key, &heartbeat.instance).await?;
        Self::begin(&heartbeat).await;
        if !heartbeat.begins() {
            self.hear(&heartbeat);
        }
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let result = this.take(&heartbeat, deadline).await;
            this.metrics.count(result.as_ref().map(|(committed, _)| committed.outcome));
            result.map(|(committed, status)| this.reply(&heartbeat, committed, status))
        };
        let result = self.concurrency.run_until(answer_at, work).await;
        result.inspect_err(|error| self.metrics.count_not_begun(error))
    }

    fn reply(
        &self,
        Heartbeat { key, instance, .. }: &Heartbeat,
        committed: Committed,
        status: Status,
    ) -> HeartbeatReply {
        let Committed { lease, revision, ttl, .. } = committed;
        let incarnation = Some(lease.into());
        HeartbeatReply {
            ttl_ms: ttl.as_millis(),
            next_heartbeat_ms: self.next_heartbeat_ms(ttl),
            status,
            revision: revision.0,
            incarnation,
            other_holder: self.holders.other_than(key, &instance.address, incarnation),
        }
    }

    /// The same, for work that is to end at `deadline`.
    fn until(&self, deadline: Instant) -> Self {
        let dialects = self.dialects.until(deadline);
        Self { etcd: self.etcd.until(deadline), dialects, ..self.clone() }
    }

    /// The work of [`Registrar::accept`]: what was committed, and the status that the instance has by it.
    async fn take(&self, heartbeat: &Heartbeat, deadline: Instant) -> Result<(Committed, Status), RegistryError> {
        match self.keep_unchanged(heartbeat, deadline).await? {
            Some(kept) => Ok(kept),
            // Boxed: large, and rare.
            None => Box::pin(self.take_changed(heartbeat, deadline)).await,
        }
    }

    /// Takes a heartbeat of any kind.
    async fn take_changed(
        &self,
        heartbeat: &Heartbeat,
        deadline: Instant,
    ) -> Result<(Committed, Status), RegistryError> {
        let committed = match self.until(deadline).commit(heartbeat, deadline).await {
            Ok(committed) => committed,
            Err(error) => return Err(self.not_heard(heartbeat, error)),
        };
        if heartbeat.begins() {
            // Not before: until then the id, and what is heard of it, is another life's.
            self.hear(heartbeat);
        }
        let ordered = self.mirror.read().overridden(&heartbeat.key, Some(committed.lease));
        Ok((committed, self.settle(heartbeat, committed, ordered, deadline).await))
    }

    /// A heartbeat is committed, and an operator has `ordered` another status or none: sees to what follows from it; the
    /// status that the instance has.
    async fn settle(
        &self,
        heartbeat: &Heartbeat,
        committed: Committed,
        ordered: Option<Status>,
        deadline: Instant,
    ) -> Status {
        self.heard.keep(&heartbeat.key, committed.lease, Instant::now());
        if self.etcd.has_dialects() {
            let written = !matches!(committed.outcome, Outcome::KeptAlive);
            let dialects = self.dialects.until(deadline);
            let following = dialects.follow(&heartbeat.key, committed.lease, ordered.is_some(), written);
            // The instance is registered, whatever becomes of its views.
            let _ = timeout_at(deadline, Box::pin(following)).await;
        }
        ordered.unwrap_or(heartbeat.instance.status)
    }

    /// The instance as it is registered; `None` if it is not, or if what is registered cannot be read.
    ///
    /// # Errors
    ///
    /// etcd has to be asked, and does not answer.
    pub async fn registered(self: &Arc<Self>, key: &InstanceKey) -> Result<Option<Instance>, RegistryError> {
        let this = Arc::clone(self);
        let key = key.clone();
        let held = self.concurrency.run(move |_deadline| async move { this.known(&key).await });
        Ok(held.await?.and_then(|held| held.instance))
    }

    /// From now on the instance lives for its TTL, unless it says that it leaves.
    fn hear(&self, Heartbeat { key, instance, ttl, life }: &Heartbeat) {
        match instance.status {
            Status::Draining => self.heard.forget(key),
            Status::Passing | Status::Degraded | Status::Critical => self.heard.note(key, *ttl, *life, Instant::now()),
        }
    }

    /// When the instance should come again: every two fifths of its TTL. While many are under way, as when all come back
    /// at once, each is told another moment in the second half of that, so that they spread out.
    fn next_heartbeat_ms(&self, ttl: Ttl) -> u64 {
        let interval = ttl.heartbeat_interval();
        let share = if self.concurrency.is_busy() { rand::random_range(0.5..1.0) } else { 1.0 };
        u64::try_from(interval.mul_f64(share).as_millis()).expect("less than an hour")
    }

    async fn commit(&self, heartbeat: &Heartbeat, deadline: Instant) -> Result<Committed, RegistryError> {
        let mut known = self.known(&heartbeat.key).await?;
        for _ in 0..ROUNDS_MAX {
            let before = known.as_ref().and_then(|held| Some(held.instance.as_ref()?.address.clone()));
            match self.round(heartbeat, known).await? {
                Round::Committed(committed) => {
                    self.note_move(heartbeat, before, committed.outcome);
                    return Ok(committed);
                }
                Round::Again(_) if Instant::now() >= deadline => return Err(RegistryError::Late),
                Round::Again(held) => known = held,
            }
        }
        Err(RegistryError::Contended(heartbeat.key.clone()))
    }

    /// How etcd holds the instance, by the mirror if that is a witness.
    async fn known(&self, key: &InstanceKey) -> Result<Option<Held>, RegistryError> {
        if self.mirror.is_fresh() {
            return Ok(self.mirror.read().held(key));
        }
        self.find(key).await
    }

    /// How etcd holds the instance, by etcd itself.
    async fn find(&self, key: &InstanceKey) -> Result<Option<Held>, RegistryError> {
        self.etcd.find(key).await.map_err(failed("say whether the instance is registered"))
    }

    async fn round(&self, heartbeat: &Heartbeat, known: Option<Held>) -> Result<Round, RegistryError> {
        if let Some(life) = heartbeat.life {
            return self.round_of(life, heartbeat, known).await;
        }
        let Some(held) = known else { return self.register(heartbeat, None).await };
        let Some(lease) = held.lease else { return self.register(heartbeat, Some(held)).await };
        match self.etcd.keep_alive(lease).await {
            Ok(ttl) => self.sustain(heartbeat, held, lease, ttl).await,
            // The key has gone with it; one that is there again lives by another lease.
            Err(EtcdError::LeaseNotFound { .. }) => Ok(match self.register(heartbeat, None).await? {
                Round::Again(Some(held)) if held.lease == Some(lease) => {
                    Round::Again(Some(Held { lease: None, ..held }))
                }
                round => round,
            }),
            Err(source) => Err(failed("keep the lease alive")(source)),
        }
    }

    /// The lease by which the instance was `held` lives, and has this TTL: sees to the rest.
    async fn sustain(
        &self,
        heartbeat: &Heartbeat,
        held: Held,
        lease: LeaseId,
        ttl: Duration,
    ) -> Result<Round, RegistryError> {
        let next = async {
            if heartbeat.life.is_none() && ttl.as_secs() != self.lease_ttl.wanted_secs(heartbeat.ttl) {
                return self.replace(heartbeat, held).await;
            }
            let Heartbeat { key, instance, .. } = heartbeat;
            let is_news = |registered| self.remarks.is_news(key, &registered, instance, Instant::now());
            if held.instance.is_none_or(is_news) {
                return self.update(heartbeat, lease).await;
            }
            self.confirm(heartbeat, lease).await
        };
        match next.await {
            Ok(Round::Committed(committed)) if committed.lease == lease => {
                // etcd's shortest lease may be longer than what the instance asked for, and counts on.
                let ttl = Ttl::try_from(ttl).map_or(heartbeat.ttl, |ttl| ttl.min(heartbeat.ttl));
                Ok(Round::Committed(Committed { ttl, ..committed }))
            }
            next => next.map_err(|error| error.holding(Duration::from_secs(ttl.as_secs()))),
        }
    }

    /// Grants and puts, if the key is still as `seen`.
    async fn register(&self, heartbeat: &Heartbeat, seen: Option<Held>) -> Result<Round, RegistryError> {
        let Heartbeat { key, instance, ttl, .. } = heartbeat;
        let reserved = self.admission.reserve(key, instance, self.etcd.bytes_of(key, instance))?;
        let claim = self.etcd.claim(key, instance, *ttl, seen.as_ref()).await;
        self.claimed(heartbeat, claim.map_err(failed("register the instance"))?, reserved)
    }

    fn claimed(&self, heartbeat: &Heartbeat, claim: Claim, reserved: Reservation) -> Result<Round, RegistryError> {
        let Heartbeat { key, instance, .. } = heartbeat;
        match claim {
            Claim::Registered(registration @ Registration { lease, revision }) => {
                reserved.done();
                tracing::info!(parent: None, %key, %instance, %lease, %revision, "instance registered");
                self.note(heartbeat, registration);
                Ok(Round::Committed(Committed { outcome: Outcome::Registered, lease, revision, ttl: heartbeat.ttl }))
            }
            Claim::Taken(held) => Ok(Round::Again(held)),
        }
    }

    /// The lease has another TTL than it should: registers with a new one. If that has not, either, then because this
    /// etcd grants none that short.
    async fn replace(&self, heartbeat: &Heartbeat, held: Held) -> Result<Round, RegistryError> {
        let round = self.register(heartbeat, Some(held)).await?;
        if let Round::Committed(Committed { lease, .. }) = round
            && let Ok(granted) = self.etcd.keep_alive(lease).await
        {
            self.lease_ttl.granted(heartbeat.ttl, granted.as_secs());
        }
        Ok(round)
    }

    /// Puts what changed, under the same lease.
    async fn update(&self, heartbeat: &Heartbeat, lease: LeaseId) -> Result<Round, RegistryError> {
        let Heartbeat { key, instance, .. } = heartbeat;
        let reserved = self.admission.reserve(key, instance, self.etcd.bytes_of(key, instance))?;
        match self.etcd.update(key, instance, lease).await {
            Ok(revision) => {
                reserved.done();
                tracing::info!(parent: None, %key, %instance, %revision, "instance updated");
                self.note(heartbeat, Registration { lease, revision });
                Ok(Round::Committed(Committed { outcome: Outcome::Updated, lease, revision, ttl: heartbeat.ttl }))
            }
            Err(EtcdError::LeaseNotFound { .. } | EtcdError::NotRegistered { .. }) => {
                self.find(key).await.map(Round::Again)
            }
            Err(EtcdError::Update { source: CallError::Contended, .. }) => Err(RegistryError::Contended(key.clone())),
            Err(source) => Err(failed("update the instance")(source)),
        }
    }

    /// The lease lives; does the key still live by it, too?
    async fn confirm(&self, Heartbeat { key, ttl, .. }: &Heartbeat, lease: LeaseId) -> Result<Round, RegistryError> {
        let lives = |held: &Held| held.lease == Some(lease);
        let mut known = self.known(key).await?;
        if self.mirror.is_fresh() && !known.as_ref().is_some_and(lives) {
            // Another registry may have written it a moment ago.
            known = self.find(key).await?;
        }
        Ok(match known {
            Some(held) if lives(&held) => {
                let shown = if self.mirror.is_fresh() { self.mirror.read().revision() } else { held.modified };
                let revision = shown.max(held.modified);
                Round::Committed(Committed { outcome: Outcome::KeptAlive, lease, revision, ttl: *ttl })
            }
            other => Round::Again(other),
        })
    }

    /// Remembers what was committed until the mirror shows it.
    fn note(&self, heartbeat: &Heartbeat, Registration { lease, revision }: Registration) {
        let held = Held { instance: Some(heartbeat.instance.clone()), lease: Some(lease), modified: revision };
        self.mirror.commit(heartbeat.key.clone(), revision, Some(held));
    }
}

/// Says what was asked of etcd when it did not do it.
fn failed(operation: &'static str) -> impl FnOnce(EtcdError) -> RegistryError {
    move |source| RegistryError::Etcd { operation, source }
}
