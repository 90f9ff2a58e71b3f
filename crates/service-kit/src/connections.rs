//! Who is connected, in all and by client: bounds that let a newcomer in.
//!
//! A server that refuses new connections at its bound belongs to the clients that opened the old ones. So at the bound
//! a connection that waits without a request goes, and the newcomer gets its place:
//!
//! | bound | reached | then |
//! |---|---|---|
//! | [`Bounds::per_client_max`] | by one [`ClientNetwork`] | its own longest waiting connection goes |
//! | [`Bounds::max`] | by all together | of the network that holds the most, the longest waiting one |
//!
//! A connection *waits* from its beginning, or from its last response, until a request's head is complete. Parts of a
//! head change nothing: otherwise heads that are never completed would outlast a newcomer that has yet to send. A
//! connection with a request under way never goes. When none can go, the newcomer is [`Full`]: one network can hold no
//! more than its share in this way.
//!
//! The bounds are asked once per connection, under one lock; a request costs two stores to the connection's own memory.
//! At the bound all connections are looked over once for every `CHOSEN_AT_ONCE` newcomers. The place is free at once,
//! also when the old connection needs a moment to end.

mod choice;
mod network;
mod options;
mod place;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use tokio::sync::Notify;

use self::{
    choice::{Candidate, choose},
    place::Occupant,
};
pub use self::{network::ClientNetwork, options::ConnectionOptions, place::Place};

/// How many connections are chosen in one look over all.
const CHOSEN_AT_ONCE: usize = 128;

/// How long a choice counts, in milliseconds: who has waited longest does not change much meanwhile.
const CHOICE_MS: u64 = 100;

/// Among so few, a look is cheaper than remembering that there was none to choose.
const FEW: usize = 512;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all, at least 1.
    pub max: usize,
    /// Of one [`ClientNetwork`]; 0 for no bound.
    pub per_client_max: usize,
}

/// Which bound it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// [`Bounds::max`].
    Total,
    /// [`Bounds::per_client_max`].
    Client,
    /// The files that the process may have open.
    Files,
}

/// All connections of a server; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    /// A place is free.
    freed: Notify,
    open: Gauge,
    evicted: Counts,
    refused: Counts,
    unread: Counter,
}

/// By [`Full`].
type Counts = Family<[(&'static str, &'static str); 1], Counter>;

#[derive(Debug, Default)]
struct State {
    all: Vec<Arc<Occupant>>,
    networks: HashMap<ClientNetwork, Held>,
    choice: Choice,
}

/// What one network holds.
#[derive(Debug, Default)]
struct Held {
    count: usize,
    choice: Choice,
}

/// Connections that go when a place is needed.
#[derive(Debug, Default)]
struct Choice {
    /// The first to go is the last.
    candidates: Vec<Candidate>,
    /// Whether these were all that there were.
    is_all: bool,
    until_ms: u64,
}

// === impl Bounds ===

impl Bounds {
    /// With half of `max` for one network, so that no network alone can hold everything, and a proxy or a router with
    /// many users behind it holds a lot.
    #[must_use]
    pub fn shared_by_two(max: usize) -> Self {
        Self { max, per_client_max: max.div_ceil(2) }
    }
}

impl Default for Bounds {
    /// 4096 in all, half of them for one network.
    fn default() -> Self {
        Self::shared_by_two(4096)
    }
}

// === impl Full ===

impl Full {
    fn label(self) -> [(&'static str, &'static str); 1] {
        let bound = match self {
            Self::Total => "total",
            Self::Client => "client",
            Self::Files => "files",
        };
        [("bound", bound)]
    }
}

// === impl Connections ===

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, ..Shared::default() }))
    }

    /// Registers `<prefix>_connections`, `<prefix>_connections_max`, `<prefix>_connections_evicted_total{bound}` and
    /// `<prefix>_connections_refused_total{bound}`.
    pub fn register(&self, registry: &mut Registry, prefix: &str) {
        let max = i64::try_from(self.0.bounds.max).unwrap_or(i64::MAX);
        registry.register(format!("{prefix}_connections_max"), "Most connections of clients", ConstGauge::new(max));
        registry.register(format!("{prefix}_connections"), "Connections of clients", self.0.open.clone());
        let help =
            "Connections that waited without a request and were closed for newer ones, by the bound that was reached";
        registry.register(format!("{prefix}_connections_evicted"), help, self.0.evicted.clone());
        let help = "Connections refused because none could be closed for them, by the bound that was reached";
        registry.register(format!("{prefix}_connections_refused"), help, self.0.refused.clone());
    }

    /// Registers `<prefix>_connections_unread_total`, for servers that end connections whose clients do not read
    /// ([`crate::serve`]).
    pub fn register_unread(&self, registry: &mut Registry, prefix: &str) {
        let help = "Connections closed because their client took nothing of its response for too long";
        registry.register(format!("{prefix}_connections_unread"), help, self.0.unread.clone());
    }

    /// Gives a new connection of `client` a place, another one's if it must be. An exempt client (a proxy, whose
    /// connections carry the requests of many) has no share. `now_ms` is any clock that never goes back, in
    /// milliseconds; a server uses the same one always.
    ///
    /// # Errors
    ///
    /// A bound is reached, and all that count have a request under way.
    pub fn admit(&self, client: IpAddr, is_exempt: bool, now_ms: u64) -> Result<Place, Full> {
        let occupant = Arc::new(Occupant::new(ClientNetwork::of(client), is_exempt, now_ms));
        let mut evicted = Vec::new();
        let result = self.0.state().admit(&occupant, self.0.bounds, now_ms, &mut evicted);
        for (occupant, bound) in evicted {
            self.0.note_eviction(&occupant, bound);
        }
        match result {
            Ok(()) => {
                self.0.open.inc();
                Ok(Place { connections: self.clone(), occupant })
            }
            Err(full) => {
                self.0.refused.get_or_create(&full.label()).inc();
                Err(full)
            }
        }
    }

    /// Waits until one more connection can be admitted, of a client below its share. For servers that leave connections
    /// in the kernel's queue meanwhile; one task at a time.
    pub async fn room(&self, now_ms: impl Fn() -> u64) {
        while !self.0.state().has_room(self.0.bounds, now_ms()) {
            // A place becomes free, or a connection that has one ends its request, which wakes no task.
            let _either =
                tokio::time::timeout(std::time::Duration::from_millis(CHOICE_MS), self.0.freed.notified()).await;
        }
    }

    /// Closes a connection because the process has no file left for a new one; false when none can go.
    pub fn evict_for_files(&self, now_ms: u64) -> bool {
        let Some(occupant) = self.0.state().evict(None, now_ms) else { return false };
        self.0.note_eviction(&occupant, Full::Files);
        true
    }

    /// How many there may be.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.bounds.max
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.state().all.len()
    }

    fn remove(&self, occupant: &Occupant) {
        if self.0.state().remove(occupant) {
            self.0.open.dec();
            self.0.freed.notify_one();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_eviction(&self, occupant: &Occupant, bound: Full) {
        self.open.dec();
        self.evicted.get_or_create(&bound.label()).inc();
        occupant.evict();
    }
}

// === impl State ===

impl State {
    fn admit(
        &mut self,
        occupant: &Arc<Occupant>,
        bounds: Bounds,
        now_ms: u64,
        evicted: &mut Vec<(Arc<Occupant>, Full)>,
    ) -> Result<(), Full> {
        let share = if occupant.is_exempt || bounds.per_client_max == 0 { usize::MAX } else { bounds.per_client_max };
        if self.count(occupant.network) >= share {
            evicted.push((self.evict(Some(occupant.network), now_ms).ok_or(Full::Client)?, Full::Client));
        }
        if self.all.len() >= bounds.max {
            evicted.push((self.evict(None, now_ms).ok_or(Full::Total)?, Full::Total));
        }
        occupant.index.store(self.all.len(), Ordering::Relaxed);
        self.all.push(Arc::clone(occupant));
        self.networks.entry(occupant.network).or_default().count += 1;
        Ok(())
    }

    fn has_room(&mut self, bounds: Bounds, now_ms: u64) -> bool {
        if self.all.len() < bounds.max {
            return true;
        }
        let Some(candidate) = self.candidate(None, now_ms) else { return false };
        self.choice.candidates.push(candidate);
        true
    }

    /// Takes the place of a waiting connection, of `only` if that is a network.
    fn evict(&mut self, only: Option<ClientNetwork>, now_ms: u64) -> Option<Arc<Occupant>> {
        loop {
            // On one that has just been chosen something may have happened since. As long as it waits, it may go:
            // looking for another one would take as long again.
            if let Some(occupant) = self.candidate(only, now_ms)?.waiting() {
                self.remove(&occupant);
                return Some(occupant);
            }
        }
    }

    /// The connection that goes first, which is as it was when it was chosen.
    fn candidate(&mut self, only: Option<ClientNetwork>, now_ms: u64) -> Option<Candidate> {
        let is_few = self.all.len() <= FEW;
        let choice = self.choice(only)?;
        let is_old = is_few || now_ms >= choice.until_ms;
        while !is_old && let Some(candidate) = choice.candidates.pop() {
            if candidate.clone().still().is_some() {
                return Some(candidate);
            }
        }
        if !is_old && choice.is_all {
            return None;
        }
        let count = |network| self.count(network);
        let candidates = choose(&self.all, count, only, CHOSEN_AT_ONCE);
        let choice = self.choice(only)?;
        let is_all = candidates.len() < CHOSEN_AT_ONCE;
        *choice = Choice { candidates, is_all, until_ms: now_ms.saturating_add(CHOICE_MS) };
        choice.candidates.pop()
    }

    fn choice(&mut self, only: Option<ClientNetwork>) -> Option<&mut Choice> {
        match only {
            None => Some(&mut self.choice),
            Some(network) => self.networks.get_mut(&network).map(|held| &mut held.choice),
        }
    }

    fn count(&self, network: ClientNetwork) -> usize {
        self.networks.get(&network).map_or(0, |held| held.count)
    }

    /// Forgets a connection; false when that was done before, when its place was taken.
    fn remove(&mut self, occupant: &Occupant) -> bool {
        let index = occupant.index.swap(Occupant::NOWHERE, Ordering::Relaxed);
        if index == Occupant::NOWHERE {
            return false;
        }
        self.all.swap_remove(index);
        if let Some(moved) = self.all.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
        if let Some(held) = self.networks.get_mut(&occupant.network) {
            held.count -= 1;
            if held.count == 0 {
                self.networks.remove(&occupant.network);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
