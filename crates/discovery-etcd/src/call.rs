//! One call: one member at a time, each for one attempt, within one deadline.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use etcd_client::Client;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    error::CallError,
    failure::Failure,
    member::{Member, Members},
    options::{ConfigError, EtcdOptions},
    roster::Roster,
    views::Views,
};

/// The wait before everybody is asked once more; elections take a second, and answers like "no leader" come at once.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(50);

/// A handle on an etcd cluster; clones share their connections.
///
/// Every call is bounded: an attempt on one member takes at most `--etcd-timeout`, then the next member is asked, and
/// the whole call takes at most `--etcd-deadline`. A member that failed is asked last for a while.
///
/// Calls may be cancelled (dropped) at any time. A write that was cancelled or timed out may have happened or not.
#[derive(Debug, Clone)]
pub struct Etcd {
    pub(crate) members: Members,
    roster: Arc<Mutex<Roster>>,
    attempt: Duration,
    deadline: Duration,
    pub(crate) views: Views,
}

// === impl Etcd ===

impl Etcd {
    /// Knows how to reach the cluster. Does not connect: etcd may come up later, in any order.
    ///
    /// # Errors
    ///
    /// The options contradict each other, or a file that they name cannot be read.
    pub fn new(options: &EtcdOptions) -> Result<Self, ConfigError> {
        let settings = options.settings()?;
        let new_member = |endpoint| Member::new(endpoint, settings.connect.clone(), settings.user.clone());
        let members: Members = settings.endpoints.into_iter().map(new_member).collect();
        // Many processes that start together should not all lean on the same member.
        let preferred = rand::random_range(0..members.len());
        Ok(Self {
            roster: Arc::new(Mutex::new(Roster::new(members.len(), preferred))),
            members,
            attempt: settings.attempt,
            deadline: settings.deadline,
            views: Views::default(),
        })
    }

    /// Until when a call that starts now may last.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// How long one attempt on one member may take.
    pub(crate) fn attempt(&self) -> Duration {
        self.attempt
    }

    /// The members in the order in which to ask them now.
    pub(crate) fn order(&self) -> Vec<usize> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).order(Instant::now())
    }

    /// Remembers how `member` did.
    pub(crate) fn judge(&self, member: usize, failure: Option<&Failure>) {
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(failure) if failure.is_transient() => roster.failed(member, Instant::now()),
            // A refusal is an answer.
            Some(_) | None => roster.succeeded(member),
        }
    }

    /// Runs `call` on one member after another until one answers, or the deadline passes.
    pub(crate) async fn call<T, F>(&self, deadline: Instant, call: impl Fn(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.on_members(deadline, |member| member.attempt(&call)).await
    }

    /// Runs `attempt` on one member after another until one answers, or the deadline passes.
    pub(crate) async fn on_members<'a, T, F>(
        &'a self,
        deadline: Instant,
        attempt: impl Fn(&'a Member) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut failures: Vec<Option<Failure>> = vec![None; self.members.len()];
        loop {
            let mut answered = false;
            for index in self.order() {
                let member = &self.members[index];
                let now = Instant::now();
                if now >= deadline {
                    return Err(self.unavailable(failures));
                }
                let limit = deadline.min(now + self.attempt);
                let failure = match timeout_at(limit, attempt(member)).await {
                    Ok(Ok(value)) => {
                        self.judge(index, None);
                        return Ok(value);
                    }
                    Ok(Err(failure)) => failure,
                    Err(_) => Failure::Silent,
                };
                self.judge(index, Some(&failure));
                if !failure.is_transient() {
                    return Err(CallError::Refused { endpoint: member.endpoint.clone(), source: failure });
                }
                answered |= !matches!(failure, Failure::Unreachable(_));
                failures[index] = Some(failure);
            }
            let next_round = Instant::now() + BETWEEN_ROUNDS;
            // Where nobody listens on any member, waiting here would only keep the caller from saying so.
            if !answered || next_round >= deadline {
                return Err(self.unavailable(failures));
            }
            sleep_until(next_round).await;
        }
    }

    fn unavailable(&self, failures: Vec<Option<Failure>>) -> CallError {
        let each = self.members.iter().zip(failures);
        let failures = each.filter_map(|(member, failure)| Some((member.endpoint.clone(), failure?))).collect();
        CallError::Unavailable { failures }
    }
}
