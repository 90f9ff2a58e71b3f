//! Which password is checked next.

use std::collections::{HashMap, HashSet};

use service_kit::connections::ClientNetwork;

use crate::access::verdicts::Digest;

/// Hashes of one client that wait.
const CLIENT_MAX: usize = 16;
/// Hashes for one name that wait, of strangers.
const NAME_MAX: usize = 64;
/// All of strangers that wait, and all of others.
const STRANGERS_MAX: usize = 1024;
const KNOWN_MAX: usize = 256;
/// Of these, for one name: an account that is used from many networks leaves room for others.
const KNOWN_NAME_MAX: usize = 32;

/// As much waits as may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What waits; pure. A look over all of it is nothing beside a hash.
pub(super) struct Queue<T> {
    waiting: Vec<Entry<T>>,
    /// Whose hash is being worked on.
    running: HashSet<ClientNetwork>,
    /// Of all of whom something waits.
    groups: HashMap<Group, Waits>,
    /// How many turns there were.
    turn: u64,
    /// Whether the last turn was a stranger's.
    was_stranger: bool,
}

struct Entry<T> {
    asks: Asks,
    job: T,
}

/// Whose password it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) client: ClientNetwork,
    /// That of the name.
    pub(super) name: Digest,
    pub(super) is_stranger: bool,
}

/// What is bounded and has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Client(ClientNetwork),
    Name {
        name: Digest,
        is_stranger: bool,
    },
    /// Strangers, or all others.
    Lane {
        is_stranger: bool,
    },
}

/// How much of a group waits, and when its turn was last.
#[derive(Debug, Default)]
struct Waits {
    count: usize,
    turn: u64,
}

// === impl Queue ===

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), running: HashSet::new(), groups: HashMap::new(), turn: 0, was_stranger: false }
    }
}

impl<T> Queue<T> {
    /// Where there is no more room for a client that is known, it waits as a stranger.
    pub(super) fn put(&mut self, asks: Asks, job: T) -> Result<(), Full> {
        let as_stranger = Asks { is_stranger: true, ..asks };
        let asks = [asks, as_stranger].into_iter().find(|asks| self.has_room(asks)).ok_or(Full)?;
        for group in asks.groups() {
            // Who comes has its turn after all who wait.
            self.turn += 1;
            let waits = self.groups.entry(group).or_insert(Waits { count: 0, turn: self.turn });
            waits.count += 1;
        }
        self.waiting.push(Entry { asks, job });
        Ok(())
    }

    fn has_room(&self, asks: &Asks) -> bool {
        let waiting = |group: &Group| self.groups.get(group).map_or(0, |waits| waits.count);
        asks.groups().iter().all(|group| waiting(group) < group.max())
    }

    /// The next job: of those who are no strangers and of strangers in turn, of the name whose turn it is and of that
    /// the client; none of a client of which one is being worked on.
    pub(super) fn take(&mut self) -> Option<(Asks, T)> {
        let order = |entry: &Entry<T>| {
            let [client, name, _] = entry.asks.groups().map(|group| self.groups.get(&group).map(|waits| waits.turn));
            (entry.asks.is_stranger == self.was_stranger, name, client)
        };
        let ready = self.waiting.iter().enumerate().filter(|(_, entry)| !self.running.contains(&entry.asks.client));
        let (at, _) = ready.min_by_key(|(_, entry)| order(entry))?;
        let Entry { asks, job } = self.waiting.remove(at);
        self.running.insert(asks.client);
        self.was_stranger = asks.is_stranger;
        for group in asks.groups() {
            self.turn += 1;
            let Some(waits) = self.groups.get_mut(&group) else { continue };
            *waits = Waits { count: waits.count - 1, turn: self.turn };
            if waits.count == 0 {
                self.groups.remove(&group);
            }
        }
        Some((asks, job))
    }

    pub(super) fn done(&mut self, client: ClientNetwork) {
        self.running.remove(&client);
    }
}

// === impl Asks ===

impl Asks {
    fn groups(&self) -> [Group; 3] {
        let Self { client, name, is_stranger } = *self;
        [Group::Client(client), Group::Name { name, is_stranger }, Group::Lane { is_stranger }]
    }
}

// === impl Group ===

impl Group {
    /// How many may wait.
    fn max(&self) -> usize {
        match self {
            Self::Client(_) => CLIENT_MAX,
            Self::Name { is_stranger: true, .. } => NAME_MAX,
            Self::Lane { is_stranger: true } => STRANGERS_MAX,
            Self::Name { is_stranger: false, .. } => KNOWN_NAME_MAX,
            Self::Lane { is_stranger: false } => KNOWN_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u16) -> ClientNetwork {
        let [high, low] = n.to_be_bytes();
        ClientNetwork::of([10, 0, high, low].into())
    }

    fn stranger(n: u16, name: u8) -> Asks {
        Asks { client: client(n), name: [name; 32], is_stranger: true }
    }

    /// Takes the next job, and is done with it.
    fn next(queue: &mut Queue<i32>) -> Option<i32> {
        let (asks, job) = queue.take()?;
        queue.done(asks.client);
        Some(job)
    }

    #[test]
    fn one_client_waits_for_its_own_and_others_take_their_turns() {
        let mut queue = Queue::default();
        (0..3).for_each(|n| queue.put(stranger(1, 1), n).unwrap());
        queue.put(stranger(2, 1), 10).unwrap();
        let take = |queue: &mut Queue<i32>| queue.take().map(|(asks, job)| (asks.client, job));
        assert_eq!(take(&mut queue), Some((client(1), 0)));
        assert_eq!(take(&mut queue), Some((client(2), 10)), "not the first one's next, while its own is under way");
        assert_eq!(take(&mut queue), None);
        queue.done(client(1));
        assert_eq!(take(&mut queue), Some((client(1), 1)));
        queue.done(client(2));
        assert_eq!(take(&mut queue), None);
        queue.done(client(1));
        assert_eq!(take(&mut queue), Some((client(1), 2)));
        queue.done(client(1));
        assert!(queue.waiting.is_empty() && queue.groups.is_empty() && queue.running.is_empty());
    }

    #[test]
    fn guesses_at_one_name_from_many_networks_cost_another_name_one_turn() {
        let mut queue = Queue::default();
        let guesses = (0..500).filter(|n| queue.put(stranger(*n, 1), i32::from(*n)).is_ok()).count();
        assert_eq!(guesses, NAME_MAX, "of one name");
        queue.put(stranger(1000, 2), -1).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        let at = order.iter().position(|job| *job == -1).unwrap();
        assert!(at <= 1, "after one of them: {at}");
    }

    #[test]
    fn who_was_right_before_comes_in_while_strangers_fill_their_queue() {
        let mut queue = Queue::default();
        let flood = (0..60_000_u16).filter(|n| {
            let name = u8::try_from(n % 200).unwrap_or_default();
            queue.put(stranger(*n, name), i32::from(*n)).is_ok()
        });
        assert_eq!(flood.count(), STRANGERS_MAX);
        assert_eq!(queue.put(stranger(60_001, 250), 0), Err(Full));
        let known = Asks { is_stranger: false, ..stranger(60_001, 250) };
        (0..3).for_each(|n| queue.put(known, -1 - n).unwrap());
        let first: Vec<_> = (0..6).filter_map(|_| next(&mut queue)).collect();
        let known_at: Vec<_> = (0..6).filter(|at| first[*at] < 0).collect();
        assert!(
            known_at == [0, 2, 4] || known_at == [1, 3, 5],
            "every other turn, and strangers have theirs: {first:?}"
        );
    }

    #[test]
    fn one_account_that_is_known_in_many_networks_leaves_the_others_their_room() {
        let mut queue = Queue::default();
        let asks = |n: u16, name: u8| Asks { is_stranger: false, ..stranger(n, name) };
        let mallory = (0..16).flat_map(|n| std::iter::repeat_n(n, CLIENT_MAX));
        assert_eq!(mallory.filter(|n| queue.put(asks(*n, 1), 1).is_ok()).count(), KNOWN_NAME_MAX + NAME_MAX);
        let others = (100..100 + 256).filter(|n| queue.put(asks(*n, 2 + (*n % 32) as u8), 2).is_ok()).count();
        assert_eq!(others, 256, "as strangers, where the room of the known is used up");
    }

    #[test]
    fn what_waits_is_bounded_of_each_client() {
        let mut queue = Queue::default();
        let taken = (0..100).filter(|n| queue.put(stranger(1, u8::try_from(*n).unwrap()), *n).is_ok());
        assert_eq!(taken.count(), CLIENT_MAX);
        let known = Asks { is_stranger: false, ..stranger(1, 1) };
        assert_eq!(queue.put(known, 0), Err(Full), "also of one that is known");
    }
}
