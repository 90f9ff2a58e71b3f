//! One call: one member at a time, each for one attempt, within one deadline.

use std::{future::Future, iter::once, sync::Arc, time::Duration};

use discovery::dialect::Dialects;
use etcd_client::Client;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{
    access::Access,
    error::CallError,
    failure::{Failure, FailureClass},
    member::{Member, Members},
    member_order::{MemberOrder, SharedOrder},
    options::{ConfigError, EtcdOptions},
    write_health::WriteHealth,
};

/// The wait before all members are asked again; elections take a second, and answers like "no leader" come at once.
/// Twice as long each time, so that etcd is not asked dozens of times for one call.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(50);
const BETWEEN_ROUNDS_MAX: Duration = Duration::from_millis(200);

/// A handle on an etcd cluster; clones share their connections.
///
/// Every call is bounded: an attempt on one member takes at most `--etcd-timeout`, then the next member is asked, and
/// the whole call takes at most `--etcd-deadline`. A member that failed is asked last for a while.
///
/// Calls may be cancelled (dropped) at any time. A write that was cancelled or timed out may have happened or not.
#[derive(Debug, Clone)]
pub struct Etcd {
    pub(crate) members: Members,
    member_order: Arc<SharedOrder>,
    attempt: Duration,
    deadline: Duration,
    /// When calls through this handle end at the latest.
    until: Option<Instant>,
    access: Arc<Access>,
    /// Other systems' formats, in which this handle writes instances, too.
    pub(crate) dialects: Arc<Dialects>,
    pub(crate) writes: WriteHealth,
}

// === impl Etcd ===

impl Etcd {
    /// Knows how to reach the cluster. Does not connect: etcd may come up later, in any order.
    ///
    /// # Errors
    ///
    /// The options contradict each other, or a file that they name cannot be read.
    pub fn new(options: &EtcdOptions) -> Result<Self, ConfigError> {
        let access = Arc::new(Access::new(options)?);
        let (settings, _) = access.settings();
        let new_member = |endpoint| Member::new(endpoint, Arc::clone(&access));
        let members: Members = settings.endpoints.into_iter().map(new_member).collect();
        // Many processes that start together should not all lean on the same member.
        let preferred = rand::random_range(0..members.len());
        Ok(Self {
            member_order: Arc::new(SharedOrder::new(MemberOrder::new(members.len(), preferred))),
            members,
            attempt: settings.attempt,
            deadline: settings.deadline,
            until: None,
            access,
            dialects: Arc::new(Dialects::none()),
            writes: WriteHealth::default(),
        })
    }

    /// The same, for a caller who waits no longer than `until`: every call ends by then, and the last one, not the
    /// caller's own clock, says why there is no result.
    #[must_use]
    pub fn until(&self, until: Instant) -> Self {
        Self { until: Some(until), ..self.clone() }
    }

    /// The same, for work that no caller waits for.
    pub(crate) fn unhurried(&self) -> Self {
        Self { until: None, ..self.clone() }
    }

    /// Whether writes succeed.
    pub fn writes(&self) -> &WriteHealth {
        &self.writes
    }

    /// Until when a call that starts now may last.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.deadline;
        self.until.map_or(deadline, |until| until.min(deadline))
    }

    /// How long one attempt on one member may take.
    pub(crate) fn attempt(&self) -> Duration {
        self.attempt
    }

    /// The members in the order in which to ask them now.
    pub(crate) fn order(&self) -> Vec<usize> {
        self.member_order.order(Instant::now())
    }

    /// Remembers how `member` did. After a failure, certificates and passwords are looked at: they may have been
    /// renewed.
    pub(crate) fn record_outcome(&self, member: usize, failure: Option<&Failure>) {
        if failure.is_some_and(|failure| failure.class() != FailureClass::Answer) {
            self.access.reload_if_changed(Instant::now());
        }
        match failure {
            Some(failure) if failure.is_transient() => self.member_order.failed(member, Instant::now()),
            // A refusal is an answer.
            Some(_) | None => self.member_order.succeeded(member),
        }
    }

    /// Runs `call` on one member after another until one answers, or the deadline passes.
    pub(crate) async fn call<T, F>(&self, deadline: Instant, call: impl Fn(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.on_members(deadline, |member, _until| member.attempt(&call)).await
    }

    /// Runs `attempt` on one member after another until one answers, or the deadline passes. An attempt is told when it
    /// will be dropped at the latest.
    pub(crate) async fn on_members<'a, T, F>(
        &'a self,
        deadline: Instant,
        attempt: impl Fn(&'a Member, Instant) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut failures: Vec<Option<Failure>> = Vec::new();
        let mut pause = BETWEEN_ROUNDS;
        loop {
            let mut is_worth_another_round = false;
            for index in self.in_order() {
                let member = &self.members[index];
                let now = Instant::now();
                if now >= deadline {
                    return Err(self.unavailable(failures));
                }
                let until = deadline.min(now + self.attempt);
                let generation = self.access.generation();
                let failure = match timeout_at(until, attempt(member, until)).await {
                    Ok(Ok(value)) => {
                        self.record_outcome(index, None);
                        return Ok(value);
                    }
                    Ok(Err(failure)) => failure,
                    Err(_) if member.is_logging_in() => Failure::LoggingIn,
                    Err(_) => Failure::Silent,
                };
                self.record_outcome(index, Some(&failure));
                let is_renewed = self.access.generation() != generation;
                if !failure.is_transient() && !is_renewed {
                    return Err(CallError::Refused { endpoint: member.endpoint.clone(), source: failure });
                }
                // Where no member listens, waiting would only keep the caller from saying so.
                is_worth_another_round |= is_renewed || !matches!(failure, Failure::Unreachable(_));
                failures.resize(self.members.len(), None);
                failures[index] = Some(failure);
            }
            let next_round = Instant::now() + pause;
            if !is_worth_another_round || next_round >= deadline {
                return Err(self.unavailable(failures));
            }
            sleep_until(next_round).await;
            pause = (2 * pause).min(BETWEEN_ROUNDS_MAX);
        }
    }

    /// The members in the order in which to ask them; which ones after the first is settled when that has failed.
    fn in_order(&self) -> impl Iterator<Item = usize> {
        let first = self.member_order.first(Instant::now());
        let rest = once(()).flat_map(|()| self.order());
        once(first).chain(rest.filter(move |member| *member != first))
    }

    fn unavailable(&self, failures: Vec<Option<Failure>>) -> CallError {
        let each = self.members.iter().zip(failures);
        let failures = each.filter_map(|(member, failure)| Some((member.endpoint.clone(), failure?))).collect();
        CallError::Unavailable { failures }
    }
}
