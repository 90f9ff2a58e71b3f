//! The limit of concurrent work, and of its duration.
//!
//! While etcd does not answer, every heartbeat waits for its deadline, and a thousand instances send five hundred more
//! each second. Without a bound the waiting ones would pile up until memory ends; with it the rest is refused quickly,
//! and the instances, which try again anyway, see the same as they would have seen later.
//!
//! Work goes on in a task of its own when its client has left or its time is over (`finished.rs`): half a registration is
//! not dropped between the grant and the put, where it would leave a lease behind.

use std::{future::Future, sync::Arc, time::Duration};

use discovery::{Ttl, deadlines};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use self::finished::Finished;
use crate::error::RegistryError;

mod finished;

/// What is taken on at the same time, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests that are worked on at the same time, each with one call on its way to etcd; a deregistration has two.
    /// Default 256: at a millisecond for a keep-alive that is more than two cores can answer.
    pub at_once_max: usize,
    /// How long a request waits for its turn before it is refused as one too many. Default 250 ms.
    pub turn_wait: Duration,
    /// When a request is answered at the latest, its turn included. Default 900 ms: heartbeats wait for 1 s.
    pub deadline: Duration,
}

/// Holds the limits; clones share them.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    limits: Limits,
    slots: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::around(deadlines::ETCD_DEADLINE)
    }
}

// === impl Limits ===

impl Limits {
    /// With the time that calls to etcd may take together: the answer comes a little later, and with their outcome.
    pub fn around(etcd: Duration) -> Self {
        let deadline = deadlines::registry_answer(etcd);
        Self { at_once_max: 256, turn_wait: Duration::from_millis(250), deadline }
    }

    /// When to answer a heartbeat that came just now. One with a TTL below 5 s waits for less than 1 s.
    pub fn heartbeat_deadline(&self, ttl: Ttl) -> Instant {
        let share = ttl.get().div_duration_f64(Ttl::default().get()).min(1.0);
        Instant::now() + self.deadline.mul_f64(share)
    }
}

// === impl ConcurrencyLimit ===

impl ConcurrencyLimit {
    /// Nothing under way yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, slots: Arc::new(Semaphore::new(limits.at_once_max)) }
    }

    /// Does `work`, which gets the moment at which it should give up, within the limits. That is before the answer is due, so
    /// that the answer says how the work went.
    ///
    /// # Errors
    ///
    /// What `work` says; [`RegistryError::Overloaded`] when it did not get its turn, and nothing was done;
    /// [`RegistryError::Late`] when it took too long, and it is not known what was done.
    pub async fn run<T, F>(&self, work: impl FnOnce(Instant) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        self.run_until(Instant::now() + self.limits.deadline, work).await
    }

    /// The same for a request that is to be answered at `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// As [`ConcurrencyLimit::run`].
    pub async fn run_until<T, F>(&self, deadline: Instant, work: impl FnOnce(Instant) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        let slot = self.turn(deadline).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let work = work(deadline - (left / 4).min(deadlines::REGISTRY_MARGIN));
        let work = Finished::new(async move {
            let result = work.await;
            drop(slot);
            result
        });
        match timeout_at(deadline, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(RegistryError::Broken(panicked)),
            Err(_) => Err(RegistryError::Late),
        }
    }

    async fn turn(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, RegistryError> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let turn_until = deadline.min(Instant::now() + self.limits.turn_wait);
        let turn = timeout_at(turn_until, Arc::clone(&self.slots).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(RegistryError::Overloaded)
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether more than a quarter of what is taken on at once is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way() > self.limits.at_once_max / 4
    }

    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.limits.at_once_max - self.slots.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
    };

    use axum::{body::Body, extract::Request};
    use service_kit::request::{self, RequestContext};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::admission::writes;

    fn concurrency(at_once_max: usize) -> ConcurrencyLimit {
        ConcurrencyLimit::new(Limits { at_once_max, ..Limits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_answered_before_a_heartbeat_gives_up() {
        let started = Instant::now();
        let result = concurrency(1).run(|_| pending::<Result<(), _>>()).await;
        assert!(matches!(result, Err(RegistryError::Late)));
        assert!(started.elapsed() < deadlines::HEARTBEAT_ATTEMPT);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_told_to_end_before_its_caller_goes() {
        let limits = Limits::default();
        for ttl in [Ttl::MIN, Ttl::default(), Ttl::MAX] {
            let now = Instant::now();
            let deadline = limits.heartbeat_deadline(ttl);
            let told = concurrency(1).run_until(deadline, async |told| Ok(told)).await.unwrap();
            assert!(told < deadline && told > now, "{ttl}");
            // How long a heartbeat waits for one registry.
            let patience = deadlines::HEARTBEAT_ATTEMPT.min(ttl.get() / 5);
            assert!(deadline < now + patience, "{ttl}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_is_refused_quickly() {
        let concurrency = concurrency(2);
        for _ in 0..2 {
            let concurrency = concurrency.clone();
            tokio::spawn(async move { concurrency.run(|_| pending::<Result<(), _>>()).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(concurrency.under_way(), 2);
        let started = Instant::now();
        let result = concurrency.run(async |_| Ok(())).await;
        assert!(matches!(result, Err(RegistryError::Overloaded)));
        assert!(started.elapsed() <= Limits::default().turn_wait * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_finished_when_its_client_has_left() {
        let concurrency = concurrency(1);
        let finished = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&finished);
        let client = concurrency.run(|_| async move {
            sleep(Duration::from_secs(1)).await;
            flag.store(true, Ordering::Relaxed);
            Ok(())
        });
        assert!(timeout(Duration::from_millis(500), client).await.is_err());
        sleep(Duration::from_secs(1)).await;
        assert!(finished.load(Ordering::Relaxed));
        assert_eq!(concurrency.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_goes_on_is_the_same_request_s_and_its_payer_s() {
        let concurrency = concurrency(1);
        let seen = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&seen);
        let client = concurrency.run(|_| async move {
            sleep(Duration::from_millis(500)).await;
            *noted.lock().unwrap() = Some((request::current_id(), writes::payer()));
            Ok(())
        });
        let asked = Request::builder().header("x-request-id", "abc-1").body(Body::empty()).unwrap();
        let payer = writes::Payer::Token("web".to_owned());
        let client = RequestContext::of(&asked).during(writes::paid_by(Some(payer.clone()), client));
        assert!(timeout(Duration::from_millis(100), client).await.is_err());
        sleep(Duration::from_millis(500)).await;
        assert_eq!(*seen.lock().unwrap(), Some((Some("abc-1".to_owned()), Some(payer))));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_is_an_error_and_gives_its_place_back() {
        let concurrency = concurrency(1);
        let result = concurrency.run(async |_| -> Result<(), _> { panic!("a bug of {}", "ours") }).await;
        assert!(matches!(&result, Err(RegistryError::Broken(words)) if words == "a bug of ours"), "{result:?}");
        assert_eq!(concurrency.under_way(), 0);
    }
}
