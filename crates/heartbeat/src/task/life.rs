//! Which life of the registration our heartbeats are of; see [`discovery::Incarnation`].
//!
//! The id of a life is drawn here, before its first heartbeat. So that heartbeat may be repeated, at another registry
//! or after a lost answer, without beginning another life, and an instance that leaves before any answer came can still
//! say which it means. A life begins by taking the instance id over from its present holder; what follows is only ever
//! about this life:
//!
//! | the registry says | then |
//! |---|---|
//! | committed | the next heartbeat is of the incarnation that the reply tells |
//! | the life has ended (etcd was wiped, or we were silent for a TTL) | a new one begins at once, unless we are leaving |
//! | another life holds the id | it is not fought for: we ask again with every heartbeat, until that one has ended |
//! | the field is unknown: a registry of an earlier version | heartbeats to it go without; it is asked again after [`OLD_FOR`] |

use std::{collections::HashMap, time::Duration};

use discovery::{Incarnation, InstanceId, LeaseId, Life, heartbeat::FullHeartbeat, heartbeat::HeartbeatReply};
use tokio::time::Instant;

use super::Task;
use crate::HeartbeatError;

/// The field of a heartbeat that a registry of an earlier version refuses as unknown.
const FIELD: &str = "incarnation";
/// How long a registry counts as one of an earlier version.
const OLD_FOR: Duration = Duration::from_secs(60);

/// The life that we are in.
#[derive(Debug)]
pub(crate) struct Lives {
    incarnation: Incarnation,
    /// Whether a registry has confirmed it.
    has_begun: bool,
    /// No life begins any more.
    is_leaving: bool,
    /// The registries that do not know the field, and since when.
    old: HashMap<usize, Instant>,
}

// === impl Lives ===

impl Lives {
    pub(crate) fn new() -> Self {
        Self { incarnation: draw(), has_begun: false, is_leaving: false, old: HashMap::new() }
    }

    /// The life that a DELETE is about.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Another id is announced: that is another life.
    pub(crate) fn renew(&mut self) {
        (self.incarnation, self.has_begun) = (draw(), false);
    }

    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// What to say to the registry at `index`.
    fn said(&self, index: usize, now: Instant) -> Option<Life> {
        let is_old = self.old.get(&index).is_some_and(|since| now.saturating_duration_since(*since) < OLD_FOR);
        let life = if self.has_begun || self.is_leaving { Life::Of } else { Life::NewAs };
        (!is_old).then(|| life(self.incarnation))
    }

    /// A registry has taken a heartbeat.
    fn taken(&mut self, reply: &HeartbeatReply) {
        if let Some(incarnation) = reply.incarnation {
            (self.incarnation, self.has_begun) = (incarnation, true);
        }
    }

    /// Whether a heartbeat that the registry at `index` refused with `error` should be sent again at once, said
    /// otherwise.
    fn refused(&mut self, index: usize, error: &HeartbeatError, now: Instant) -> bool {
        match error {
            HeartbeatError::IncarnationEnded { .. } if !self.is_leaving => self.renew(),
            HeartbeatError::Refused { fields, .. } if fields.iter().any(|field| field == FIELD) => {
                self.old.insert(index, now);
            }
            _ => return false,
        }
        true
    }
}

// === impl Task ===

impl Task {
    /// Sends a heartbeat to the registry at `index`, which gets until `deadline` for its answer; again, if it is to be
    /// said otherwise. A registry of before reasons refuses what it does not know: it gets what it does.
    pub(crate) async fn ask(
        &mut self,
        index: usize,
        instance: &InstanceId,
        heartbeat: &mut FullHeartbeat,
        deadline: Instant,
    ) -> Result<HeartbeatReply, HeartbeatError> {
        let registry = self.urls[index].clone();
        let mut is_second = false;
        let mut older = None;
        loop {
            let now = Instant::now();
            let life = self.lives.said(index, now);
            let said = older.as_mut().unwrap_or(&mut *heartbeat);
            said.incarnation = life;
            let limit = deadline.saturating_duration_since(now);
            let answer = self.client.put(&registry, (&self.service, instance), said, limit).await;
            let error = match &answer {
                Ok(reply) => {
                    self.lives.taken(reply);
                    return answer;
                }
                Err(_) if Instant::now() >= deadline => return answer,
                Err(error) => error,
            };
            if life.is_some() && !is_second && self.lives.refused(index, error, now) {
                is_second = true;
            } else if older.is_none() && matches!(error, HeartbeatError::Refused { status: 400 | 422, .. }) {
                let Some(without) = heartbeat.without_a_reason() else { return answer };
                older = Some(without);
            } else {
                return answer;
            }
        }
    }
}

/// 63 random bits, as etcd's leases have them: no other has the same.
fn draw() -> Incarnation {
    Incarnation(LeaseId(rand::random_range(1..=i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> HeartbeatError {
        HeartbeatError::IncarnationEnded { registry: "http://a:8500".parse().unwrap(), detail: String::new() }
    }

    #[test]
    fn a_life_begins_once_and_is_named_from_then_on() {
        let mut lives = Lives::new();
        let now = Instant::now();
        let first = lives.incarnation();
        assert_eq!(lives.said(0, now), Some(Life::NewAs(first)));
        lives.taken(&HeartbeatReply::default());
        assert_eq!(lives.said(0, now), Some(Life::NewAs(first)), "a registry of an earlier version tells nothing");
        let told = Incarnation(LeaseId(255));
        lives.taken(&HeartbeatReply { incarnation: Some(told), ..HeartbeatReply::default() });
        assert_eq!(lives.said(0, now), Some(Life::Of(told)));
        assert!(lives.refused(0, &ended(), now));
        assert!(matches!(lives.said(0, now), Some(Life::NewAs(next)) if next != told && next != first));
    }

    #[test]
    fn who_leaves_begins_no_life() {
        let mut lives = Lives::new();
        let now = Instant::now();
        lives.leave();
        assert_eq!(lives.said(0, now), Some(Life::Of(lives.incarnation())));
        assert!(!lives.refused(0, &ended(), now));
    }

    #[test]
    fn a_registry_of_an_earlier_version_is_asked_without_for_a_while() {
        let mut lives = Lives::new();
        let now = Instant::now();
        let refused = |field: &str, reason: &str| HeartbeatError::Refused {
            registry: "http://a:8500".parse().unwrap(),
            status: 422,
            fields: vec![field.to_owned()],
            detail: format!("{field}: {reason}"),
        };
        assert!(!lives.refused(1, &refused("zone", "is no incarnation of a zone"), now), "the field decides");
        assert!(lives.refused(1, &refused("incarnation", "unknown field `incarnation`"), now));
        assert_eq!(lives.said(1, now), None);
        assert!(lives.said(0, now).is_some(), "the others know it");
        assert!(lives.said(1, now + OLD_FOR).is_some(), "it may have been replaced");
    }
}
