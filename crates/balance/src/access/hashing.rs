//! Slow hashes of passwords, off the threads that serve.
//!
//! bcrypt costs a core for a quarter of a second, on purpose. So hashes are worked on by threads of their own, half as
//! many as there are cores, one name after the other and of each name one client (an IPv4 address or an IPv6 /64) after
//! the other, one at a time of each client: who tries wrong passwords waits for its own. What waits is bounded, of each
//! client, of each name and in all; requests of a client that show the same password wait for one hash, as all do that
//! come in the moment after a start.
//!
//! Guesses that come from very many networks fill all that there is for strangers. A client whose password was right
//! before under the same name is none: it has a queue of its own, whose turn is every other one.

mod queue;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use service_kit::connections::ClientNetwork;
use tokio::sync::oneshot;

pub(crate) use self::queue::Full;
use self::queue::{Asks, Queue};
use crate::access::verdicts::{Digest, Verdicts};

/// Clients and their names that are remembered as no strangers.
const REMEMBERED_MAX: usize = 4096;

/// The threads of this process, which start with the first hash.
static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// One password to be checked.
pub(crate) struct Job {
    /// Of what the client shows and of the hash that is asked for; jobs of which it is the same come to the same.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct JobKey {
    client: ClientNetwork,
    digest: Digest,
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
        join(replies, reply);
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

/// Adds one that waits. Those whose client has left are dropped before the list grows, so that it is no longer than
/// twice as many as wait.
fn join(replies: &mut Vec<oneshot::Sender<bool>>, reply: oneshot::Sender<bool>) {
    if replies.len() == replies.capacity() {
        replies.retain(|reply| !reply.is_closed());
    }
    replies.push(reply);
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
        if self.known.contains(&(client, name)) {
            return;
        }
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
        JobKey { client, digest: self.digest }
    }

    fn run(&self) -> bool {
        if let Some(known) = self.verdicts.get(&self.digest) {
            return known;
        }
        // It compares the first 72 bytes, and no password here has more.
        let matches = bcrypt::verify(&self.password, &self.hash).unwrap_or(false);
        let is_right = matches && self.counts;
        self.verdicts.put(self.digest, is_right);
        is_right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u16) -> ClientNetwork {
        let [high, low] = n.to_be_bytes();
        ClientNetwork::of([10, 0, high, low].into())
    }

    #[tokio::test]
    async fn requests_with_one_password_wait_for_one_hash() {
        let hash: Arc<str> = bcrypt::hash("right", 10).unwrap().into();
        let verdicts = Arc::new(Verdicts::default());
        let job = |password: &str| Job {
            digest: crate::access::verdicts::digest(&hash, password.as_bytes()),
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
    fn clients_that_leave_and_come_back_leave_nothing_behind() {
        let mut replies = Vec::new();
        let (reply, stays) = oneshot::channel();
        join(&mut replies, reply);
        (0..100_000).for_each(|_| join(&mut replies, oneshot::channel().0));
        assert!(replies.len() < 10, "{}", replies.len());
        for reply in replies {
            let _left = reply.send(true);
        }
        assert_eq!(stays.blocking_recv(), Ok(true));
    }

    #[test]
    fn who_is_known_is_remembered_in_bounds() {
        let mut waiting = Waiting::default();
        (0..10_000).for_each(|n| waiting.remember(client(n), [1; 32]));
        assert_eq!(waiting.known.len(), REMEMBERED_MAX);
        let all = waiting.known.clone();
        all.iter().for_each(|(client, name)| waiting.remember(*client, *name));
        assert_eq!(waiting.known, all, "one that is known pushes no other out");
    }
}
