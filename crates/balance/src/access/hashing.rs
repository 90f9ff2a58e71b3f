//! Slow hashes of passwords, off the threads that serve.
//!
//! bcrypt costs a core for a quarter of a second, on purpose. So hashes are worked on by threads of their own, half as
//! many as there are cores, one name after the other and of each name one client (an IPv4 address or an IPv6 /64) after the
//! other, one at a time of each client: who tries wrong passwords waits for its own. What waits is bounded, of each client,
//! of each name and in all; requests of a client that show the same password wait for one hash, as all do that come in the
//! moment after a start.
//!
//! Guesses that come from very many networks fill all that there is for strangers. A client whose password was right before
//! under the same name is none: it has a queue of its own, whose turn is every other one.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use service_kit::connections::ClientNetwork;
use tokio::sync::oneshot;

use crate::access::verdicts::{Digest, Verdicts};

/// Hashes of one client that wait.
const CLIENT_MAX: usize = 16;
/// Hashes for one name that wait, of strangers.
const NAME_MAX: usize = 64;
/// All of strangers that wait, and all of others.
const STRANGERS_MAX: usize = 1024;
const KNOWN_MAX: usize = 256;
/// Clients and their names that are remembered as no strangers.
const REMEMBERED_MAX: usize = 4096;

/// The threads of this process, which start with the first hash.
static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// One password to be checked.
pub(crate) struct Job {
    pub(crate) digest: Digest,
    /// That of the name.
    pub(crate) name: Digest,
    /// The hash that it is to have.
    pub(crate) hash: Arc<str>,
    pub(crate) password: Box<[u8]>,
    /// Whether a match counts; else the hash is only worked on so that an unknown name takes as long as a known one.
    pub(crate) counts: bool,
    /// Where the result goes, so that it is worked out once.
    pub(crate) verdicts: Arc<Verdicts>,
}

/// As much waits as may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Default)]
struct Pool {
    waiting: Mutex<Waiting>,
    work: Condvar,
}

/// What is to be worked on, and who waits for it.
#[derive(Default)]
struct Waiting {
    queue: Queue<Job>,
    /// Clients whose password was right, with their name.
    known: HashSet<(ClientNetwork, Digest)>,
    /// Of jobs that wait or are worked on.
    replies: HashMap<JobKey, Vec<oneshot::Sender<bool>>>,
    threads: usize,
}

/// Jobs with the same key come to the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct JobKey {
    client: ClientNetwork,
    digest: Digest,
    hash: Arc<str>,
    counts: bool,
}

/// What waits; pure. A look over all of it is nothing beside a hash.
struct Queue<T> {
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
struct Asks {
    client: ClientNetwork,
    name: Digest,
    is_stranger: bool,
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

/// Whether the password is right; the answer comes when it has been worked out, and never when the process ends before.
///
/// # Errors
///
/// [`Full`].
pub(crate) fn submit(client: ClientNetwork, job: Job) -> Result<oneshot::Receiver<bool>, Full> {
    let (reply, answer) = oneshot::channel();
    let key = job.key(client);
    let mut waiting = POOL.lock();
    if let Some(replies) = waiting.replies.get_mut(&key) {
        replies.push(reply);
        return Ok(answer);
    }
    let is_stranger = !waiting.known.contains(&(client, job.name));
    waiting.queue.put(Asks { client, name: job.name, is_stranger }, job)?;
    waiting.replies.insert(key, vec![reply]);
    if waiting.threads < threads_max() {
        let number = waiting.threads;
        // Without a thread the job waits for one that starts with the next job, or for its deadline.
        let started = thread::Builder::new().name(format!("balance-hash-{number}")).spawn(|| POOL.work());
        waiting.threads += usize::from(started.is_ok());
    }
    drop(waiting);
    POOL.work.notify_one();
    Ok(answer)
}

fn threads_max() -> usize {
    (thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

// === impl Pool ===

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut waiting = self.lock();
        loop {
            let Some((Asks { client, name, .. }, job)) = waiting.queue.take() else {
                waiting = self.work.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let key = job.key(client);
            // The clients may have left.
            let is_wanted = |reply: &oneshot::Sender<bool>| !reply.is_closed();
            if waiting.replies.get(&key).is_some_and(|replies| replies.iter().any(is_wanted)) {
                drop(waiting);
                let is_right = job.run();
                waiting = self.lock();
                if is_right {
                    waiting.remember(client, name);
                }
                for reply in waiting.replies.remove(&key).into_iter().flatten() {
                    let _left = reply.send(is_right);
                }
            } else {
                waiting.replies.remove(&key);
            }
            waiting.queue.done(client);
            self.work.notify_one();
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// From now on the client is no stranger under this name.
    fn remember(&mut self, client: ClientNetwork, name: Digest) {
        if self.known.len() >= REMEMBERED_MAX
            && let Some(any) = self.known.iter().next().copied()
        {
            self.known.remove(&any);
        }
        self.known.insert((client, name));
    }
}

// === impl Job ===

impl fmt::Debug for Job {
    /// Without the password and the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Job {
    fn key(&self, client: ClientNetwork) -> JobKey {
        JobKey { client, digest: self.digest, hash: Arc::clone(&self.hash), counts: self.counts }
    }

    fn run(&self) -> bool {
        if let Some(known) = self.verdicts.get(&self.digest) {
            return known;
        }
        let matches = bcrypt::non_truncating_verify(&self.password, &self.hash).unwrap_or(false);
        let is_right = matches && self.counts;
        self.verdicts.put(self.digest, is_right);
        is_right
    }
}

// === impl Queue ===

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), running: HashSet::new(), groups: HashMap::new(), turn: 0, was_stranger: false }
    }
}

impl<T> Queue<T> {
    fn put(&mut self, asks: Asks, job: T) -> Result<(), Full> {
        let waiting = |group: &Group| self.groups.get(group).map_or(0, |waits| waits.count);
        if asks.groups().iter().any(|group| waiting(group) >= group.max()) {
            return Err(Full);
        }
        for group in asks.groups() {
            // Who comes has its turn after all who wait.
            self.turn += 1;
            let waits = self.groups.entry(group).or_insert(Waits { count: 0, turn: self.turn });
            waits.count += 1;
        }
        self.waiting.push(Entry { asks, job });
        Ok(())
    }

    /// The next job: of those who are no strangers and of strangers in turn, of the name whose turn it is and of that the
    /// client; none of a client of which one is being worked on.
    fn take(&mut self) -> Option<(Asks, T)> {
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

    fn done(&mut self, client: ClientNetwork) {
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
            Self::Name { is_stranger: false, .. } | Self::Lane { is_stranger: false } => KNOWN_MAX,
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

    #[tokio::test]
    async fn requests_with_one_password_wait_for_one_hash() {
        let hash: Arc<str> = bcrypt::hash("right", 10).unwrap().into();
        let verdicts = Arc::new(Verdicts::default());
        let job = |password: &str| Job {
            digest: crate::access::verdicts::digest(password.as_bytes()),
            name: [9; 32],
            hash: Arc::clone(&hash),
            password: password.as_bytes().into(),
            counts: true,
            verdicts: Arc::clone(&verdicts),
        };
        assert!(!format!("{:?}", job("right")).contains("114"), "neither the password nor its bytes are shown");
        let answers: Vec<_> = (0..1000).map(|_| submit(client(200), job("right"))).collect();
        for answer in answers {
            assert!(answer.expect("no more waits than one hash").await.unwrap());
        }
        assert!(POOL.lock().replies.is_empty(), "nothing is left behind");
        assert!(POOL.lock().known.contains(&(client(200), [9; 32])), "it is no stranger any more");
        assert!(!submit(client(201), job("wrong")).unwrap().await.unwrap());
        assert!(!POOL.lock().known.contains(&(client(201), [9; 32])));
    }

    #[test]
    fn what_waits_is_bounded_of_each_client_and_who_is_known_is_remembered_in_bounds() {
        let mut queue = Queue::default();
        let taken = (0..100).filter(|n| queue.put(stranger(1, u8::try_from(*n).unwrap()), *n).is_ok());
        assert_eq!(taken.count(), CLIENT_MAX);
        let known = Asks { is_stranger: false, ..stranger(1, 1) };
        assert_eq!(queue.put(known, 0), Err(Full), "also of one that is known");
        let mut waiting = Waiting::default();
        (0..10_000).for_each(|n| waiting.remember(client(n), [1; 32]));
        assert_eq!(waiting.known.len(), REMEMBERED_MAX);
    }
}
