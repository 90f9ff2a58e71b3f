//! One name, its last answer, and what a look-up makes of it.

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{DENIED_AFTER, LookupError, STALE_MAX, TTL_MAX, TTL_MIN, server::Found};
use crate::duration;

/// The pause after a first failure, doubled up to [`AFTER_FAILURE_MAX`].
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The longest pause while look-ups fail.
const AFTER_FAILURE_MAX: Duration = Duration::from_secs(5);

/// A name that is followed.
#[derive(Debug)]
pub struct Name {
    host: Box<str>,
    answer: ArcSwap<Answer>,
    changed: Notify,
    /// Ends the look-ups when this is dropped.
    _alive: DropGuard,
}

/// What is known about a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The addresses of the last good answer, in its order; empty if there was none, or none that is still good.
    pub addresses: Arc<[IpAddr]>,
    /// Why the last look-up failed; `None` if it did not, or was not made yet.
    pub trouble: Option<Trouble>,
    good_at: Option<Instant>,
}

/// Look-ups fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub since: Instant,
    /// Since when name servers say that there is nothing to be found; `None` if the last look-up failed.
    denied_since: Option<Instant>,
    /// Why the last one did.
    pub why: LookupError,
    /// How many failed in a row.
    failures: u32,
}

/// A name without an address. `Display` completes the sentence "mail-1:7070 …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    why: LookupError,
    lasts: Duration,
}

/// What the task that looks a name up has of it.
pub(super) struct Followed {
    host: Box<str>,
    end: CancellationToken,
}

// === impl Name ===

impl Name {
    pub(super) fn new(host: &str) -> (Arc<Self>, Followed) {
        let end = CancellationToken::new();
        let name = Self {
            host: host.into(),
            answer: ArcSwap::default(),
            changed: Notify::new(),
            _alive: end.clone().drop_guard(),
        };
        (Arc::new(name), Followed { host: host.into(), end })
    }

    /// The name itself.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What is known now.
    #[must_use]
    pub fn answer(&self) -> Arc<Answer> {
        self.answer.load_full()
    }

    /// Whether there is an address.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        !self.peek().addresses.is_empty()
    }

    /// The addresses. Waits for the first look-up only, which all callers share; it may take [`super::LOOKUP_MAX`] and
    /// more, when many are under way.
    ///
    /// # Errors
    ///
    /// There is no address, for now.
    pub async fn addresses(&self) -> Result<Arc<[IpAddr]>, Unresolved> {
        loop {
            let changed = self.changed.notified();
            let answer = self.peek();
            if !answer.addresses.is_empty() {
                return Ok(Arc::clone(&answer.addresses));
            }
            if let Some(trouble) = &answer.trouble {
                return Err(trouble.unresolved(Instant::now()));
            }
            drop(answer);
            changed.await;
        }
    }

    /// Stores the result of a look-up; returns how long to wait for the next.
    pub(super) fn learn(&self, found: Result<Found, LookupError>) -> Duration {
        let before = self.answer();
        let (answer, pause) = before.next(found, Instant::now());
        match (&before.trouble, &answer.trouble) {
            (None, Some(trouble)) => {
                let last_answer_in_use = !answer.addresses.is_empty();
                tracing::warn!(name = %self.host, error = %trouble.why, last_answer_in_use, "cannot resolve a name; retrying");
            }
            (Some(trouble), None) => {
                let lasted = duration::format(trouble.since.elapsed());
                tracing::info!(name = %self.host, lasted, "a name can be resolved again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.answer.store(Arc::new(answer));
        self.changed.notify_waiters();
        pause
    }

    fn peek(&self) -> Guard<Arc<Answer>> {
        self.answer.load()
    }
}

// === impl Answer ===

impl Answer {
    /// What is known after a look-up, and when to make the next one.
    fn next(&self, found: Result<Found, LookupError>, now: Instant) -> (Self, Duration) {
        let why = match found {
            Ok(Found { addresses, ttl }) => {
                let answer = Self { addresses: addresses.into(), trouble: None, good_at: Some(now) };
                return (answer, ttl.clamp(TTL_MIN, TTL_MAX));
            }
            Err(why) => why,
        };
        let (since, before) = self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.failures));
        // Not since the trouble began: a name server that comes back after a minute may not know all names yet, either.
        let denied_since = self.trouble.as_ref().and_then(|trouble| trouble.denied_since).unwrap_or(now);
        let denied_since = why.is_denial().then_some(denied_since);
        let is_denied = denied_since.is_some_and(|since| now >= since + DENIED_AFTER);
        let is_stale = self.good_at.is_none_or(|good_at| now >= good_at + STALE_MAX);
        let addresses = if is_denied || is_stale { Arc::default() } else { Arc::clone(&self.addresses) };
        let pause = AFTER_FAILURE_MAX.min(AFTER_FAILURE * (1 << before.min(8)));
        let trouble = Trouble { since, denied_since, why, failures: before.saturating_add(1) };
        (Self { addresses, trouble: Some(trouble), good_at: self.good_at }, pause)
    }
}

// === impl Trouble ===

impl Trouble {
    /// Completes the sentence "mail-1:7070 …" at `now`.
    #[must_use]
    pub fn unresolved(&self, now: Instant) -> Unresolved {
        Unresolved { why: self.why.clone(), lasts: now.saturating_duration_since(self.since) }
    }
}

// === impl Unresolved ===

impl Unresolved {
    /// Why the last look-up failed.
    #[must_use]
    pub fn why(&self) -> &LookupError {
        &self.why
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "has a name that cannot be resolved for now: {}, for {} s", self.why, self.lasts.as_secs())
    }
}

impl std::error::Error for Unresolved {}

// === impl Followed ===

impl Followed {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Polls `looking_up` for as long as the name has a holder.
    pub(super) async fn until_dropped(&self, looking_up: impl Future<Output = ()>) {
        // `None` is the end.
        let _ended = self.end.run_until_cancelled(looking_up).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, ttl_s: u64) -> Result<Found, LookupError> {
        Ok(Found { addresses: vec![ip.parse().unwrap()], ttl: Duration::from_secs(ttl_s) })
    }

    fn ips(answer: &Answer) -> Vec<String> {
        answer.addresses.iter().map(ToString::to_string).collect()
    }

    const TIMEOUT: LookupError = LookupError::Timeout(Duration::from_secs(3));

    #[test]
    fn the_time_to_live_is_honoured_within_its_bounds() {
        let now = Instant::now();
        let pause = |ttl_s| Answer::default().next(found("10.0.0.1", ttl_s), now).1.as_secs();
        assert_eq!([pause(0), pause(1), pause(60), pause(300), pause(86_400)], [1, 1, 60, 300, 300]);
    }

    #[test]
    fn the_last_good_answer_stays_for_a_day_while_look_ups_fail() {
        let now = Instant::now();
        let (mut answer, _) = Answer::default().next(found("10.0.0.1", 60), now);
        let mut pauses = Vec::new();
        for n in 1..=5 {
            let (next, pause) = answer.next(Err(TIMEOUT), now + Duration::from_secs(n));
            (answer, _) = (next, pauses.push(pause.as_secs()));
        }
        assert_eq!((ips(&answer), pauses), (vec!["10.0.0.1".to_owned()], vec![1, 2, 4, 5, 5]));
        let later = now + Duration::from_secs(13);
        let words = answer.trouble.as_ref().unwrap().unresolved(later).to_string();
        assert_eq!(words, "has a name that cannot be resolved for now: no name server answered within 3s, for 12 s");
        let (answer, _) = answer.next(Err(TIMEOUT), now + STALE_MAX);
        assert!(answer.addresses.is_empty());
        let (answer, _) = answer.next(found("10.0.0.2", 60), now + STALE_MAX);
        assert_eq!((ips(&answer), answer.trouble), (vec!["10.0.0.2".to_owned()], None));
    }

    #[test]
    fn a_denial_is_believed_when_it_has_lasted_for_five_seconds() {
        let now = Instant::now();
        let (answer, _) = Answer::default().next(found("10.0.0.1", 60), now);
        let denied = |answer: &Answer, at| answer.next(Err(LookupError::NoSuchName), now + Duration::from_secs(at)).0;
        let answer = denied(&answer, 60);
        assert_eq!(ips(&answer), ["10.0.0.1"], "a name server may have just started");
        let answer = denied(&answer, 64);
        assert_eq!(ips(&answer), ["10.0.0.1"]);
        assert!(denied(&answer, 65).addresses.is_empty());
    }

    #[test]
    fn a_denial_after_an_outage_has_to_last_as_long() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let (answer, _) = Answer::default().next(found("10.0.0.1", 60), now);
        let (answer, _) = answer.next(Err(TIMEOUT), at(60));
        let (answer, _) = answer.next(Err(LookupError::NoSuchName), at(120));
        assert_eq!(ips(&answer), ["10.0.0.1"], "a name server has just started again");
        let (flapping, _) = answer.next(Err(TIMEOUT), at(124));
        let (flapping, _) = flapping.next(Err(LookupError::NoSuchName), at(126));
        assert_eq!(ips(&flapping), ["10.0.0.1"], "and once more");
        let (answer, _) = answer.next(Err(LookupError::NoSuchName), at(125));
        assert!(answer.addresses.is_empty());
    }
}
