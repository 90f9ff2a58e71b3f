//! Which instances make a service's trouble, and why: what an alert says beyond the number.

use std::time::SystemTime;

use discovery::{Address, InstanceId, Reason, Status};
use serde_json::{Value, json};

use crate::mirror::{Cause, ServiceView};

/// Instances that an alert knows of for one service.
const MAX: usize = 20;

/// One instance that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    id: Option<InstanceId>,
    address: Address,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// It is registered.
    Is(Status, Option<Reason>),
    /// It was, until so many seconds ago.
    Gone(Cause, u64),
}

/// The instances of `service` that are not passing, and those that went of late, the last first.
#[must_use]
pub fn of(service: &ServiceView, now: SystemTime) -> Vec<Case> {
    let troubled = service.instances.iter().filter(|entry| entry.status() != Status::Passing).map(|entry| Case {
        id: entry.id().cloned(),
        address: entry.registered.instance.address.clone(),
        what: What::Is(entry.status(), entry.reason().cloned()),
    });
    let gone = service.tombstones.iter().rev().map(|grave| Case {
        id: grave.id.clone(),
        address: grave.address.clone(),
        what: What::Gone(grave.cause, now.duration_since(grave.at).unwrap_or_default().as_secs()),
    });
    troubled.chain(gone).take(MAX).collect()
}

// === impl Case ===

impl Case {
    /// `mail-1 at 10.0.0.5:7070 is critical: the database is gone`
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { id, address, what } = self;
        let place = address.to_string();
        // The default id is the address: once is enough.
        let who = match id.as_ref().filter(|id| address.instance_id().ok().as_ref() != Some(*id)) {
            Some(id) => format!("{id} at {place}"),
            None => place,
        };
        match what {
            What::Is(status, None) => format!("{who} is {status}"),
            What::Is(status, Some(reason)) => format!("{who} is {status}: {reason}"),
            What::Gone(Cause::Expired, ago) => format!("{who} lost its heartbeat {ago} s ago"),
            What::Gone(Cause::Deregistered, ago) => format!("{who} left {ago} s ago"),
            What::Gone(Cause::Drained, ago) => format!("{who} left {ago} s ago, drained by an operator"),
        }
    }

    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { id, address, what } = self;
        let (cause, reason, ago) = match what {
            What::Is(status, reason) => (status.as_str(), reason.as_ref(), None),
            What::Gone(cause, ago) => (cause.as_str(), None, Some(*ago)),
        };
        let mut json = json!({ "id": id, "address": address, "host": address.host.to_string(), "cause": cause });
        if let Some(reason) = reason {
            json["reason"] = json!(reason);
        }
        if let Some(ago) = ago {
            json["seconds_ago"] = json!(ago);
        }
        json
    }
}

#[cfg(test)]
pub(super) fn sample(id: &str, address: &str, status: Status, reason: &str) -> Case {
    let id = id.parse().ok();
    let address = address.parse().unwrap();
    Case { id, address, what: What::Is(status, Reason::shorten(reason)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_says_who_where_and_why_each_once() {
        let critical = sample("mail-1", "10.0.0.5:7070", Status::Critical, "the database is gone");
        assert_eq!(critical.sentence(), "mail-1 at 10.0.0.5:7070 is critical: the database is gone");
        let by_default = sample("10.0.0.5:7070", "10.0.0.5:7070", Status::Draining, "");
        assert_eq!(by_default.sentence(), "10.0.0.5:7070 is draining");
        let gone = Case { what: What::Gone(Cause::Expired, 12), ..by_default };
        assert_eq!(gone.sentence(), "10.0.0.5:7070 lost its heartbeat 12 s ago");
        let expected = json!({
            "id": "10.0.0.5:7070", "address": "10.0.0.5:7070", "host": "10.0.0.5", "cause": "expired", "seconds_ago": 12,
        });
        assert_eq!(gone.to_json(), expected);
    }
}
