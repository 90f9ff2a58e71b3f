//! Users: requests at a constant rate from a thread of their own, and what became of each.
//!
//! The rate does not wait for answers, and a latency counts from when its request was due. Three of four requests are
//! GET, every fourth is a POST with a body. Each carries its number, which the test instances write down.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bench::engine::{Broken, Clients, Connections, Done, EventLoop, Load, Outcome, Pace, Traffic, wire};

/// How long a user waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at the same time: as many as a stalled gateway gets in [`PATIENCE`] at a modest rate.
const CONNECTIONS_MAX: usize = 4_000;

/// The first number of the next users: no two requests of a process have the same one.
static NEXT_FIRST: AtomicU64 = AtomicU64::new(0);
/// More requests than a load ever sends; a multiple of four.
const BLOCK: u64 = 1 << 32;

/// A load that goes on until [`Users::stop`].
#[derive(Debug)]
pub struct Users {
    is_stopped: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    thread: JoinHandle<std::io::Result<()>>,
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its number.
    pub number: u64,
    /// When it was due.
    pub due: Instant,
    /// When its first byte was sent; `None` when none ever was.
    pub sent: Option<Instant>,
    /// When it was over.
    pub at: Instant,
    /// The test instance that answered, or why none did.
    pub outcome: Result<String, Failed>,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The gateway answered something else than 200.
    Status(u16),
    /// There was no complete answer.
    Broken(Broken),
}

/// Whether request `number` is a POST.
#[must_use]
pub fn is_post(number: u64) -> bool {
    number % 4 == 3
}

// === impl Users ===

impl Users {
    /// Sends `per_second` requests a second to the service `test-instance` behind the gateway at `target`.
    ///
    /// # Panics
    ///
    /// When the system has no thread or no descriptor left.
    #[must_use]
    pub fn start(target: SocketAddr, per_second: f64) -> Self {
        Self::at_pace(target, Pace::PerSecond(per_second))
    }

    /// Keeps so many requests under way: for finding out what a gateway can do.
    ///
    /// # Panics
    ///
    /// As [`Users::start`].
    #[must_use]
    pub fn under_way(target: SocketAddr, requests: usize) -> Self {
        Self::at_pace(target, Pace::UnderWay(requests))
    }

    fn at_pace(target: SocketAddr, pace: Pace) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let load = Load {
            target,
            pace,
            connections: Connections::Kept,
            connections_max: CONNECTIONS_MAX,
            patience: PATIENCE,
            spin: false,
        };
        let first = NEXT_FIRST.fetch_add(BLOCK, Ordering::Relaxed);
        let stopped = Arc::clone(&is_stopped);
        let mut notes = Notes { first, answers: Arc::clone(&answers) };
        let thread = std::thread::spawn(move || {
            let mut clients = Clients::new(load);
            EventLoop::new(None)?.run(&mut clients, &mut notes, |clients, _| {
                if stopped.load(Ordering::Relaxed) {
                    clients.stop();
                }
                !clients.is_done()
            })
        });
        Self { is_stopped, answers, thread }
    }

    /// How many requests are over.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.answers).len()
    }

    /// What became of the requests that were due in `from..to` and are over.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Answer> {
        lock(&self.answers).iter().filter(|answer| answer.due >= from && answer.due < to).cloned().collect()
    }

    /// Sends no more, waits for the last answers, and returns what became of all, in the order in which they were over.
    ///
    /// # Panics
    ///
    /// When the thread failed.
    #[must_use]
    pub fn stop(self) -> Vec<Answer> {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the users do not panic").expect("the kernel lets them wait");
        std::mem::take(&mut lock(&self.answers))
    }
}

fn lock(answers: &Mutex<Vec<Answer>>) -> std::sync::MutexGuard<'_, Vec<Answer>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Answer ===

impl Answer {
    /// From when it was due to its end.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.at.saturating_duration_since(self.due)
    }
}

// === impl Failed ===

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

/// Writes the requests, and keeps what became of them.
struct Notes {
    first: u64,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Traffic for Notes {
    fn write(&mut self, number: u64, out: &mut Vec<u8>) {
        let number = self.first + number;
        let head = match is_post(number) {
            false => format!("GET /test-instance/r HTTP/1.1\r\nHost: localhost\r\nx-number: {number}\r\n\r\n"),
            true => format!(
                "POST /test-instance/r HTTP/1.1\r\nHost: localhost\r\nx-number: {number}\r\nContent-Length: 5\r\n\r\nhello"
            ),
        };
        out.extend_from_slice(head.as_bytes());
    }

    fn done(&mut self, done: Done<'_>) {
        let outcome = match done.outcome {
            Outcome::Answered(200, head) => Ok(wire::header(head, "x-test-instance").unwrap_or_default().to_owned()),
            Outcome::Answered(status, _) => Err(Failed::Status(status)),
            Outcome::Broken(broken) => Err(Failed::Broken(broken)),
        };
        let Done { number, due, sent, at, .. } = done;
        lock(&self.answers).push(Answer { number: self.first + number, due, sent, at, outcome });
    }
}
