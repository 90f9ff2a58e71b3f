//! Slow hashes of passwords, off the threads that serve.
//!
//! bcrypt costs a core for a quarter of a second, on purpose. So hashes are worked on by threads of their own, half as
//! many as there are cores, one client (an IPv4 address or an IPv6 /64) after the other, and one at a time of each: who
//! tries wrong passwords waits for its own, and every other client for one of its hashes at most. What waits is bounded,
//! of each client and in all; requests of a client that show the same password wait for one hash, as all do that come in
//! the moment after a start.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use service_kit::connections::ClientNetwork;
use tokio::sync::oneshot;

use crate::access::verdicts::{Digest, Verdicts};

/// Hashes of one client that wait.
const CLIENT_MAX: usize = 16;
/// All that wait.
const TOTAL_MAX: usize = 1024;

/// The threads of this process, which start with the first hash.
static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// One password to be checked.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) digest: Digest,
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

/// What waits, by client; pure.
struct Queue<T> {
    waiting: HashMap<ClientNetwork, VecDeque<T>>,
    /// Whose turn it is.
    turns: VecDeque<ClientNetwork>,
    /// Whose hash is being worked on.
    running: HashSet<ClientNetwork>,
    total: usize,
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
    waiting.queue.put(client, job)?;
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
            let Some((client, job)) = waiting.queue.take() else {
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

// === impl Job ===

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
        let (waiting, turns, running) = Default::default();
        Self { waiting, turns, running, total: 0 }
    }
}

impl<T> Queue<T> {
    fn put(&mut self, client: ClientNetwork, job: T) -> Result<(), Full> {
        let of_client = self.waiting.get(&client).map_or(0, VecDeque::len);
        if self.total >= TOTAL_MAX || of_client >= CLIENT_MAX {
            return Err(Full);
        }
        self.total += 1;
        self.waiting.entry(client).or_default().push_back(job);
        if of_client == 0 && !self.running.contains(&client) {
            self.turns.push_back(client);
        }
        Ok(())
    }

    /// The next job, of the client whose turn it is.
    fn take(&mut self) -> Option<(ClientNetwork, T)> {
        let client = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&client)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&client);
        }
        self.total -= 1;
        self.running.insert(client);
        Some((client, job))
    }

    fn done(&mut self, client: ClientNetwork) {
        self.running.remove(&client);
        if self.waiting.contains_key(&client) {
            self.turns.push_back(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientNetwork {
        ClientNetwork::of([10, 0, 0, n].into())
    }

    #[test]
    fn one_client_waits_for_its_own_and_others_take_their_turns() {
        let mut queue = Queue::default();
        (0..3).for_each(|n| queue.put(client(1), n).unwrap());
        queue.put(client(2), 10).unwrap();
        assert_eq!(queue.take(), Some((client(1), 0)));
        assert_eq!(queue.take(), Some((client(2), 10)), "not the first one's next, while its own is under way");
        assert_eq!(queue.take(), None);
        queue.done(client(1));
        assert_eq!(queue.take(), Some((client(1), 1)));
        queue.done(client(2));
        assert_eq!(queue.take(), None);
        queue.done(client(1));
        assert_eq!(queue.take(), Some((client(1), 2)));
        queue.done(client(1));
        assert!(queue.waiting.is_empty() && queue.turns.is_empty() && queue.running.is_empty() && queue.total == 0);
    }

    #[tokio::test]
    async fn requests_with_one_password_wait_for_one_hash() {
        let hash: Arc<str> = bcrypt::hash("right", 10).unwrap().into();
        let verdicts = Arc::new(Verdicts::default());
        let job = |password: &str| Job {
            digest: crate::access::verdicts::digest(password.as_bytes()),
            hash: Arc::clone(&hash),
            password: password.as_bytes().into(),
            counts: true,
            verdicts: Arc::clone(&verdicts),
        };
        let answers: Vec<_> = (0..1000).map(|_| submit(client(200), job("right"))).collect();
        for answer in answers {
            assert!(answer.expect("no more waits than one hash").await.unwrap());
        }
        assert!(POOL.lock().replies.is_empty(), "nothing is left behind");
        assert!(!submit(client(200), job("wrong")).unwrap().await.unwrap());
    }

    #[test]
    fn what_waits_is_bounded_of_each_client_and_in_all() {
        let mut queue = Queue::default();
        assert_eq!((0..100).filter(|n| queue.put(client(1), *n).is_ok()).count(), CLIENT_MAX);
        let all = (0..=255).flat_map(|n| std::iter::repeat_n(n, CLIENT_MAX)).skip(2 * CLIENT_MAX);
        all.for_each(|n| _ = queue.put(client(n), 0));
        assert_eq!(queue.total, TOTAL_MAX);
    }
}
