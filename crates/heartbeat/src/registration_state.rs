//! The state of the registration, and the changes that are logged.
//!
//! A heartbeat every two seconds says nothing new. These do:
//!
//! | change | when |
//! |---|---|
//! | registered, or back | a heartbeat was taken, and none was before, or not in time |
//! | failing | the first one that no registry accepted; the registration holds until the TTL is over |
//! | refused | the first one that a change of configuration must mend, and whenever the complaint changes |
//! | recovered | a heartbeat was taken again in time |
//! | lost | the TTL is over, and no heartbeat since can have prolonged it |
//! | unconfirmed | the TTL is over, but a registry that did not answer, or answered 5xx, may have prolonged it |
//! | moved | another registry took it |
//! | displaced | another instance has taken the id over; the registration is over at once |
//! | contested | another instance claims the same id, but this one holds it |
//! | drained, undrained | an operator said so, and took it back |

use std::time::Duration;

use discovery::{Address, InstanceId, Status, heartbeat::HeartbeatReply};
use tokio::time::Instant;

use crate::{HeartbeatError, RegistryUrl, State, mistaken, schedule};

/// A heartbeat that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) registry: RegistryUrl,
    pub(crate) address: Address,
    pub(crate) instance: InstanceId,
    /// What we said of ourselves.
    pub(crate) status: Status,
    /// When it was sent: the lease cannot end before this plus the TTL.
    pub(crate) sent: Instant,
    pub(crate) reply: HeartbeatReply,
}

/// A moment worth a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Registered,
    Back { after: Duration },
    Failing { holds: Duration },
    Refused,
    Recovered,
    Lost,
    Unconfirmed,
    Displaced,
    Contested,
    Moved,
    Drained,
    Undrained,
}

/// The state and what it takes to see changes of it.
#[derive(Debug)]
pub(crate) struct RegistrationState {
    state: State,
    expires: Option<Instant>,
    /// Until when the registration may hold by a heartbeat of which it is not known whether it was taken.
    in_doubt_until: Option<Instant>,
    is_drained: bool,
    complaint: Option<String>,
}

// === impl RegistrationState ===

impl RegistrationState {
    pub(crate) fn new(now: Instant) -> Self {
        let state = State {
            registered: false,
            since: now,
            last_error: None,
            reply: None,
            registry: None,
            address: None,
            instance: None,
        };
        Self { state, expires: None, in_doubt_until: None, is_drained: false, complaint: None }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Whether a gateway may know this instance.
    pub(crate) fn was_registered(&self) -> bool {
        self.state.reply.is_some()
    }

    /// When the registration ends, if no other heartbeat is taken.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.expires.filter(|_| self.state.registered)
    }

    /// A heartbeat was taken.
    pub(crate) fn accepted(&mut self, now: Instant, accepted: Accepted) -> Vec<Change> {
        let Accepted { registry, address, instance, status, sent, reply } = accepted;
        let state = &mut self.state;
        // While it says so itself, an operator's drain cannot be seen.
        let is_told = reply.status == Status::Draining;
        let is_drained = if status == Status::Draining { self.is_drained } else { is_told };
        let mut changes = Vec::new();
        if !state.registered {
            changes.push(match state.reply {
                None => Change::Registered,
                Some(_) => Change::Back { after: now.duration_since(state.since) },
            });
            state.registered = true;
            state.since = now;
        } else if state.last_error.is_some() {
            changes.push(Change::Recovered);
        }
        if state.registry.as_ref().is_some_and(|before| *before != registry) {
            changes.push(Change::Moved);
        }
        if is_drained != self.is_drained {
            changes.push(if is_drained { Change::Drained } else { Change::Undrained });
        }
        let was_contested = state.reply.as_ref().is_some_and(|reply| reply.other_holder.is_some());
        if reply.other_holder.is_some() && !was_contested {
            changes.push(Change::Contested);
        }
        self.is_drained = is_drained;
        self.complaint = None;
        self.in_doubt_until = None;
        self.expires = Some(sent + schedule::granted(&reply));
        state.last_error = None;
        state.reply = Some(reply);
        state.registry = Some(registry);
        state.address = Some(address);
        state.instance = Some(instance);
        changes
    }

    /// No registry accepted a heartbeat; `error` is what the last one answered.
    pub(crate) fn failed(&mut self, now: Instant, error: HeartbeatError) -> Vec<Change> {
        let mut changes = Vec::new();
        if let (Some(holds), Some(expires)) = (error.holds(), self.expires()) {
            // Counted from when the heartbeat was sent at the earliest.
            self.expires = Some(expires.max(now + holds.saturating_sub(schedule::ATTEMPT_MAX)));
        }
        if let (true, Some(reply)) = (error.is_in_doubt(), &self.state.reply) {
            self.in_doubt_until = Some(now + schedule::granted(reply));
        }
        if matches!(error, HeartbeatError::AnotherIncarnation { .. }) {
            if !self.state.is_displaced() {
                changes.push(Change::Displaced);
                self.state.since = if self.state.registered { now } else { self.state.since };
                self.state.registered = false;
            }
        } else if error.is_transient() {
            if self.state.last_error.as_ref().is_none_or(|last| mistaken::is_news(last, &error)) {
                let holds = self.expires.map_or(Duration::ZERO, |expires| expires.saturating_duration_since(now));
                changes.push(Change::Failing { holds });
            }
        } else {
            let complaint = service_kit::chain(&error).to_string();
            if self.complaint.as_ref() != Some(&complaint) {
                changes.push(Change::Refused);
                self.complaint = Some(complaint);
            }
        }
        self.state.last_error = Some(error);
        changes.extend(self.passed(now));
        changes
    }

    /// Time passed.
    pub(crate) fn passed(&mut self, now: Instant) -> Option<Change> {
        if self.expires().is_some_and(|expires| expires <= now) {
            self.state.registered = false;
            self.state.since = now;
            let is_in_doubt = self.in_doubt_until.is_some_and(|until| now < until);
            return Some(if is_in_doubt { Change::Unconfirmed } else { Change::Lost });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use discovery::OtherHolder;

    use super::*;

    const A: &str = "http://a:8500";
    const B: &str = "http://b:8500";
    const SECOND: Duration = Duration::from_secs(1);

    fn accepted(registry: &str, said: Status, replied: Status, sent: Instant) -> Accepted {
        Accepted {
            registry: registry.parse().unwrap(),
            address: "10.0.0.5:7070".parse().unwrap(),
            instance: "10.0.0.5:7070".parse().unwrap(),
            status: said,
            sent,
            reply: HeartbeatReply {
                ttl_ms: 5000,
                next_heartbeat_ms: 2000,
                status: replied,
                revision: 7,
                ..HeartbeatReply::default()
            },
        }
    }

    fn passing(sent: Instant) -> Accepted {
        accepted(A, Status::Passing, Status::Passing, sent)
    }

    fn timed_out() -> HeartbeatError {
        HeartbeatError::TimedOut { registry: A.parse().unwrap(), after: SECOND }
    }

    fn refused(detail: &str) -> HeartbeatError {
        HeartbeatError::Refused { registry: A.parse().unwrap(), status: 422, fields: Vec::new(), detail: detail.into() }
    }

    #[test]
    fn a_steady_heartbeat_says_nothing_new() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        assert_eq!(registration.accepted(now, passing(now)), [Change::Registered]);
        for second in 1..100 {
            let now = now + second * SECOND;
            assert_eq!(registration.accepted(now, passing(now)), []);
        }
        assert!(registration.state().registered);
        assert_eq!(registration.state().since, now);
    }

    #[test]
    fn a_registration_is_lost_one_ttl_after_the_last_heartbeat_and_comes_back() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now + SECOND / 2, passing(now));
        assert_eq!(
            registration.failed(now + 2 * SECOND, HeartbeatError::BackedOff),
            [Change::Failing { holds: 3 * SECOND }]
        );
        assert_eq!(registration.failed(now + 4 * SECOND, HeartbeatError::BackedOff), []);
        assert!(registration.state().registered && registration.state().last_error.is_some());
        assert_eq!(registration.passed(now + 5 * SECOND), Some(Change::Lost), "counted from when it was sent");
        assert_eq!(registration.passed(now + 6 * SECOND), None);
        assert!(!registration.state().registered && registration.was_registered());
        let back = now + 9 * SECOND;
        assert_eq!(registration.accepted(back, passing(back)), [Change::Back { after: 4 * SECOND }]);
        assert!(registration.state().last_error.is_none());
    }

    #[test]
    fn a_registration_is_called_lost_only_when_no_heartbeat_can_have_prolonged_it() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        registration.failed(now + 2 * SECOND, timed_out());
        assert_eq!(registration.passed(now + 5 * SECOND), Some(Change::Unconfirmed), "the registry may have taken it");
        assert!(!registration.state().registered);
        registration.accepted(now + 6 * SECOND, passing(now + 6 * SECOND));
        registration.failed(now + 8 * SECOND, HeartbeatError::BackedOff);
        assert_eq!(registration.passed(now + 11 * SECOND), Some(Change::Lost));
    }

    #[test]
    fn a_registration_that_a_registry_says_to_hold_is_not_lost() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        for second in [2, 4, 6, 8] {
            let registry = A.parse().unwrap();
            let detail = "etcd did not update the instance: full".to_owned();
            let holds = Some(5 * SECOND);
            let full = HeartbeatError::Busy { registry, status: 503, detail, retry_after: SECOND, holds };
            assert!(!registration.failed(now + second * SECOND, full).contains(&Change::Lost), "{second}");
            assert_eq!(registration.passed(now + second * SECOND), None);
        }
        assert!(registration.state().registered && registration.state().last_error.is_some());
        assert_eq!(
            registration.passed(now + 12 * SECOND),
            Some(Change::Lost),
            "nothing was heard for longer than that"
        );
    }

    #[test]
    fn another_registry_in_time_is_a_move_not_a_loss() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        assert_eq!(registration.accepted(now, accepted(B, Status::Passing, Status::Passing, now)), [Change::Moved]);
        registration.failed(now, timed_out());
        assert_eq!(registration.accepted(now, accepted(B, Status::Passing, Status::Passing, now)), [Change::Recovered]);
    }

    #[test]
    fn only_an_operators_drain_is_news() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        let mut say = |said, replied| registration.accepted(now, accepted(A, said, replied, now));
        assert_eq!(say(Status::Passing, Status::Draining), [Change::Drained]);
        assert_eq!(say(Status::Critical, Status::Draining), []);
        assert_eq!(say(Status::Passing, Status::Passing), [Change::Undrained]);
        assert_eq!(say(Status::Draining, Status::Draining), [], "the service said so itself");
        assert!(registration.state().is_draining());
    }

    #[test]
    fn another_holder_of_the_id_ends_the_registration_at_once_and_is_said_once() {
        let now = Instant::now();
        let displaced =
            || HeartbeatError::AnotherIncarnation { registry: A.parse().unwrap(), detail: "at 10.0.0.6:7070".into() };
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        assert_eq!(registration.failed(now + SECOND, displaced()), [Change::Displaced]);
        assert!(!registration.state().registered && registration.state().is_displaced());
        for second in 2..100 {
            assert_eq!(registration.failed(now + second * SECOND, displaced()), []);
        }
        let back = now + 100 * SECOND;
        assert_eq!(registration.accepted(back, passing(back)), [Change::Back { after: 99 * SECOND }]);
        assert!(!registration.state().is_displaced());
    }

    #[test]
    fn the_holder_of_a_contested_id_says_so_once() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        registration.accepted(now, passing(now));
        let mut contested = passing(now);
        contested.reply.other_holder =
            Some(OtherHolder { address: "10.0.0.6:7070".parse().unwrap(), incarnation: None, since_ms: 1 });
        assert_eq!(registration.accepted(now, contested.clone()), [Change::Contested]);
        assert_eq!(registration.accepted(now, contested), []);
        assert_eq!(registration.accepted(now, passing(now)), []);
    }

    #[test]
    fn a_refusal_is_said_once_and_again_when_its_reason_changes() {
        let now = Instant::now();
        let mut registration = RegistrationState::new(now);
        assert_eq!(registration.failed(now, refused("zone")), [Change::Refused]);
        assert_eq!(registration.failed(now, refused("zone")), []);
        assert_eq!(registration.failed(now, refused("port")), [Change::Refused]);
        assert_eq!(registration.failed(now, timed_out()), [], "failing already");
        assert!(!registration.was_registered());
    }
}
