//! Requests at a constant rate, and what became of them.
//!
//! The rate does not wait for answers (an open loop): a gateway that stalls gets as many requests as one that does not,
//! and the stall shows in the latencies instead of hiding in a lower rate.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Client, Request};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::latency::quantile;

/// How long one request may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// A load that goes on until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How long each answered request took.
    pub latencies: Vec<Duration>,
    /// One line for each request that failed: when, and how.
    pub failures: Vec<String>,
}

// === impl Load ===

impl Load {
    /// Sends `per_second` requests a second; `request` makes the next one from its number.
    pub fn start(per_second: u32, request: impl Fn(&Client, usize) -> Request + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(run(per_second, request, Arc::clone(&seen), stop.clone()));
        Self { stop, seen, task }
    }

    /// How many requests were answered or failed so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.seen).count()
    }

    /// Sends no more, waits for the last answers, and returns what became of all.
    ///
    /// # Panics
    ///
    /// When making a request panicked.
    pub async fn stop(self) -> Seen {
        self.stop.cancel();
        self.task.await.expect("the load does not panic");
        lock(&self.seen).clone()
    }
}

async fn run(
    per_second: u32,
    request: impl Fn(&Client, usize) -> Request + Send + 'static,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
) {
    let client = Client::builder().timeout(PATIENCE).build().expect("a client without TLS needs nothing");
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut under_way = JoinSet::new();
    for number in 0.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let request = request(&client, number);
        let seen = Arc::clone(&seen);
        let client = client.clone();
        under_way.spawn(async move {
            let sent = Instant::now();
            let outcome = outcome(&client, request).await;
            let mut seen = lock(&seen);
            match outcome {
                Ok(()) => seen.latencies.push(sent.elapsed()),
                Err(reason) => seen.failures.push(format!(
                    "request {number}, sent at {:.3} s, after {:.3} s: {reason}",
                    (sent - started).as_secs_f64(),
                    sent.elapsed().as_secs_f64()
                )),
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// A success is a 2xx whose body arrived whole.
async fn outcome(client: &Client, request: Request) -> Result<(), String> {
    let response = client.execute(request).await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| format!("{status}, then {error:?}"))?;
    if status.is_success() { Ok(()) } else { Err(format!("{status}: {body}")) }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Seen ===

impl Seen {
    /// How many requests were sent.
    #[must_use]
    pub fn count(&self) -> usize {
        self.latencies.len() + self.failures.len()
    }

    /// The latency that `share` (0.0 to 1.0) of the answered requests did not exceed.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        quantile(self.latencies.iter().copied(), share)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.latency(share).as_secs_f64() * 1000.0;
        write!(
            f,
            "{} requests, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            self.count(),
            self.failures.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        )?;
        self.failures.iter().take(10).try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}
