//! Instances and tombstones as messages, and messages in parts.

use std::time::{SystemTime, UNIX_EPOCH};

use discovery::{Incarnation, Registered, ServiceName};
use muster_proto::v1;
use prost::Message;
use tokio::task::yield_now;

use crate::mirror::{Cause, Entry, Tombstone};

/// How much goes into one message, in bytes, and at most one element more: what a client that does not read costs.
const PART_BYTES: usize = 8 * 1024;

/// Elements, so many at a time that a message of them is not much larger than [`PART_BYTES`].
pub(super) struct Parts<I>(I);

// === impl Parts ===

impl<I: Iterator> Parts<I> {
    pub(super) fn of(elements: I) -> Self {
        Self(elements)
    }
}

impl<I: Iterator<Item = T>, T: Message> Iterator for Parts<I> {
    type Item = Vec<T>;

    fn next(&mut self) -> Option<Vec<T>> {
        let mut part = Vec::new();
        let mut bytes = 0;
        while bytes < PART_BYTES
            && let Some(element) = self.0.next()
        {
            bytes += element.encoded_len();
            part.push(element);
        }
        (!part.is_empty()).then_some(part)
    }
}

/// One part at a time: tonic joins what is ready to a buffer of 32 KiB and more, of which a client that does not read keeps one.
pub(super) async fn by_itself<T>(part: T) -> T {
    yield_now().await;
    part
}

/// An instance as it is registered.
pub(super) fn registered(entry: &Entry) -> v1::Registered {
    let Registered { key, instance, lease, created, modified } = &entry.registered;
    v1::Registered {
        service: key.service.to_string(),
        id: key.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        instance: Some(instance.into()),
        status: v1::Status::from(entry.status()).into(),
        overridden: entry.overridden.is_some(),
        incarnation: lease.map(|lease| Incarnation(lease).to_string()).unwrap_or_default(),
        created_revision: created.0,
        modified_revision: modified.0,
        seen_since_ms: unix_ms(entry.since.at),
        seen_from_start: entry.since.from_start,
        other_holder: entry.other_holder.as_ref().map(v1::OtherHolder::from),
    }
}

/// One that is gone.
pub(super) fn removed(tombstone: &Tombstone) -> v1::Removed {
    let cause = match tombstone.cause {
        Cause::Drained => "drained",
        Cause::Deregistered => "deregistered",
        Cause::Expired => "expired",
    };
    v1::Removed {
        id: tombstone.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        address: tombstone.address.to_string(),
        cause: cause.to_owned(),
        at_ms: unix_ms(tombstone.at),
    }
}

/// The service that a message names.
pub(super) fn service(name: &str) -> Result<ServiceName, service_kit::Problem> {
    name.parse().map_err(|wrong: discovery::FieldError| crate::error::field(wrong.under("service")))
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_small_and_nothing_is_lost() {
        let element = |n: usize| v1::Removed { id: format!("{n:0>1000}"), ..v1::Removed::default() };
        let all: Vec<_> = (0..100).map(element).collect();
        let parts: Vec<_> = Parts::of(all.clone().into_iter()).collect();
        assert_eq!(parts.concat(), all);
        assert!((11..=13).contains(&parts.len()), "{}", parts.len());
        assert_eq!(Parts::of(std::iter::empty::<v1::Removed>()).next(), None);
    }
}
