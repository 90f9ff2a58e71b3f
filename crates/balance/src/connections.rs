//! How many clients are connected, in all and each: the bounds that every worker asks before it serves a connection.
//!
//! Shared by the workers, and asked once per connection, never per request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::refusal::Refusal;

/// The count; clones are the same count.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    total: AtomicUsize,
    max: usize,
    /// Empty when there is no limit.
    per_client: Mutex<HashMap<IpAddr, usize>>,
    per_client_max: usize,
}

/// One connection's place in the count, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    counts: Arc<Counts>,
    client: IpAddr,
}

// === impl Connections ===

impl Connections {
    /// `per_client_max` 0: no limit.
    pub(crate) fn new(max: usize, per_client_max: usize) -> Self {
        Self(Arc::new(Counts { total: AtomicUsize::new(0), max, per_client: Mutex::default(), per_client_max }))
    }

    /// Counts a connection of `client`.
    ///
    /// # Errors
    ///
    /// It is one too many.
    pub(crate) fn admit(&self, client: IpAddr) -> Result<Admission, Refusal> {
        let counts = &self.0;
        let below = |total: usize| (total < counts.max).then_some(total + 1);
        if counts.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_err() {
            return Err(Refusal::Overloaded("the gateway has as many connections as it may have; try again later"));
        }
        let admission = Admission { counts: Arc::clone(counts), client: client.to_canonical() };
        if counts.per_client_max > 0 {
            let mut per_client = counts.per_client();
            let count = per_client.entry(admission.client).or_default();
            *count += 1;
            if *count > counts.per_client_max {
                drop(per_client);
                return Err(Refusal::Overloaded("you have as many connections as one client may have; close some"));
            }
        }
        Ok(admission)
    }

    /// How many there are.
    pub(crate) fn total(&self) -> usize {
        self.0.total.load(Ordering::Relaxed)
    }
}

// === impl Counts ===

impl Counts {
    fn per_client(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.per_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.counts.total.fetch_sub(1, Ordering::Relaxed);
        if self.counts.per_client_max > 0 {
            let mut per_client = self.counts.per_client();
            if let Some(count) = per_client.get_mut(&self.client) {
                *count -= 1;
                if *count == 0 {
                    per_client.remove(&self.client);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let connections = Connections::new(2, 1);
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first = connections.admit(ip(1)).unwrap();
        assert!(connections.admit(ip(1)).is_err(), "one per client");
        let _second = connections.admit(ip(2)).unwrap();
        assert!(connections.admit(ip(3)).is_err(), "two in all");
        assert_eq!(connections.total(), 2, "who was refused is not counted");
        drop(first);
        assert!(connections.admit(ip(1)).is_ok());
        assert!(connections.0.per_client().len() <= 2, "who is gone is forgotten");
    }
}
