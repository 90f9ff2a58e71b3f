//! How many requests of one client are under way at a service at the same time, from their head to their last byte; a
//! tunnel is one for as long as it lasts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::connections::ClientNetwork;

/// Parts with a lock of their own, so that cores do not wait for each other.
const PARTS: usize = 16;

/// The clients of one service. Bounded by the requests that are under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    max: u32,
    parts: [Mutex<HashMap<ClientNetwork, u32>>; PARTS],
}

/// A place of a client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<InFlight>,
    client: ClientNetwork,
}

// === impl InFlight ===

impl InFlight {
    /// `max` for each client.
    pub(crate) fn new(max: u32) -> Self {
        Self { max, parts: Default::default() }
    }

    /// How many each client may have.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// A place for one more request; `None` when the client has as many as it may have.
    pub(crate) fn enter(self: &Arc<Self>, client: ClientNetwork) -> Option<Place> {
        let mut part = self.part(client);
        let count = part.entry(client).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(part);
        Some(Place { of: Arc::clone(self), client })
    }

    fn part(&self, client: ClientNetwork) -> MutexGuard<'_, HashMap<ClientNetwork, u32>> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % PARTS as u64).unwrap_or_default();
        self.parts[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut part = self.of.part(self.client);
        if let Some(count) = part.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                part.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_places_and_gives_them_back() {
        let in_flight = Arc::new(InFlight::new(2));
        let client = |n: u8| ClientNetwork::of([10, 0, 0, n].into());
        let places: Vec<_> = (0..3).filter_map(|_| in_flight.enter(client(1))).collect();
        assert_eq!(places.len(), 2);
        assert!(in_flight.enter(client(2)).is_some(), "another has its own");
        drop(places);
        assert!(in_flight.parts.iter().all(|part| part.lock().unwrap().is_empty()), "nothing is left behind");
    }
}
