use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use discovery::{Address, Instance, InstanceKey, policy::Policy};

use crate::{
    clock::Millis,
    hash::hash,
    instance::{
        load::{Load, UnderWay},
        named::Named,
        outlier::{Change, HealthEpoch, Outcome, Outlier},
        vitals::Vitals,
    },
};

/// An instance as a request sees it.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Different for every registration: connections and tries are kept under it.
    pub(crate) serial: u64,
    pub(crate) key: InstanceKey,
    pub(crate) instance: Instance,
    /// Its host name; `None`: its address is an IP address.
    pub(crate) named: Option<Named>,
    /// Outlives changes of what the instance says about itself.
    pub(crate) state: Arc<InstanceState>,
}

/// What this gateway has seen of one registration of an instance.
#[derive(Debug)]
pub(crate) struct InstanceState {
    pub(crate) outlier: Outlier,
    pub(crate) load: Load,
    pub(crate) vitals: Vitals,
    /// When it joined a service that had other instances: its share grows from then on.
    pub(crate) joined: Option<Millis>,
    /// [`Candidate::cookie`].
    cookie: [u8; 16],
    /// What the last health check said. Written and read off the request's way.
    last_check: Mutex<Option<Box<str>>>,
}

/// A request that waits for an answer of an instance, or a stream of it; dropping it ends it.
#[derive(Debug)]
pub(crate) struct InFlight {
    candidate: Arc<Candidate>,
    core: usize,
    /// Where it is counted among the service's.
    under_way: Option<Arc<UnderWay>>,
    is_stream: bool,
    /// Its number in the line for a response, while it stands there.
    in_line: Option<u32>,
}

// === impl Candidate ===

impl Candidate {
    pub(crate) fn address(&self) -> &Address {
        &self.instance.address
    }

    /// Whether it cannot be connected to for now, because its name has no address.
    pub(crate) fn is_unresolved(&self) -> bool {
        self.named.as_ref().is_some_and(|named| !named.name.is_resolved())
    }

    /// Why its name cannot be looked up now, although an earlier answer may still be in use; completes the sentence "it …".
    pub(crate) fn trouble(&self) -> Option<String> {
        let answer = self.named.as_ref()?.name.answer();
        let unresolved = answer.trouble.as_ref()?.unresolved(Instant::now());
        let used = if answer.addresses.is_empty() { "" } else { "; the addresses of its last answer are used" };
        Some(format!("{unresolved}{used}"))
    }

    /// A request of core `core` goes to this instance. `None`: it has as many under way as its policy allows.
    pub(crate) fn begin(self: &Arc<Self>, core: usize) -> Option<InFlight> {
        if self.state.load.is_full() {
            return None;
        }
        self.state.load.begin(core);
        Some(InFlight { candidate: Arc::clone(self), core, under_way: None, is_stream: false, in_line: None })
    }

    /// How a request to this instance ended; `latency` until the head of the response, or until it was given up, if the
    /// service's balancing policy asks for it.
    pub(crate) fn record(
        &self,
        outcome: Outcome,
        latency: Option<Duration>,
        now: Millis,
        policy: &Policy,
    ) -> Option<Change> {
        if let Some(latency) = latency.filter(|_| outcome != Outcome::ConnectFailed) {
            self.state.load.answered(latency, now);
        }
        if matches!(outcome, Outcome::Answered { .. } | Outcome::Begun | Outcome::Malformed) {
            self.state.vitals.hear(now);
        }
        self.conclude(outcome, now, policy)
    }

    /// How a response ended that had [begun](Outcome::Begun).
    pub(crate) fn conclude(&self, outcome: Outcome, now: Millis, policy: &Policy) -> Option<Change> {
        self.state.outlier.record(outcome, now, &policy.health.passive, self.serial)
    }

    /// What a sticky cookie says: always the same for the same instance, also after a restart and at another gateway, and
    /// nothing that tells where it is. 16 hexadecimal digits.
    pub(crate) fn cookie(&self) -> &[u8; 16] {
        &self.state.cookie
    }

    #[cfg(test)]
    pub(crate) fn sample(address: &str, weight: u64) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};

        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let address: Address = address.parse().unwrap();
        let key = InstanceKey::new("mail".parse().unwrap(), address.instance_id().unwrap());
        let instance = Instance { weight: weight.try_into().unwrap(), ..Instance::at(address) };
        let state = Arc::new(InstanceState::new(&key, 1, HealthEpoch::default(), None));
        // Where there is no runtime, nothing is connected to either.
        let named = Named::of(&instance.address.host, &crate::addresses::AddressPolicy::default())
            .filter(|_| tokio::runtime::Handle::try_current().is_ok());
        Self { serial: SERIAL.fetch_add(1, Ordering::Relaxed), key, instance, named, state }
    }
}

// === impl InstanceState ===

impl InstanceState {
    /// Of an instance that registers anew: healthy, and with nothing to do.
    pub(crate) fn new(key: &InstanceKey, cores: usize, health_epoch: HealthEpoch, joined: Option<Millis>) -> Self {
        let digits = format!("{:016x}", hash(key.key().as_bytes()));
        let mut cookie = [b'0'; 16];
        cookie.copy_from_slice(digits.as_bytes());
        let last_check = Mutex::default();
        let (outlier, load) = (Outlier::new(health_epoch), Load::new(cores));
        Self { outlier, load, vitals: Vitals::default(), joined, cookie, last_check }
    }

    /// What the last health check said; `None`: there was none.
    pub(crate) fn last_check(&self) -> Option<Box<str>> {
        self.last_check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_last_check(&self, said: &str) {
        *self.last_check.lock().unwrap_or_else(PoisonError::into_inner) = Some(said.into());
    }
}

// === impl InFlight ===

impl InFlight {
    /// Counts it among those of its core at the service, too.
    pub(crate) fn counted(mut self, under_way: &Arc<UnderWay>) -> Self {
        under_way.begin();
        self.under_way = Some(Arc::clone(under_way));
        self
    }

    /// It has turned out to be a tunnel or an event stream, which waits for nothing and may last for ever: it is counted among
    /// those, and its place is free. False when there are as many as there may be.
    pub(crate) fn become_stream(&mut self) -> bool {
        let load = &self.candidate.state.load;
        if !self.is_stream && load.begin_stream(self.core) {
            load.end(self.core);
            self.is_stream = true;
            if let Some(under_way) = &self.under_way {
                under_way.become_stream();
            }
        }
        self.is_stream
    }

    /// It was sent whole: from now on it waits for a response.
    pub(crate) fn stand_in_line(&mut self) {
        self.in_line = Some(self.candidate.state.load.stand_in_line(self.core));
    }

    /// Its response has begun, `latency` after it did.
    pub(crate) fn answered(&mut self, latency: Duration, now: Millis) {
        let (state, core) = (&self.candidate.state, self.core);
        if let Some(number) = self.in_line.take() {
            state.vitals.answered(latency, now, || state.load.overtakes(core, number));
            state.load.leave_line(core);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let load = &self.candidate.state.load;
        if self.is_stream {
            load.end_stream(self.core)
        } else {
            load.end(self.core)
        }
        if self.in_line.is_some() {
            load.leave_line(self.core);
        }
        if let Some(under_way) = &self.under_way {
            under_way.end(self.is_stream);
        }
    }
}
