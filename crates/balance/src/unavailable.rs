//! Why nobody can answer for a service, in a sentence: what is down, since when, and why.

use std::fmt::Write as _;

use discovery::ServiceName;

use crate::{
    clock::{Millis, Spoken},
    refusal::Refusal,
    routing_table::{RoutingTable, Service, Source, Why, Withheld},
};

/// At most so many instances are named in a sentence.
const NAMED_MAX: usize = 3;

/// No instance of `service` can be picked.
pub(crate) fn of(service: &Service, now: Millis) -> Refusal {
    let name = &service.name;
    if !service.withheld.is_empty() {
        return Refusal::NoInstance(format!("{name} is down: {}", withheld(&service.withheld)));
    }
    match service.tombstones.last() {
        Some(last) => {
            let (address, cause, ago) = (&last.address, last.cause, Spoken(now.since(last.at)));
            Refusal::NoInstance(format!("{name} is down: last instance {address} {cause} {ago} ago"))
        }
        // It has candidates, all of which were tried; whoever tried them knows more.
        None => Refusal::NoInstance(format!("{name} is down: no instance is left to be tried")),
    }
}

/// Nothing is known about `name`; or it is no name.
pub(crate) fn unknown(name: &str, table: &RoutingTable) -> Refusal {
    let service: ServiceName = match name.parse() {
        Ok(service) => service,
        Err(error) => {
            let detail = format!("the path must start with the name of a service, as in /mail: {error}");
            return Refusal::NoServiceName(detail);
        }
    };
    match table.source {
        Source::Nothing => Refusal::DiscoveryUnknown(format!(
            "whether there is an instance of {service} is unknown: etcd has not been reached since the gateway started"
        )),
        Source::Disk(_) => Refusal::DiscoveryUnknown(format!(
            "no instance of {service} was registered when the gateway last saw etcd, which it has not reached since it \
             started"
        )),
        Source::Etcd => Refusal::NoInstance(format!("no instance of \"{service}\" was ever registered")),
    }
}

/// `its only instance 10.0.0.5:7070 is draining`; `its 4 instances take no requests: a is draining, b …, and 1 more`.
fn withheld(withheld: &[Withheld]) -> String {
    if let [one] = withheld {
        return format!("its only instance {} {}", one.address, reason(one.why));
    }
    let mut sentence = format!("its {} instances take no requests: ", withheld.len());
    for (n, one) in withheld.iter().take(NAMED_MAX).enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(sentence, "{comma}{} {}", one.address, reason(one.why));
    }
    if let Some(more @ 1..) = withheld.len().checked_sub(NAMED_MAX) {
        let _ = write!(sentence, ", and {more} more");
    }
    sentence
}

/// Completes the sentence "10.0.0.5:7070 …".
pub(crate) fn reason(why: Why) -> String {
    match why {
        Why::Status(status) => format!("is {status}"),
        Why::Operator(status) => format!("is {status} by an operator's word"),
        Why::Address(forbidden) => forbidden.to_string(),
        Why::Scheme(scheme) => format!("speaks {scheme}, which this gateway does not speak yet"),
    }
}

#[cfg(test)]
mod tests {
    use discovery::Status;

    use super::*;
    use crate::tombstones::{Cause, Tombstone};

    fn sentence(refusal: &Refusal) -> String {
        refusal.problem().detail
    }

    fn mail() -> Service {
        Service::empty("mail".parse().unwrap(), 1)
    }

    fn dead(cause: Cause) -> Service {
        let (key, address) = ("service/mail/a".parse().unwrap(), "10.0.0.5:7070".parse().unwrap());
        Service { tombstones: vec![Tombstone { key, address, at: Millis(1000), cause }], ..mail() }
    }

    #[test]
    fn the_dead_are_named_with_time_and_cause() {
        let expired = sentence(&of(&dead(Cause::Expired), Millis(13_000)));
        assert_eq!(expired, "mail is down: last instance 10.0.0.5:7070 lost its heartbeat 12 s ago");
        let left = sentence(&of(&dead(Cause::Deregistered), Millis(1000)));
        assert_eq!(left, "mail is down: last instance 10.0.0.5:7070 deregistered 0 s ago");
    }

    #[test]
    fn instances_that_want_no_requests_are_named_with_the_reason() {
        let withheld = |port: u16, why| {
            let (key, address) = (format!("service/mail/{port}"), format!("10.0.0.5:{port}"));
            Withheld { key: key.parse().unwrap(), address: address.parse().unwrap(), why }
        };
        let one = Service { withheld: vec![withheld(1, Why::Operator(Status::Draining))], ..mail() };
        let expected = "mail is down: its only instance 10.0.0.5:1 is draining by an operator's word";
        assert_eq!(sentence(&of(&one, Millis(0))), expected);
        let many = (1..=5).map(|port| withheld(port, Why::Status(Status::Critical))).collect();
        let expected = "mail is down: its 5 instances take no requests: 10.0.0.5:1 is critical, 10.0.0.5:2 is critical, \
                        10.0.0.5:3 is critical, and 2 more";
        assert_eq!(sentence(&of(&Service { withheld: many, ..mail() }, Millis(0))), expected);
    }

    #[test]
    fn unknown_is_not_the_same_as_down() {
        let nowhere = RoutingTable::default();
        assert!(matches!(unknown("mial", &nowhere), Refusal::DiscoveryUnknown(_)));
        let etcd = RoutingTable::new(Source::Etcd, discovery::Revision(1), std::collections::HashMap::new());
        assert_eq!(sentence(&unknown("mial", &etcd)), "no instance of \"mial\" was ever registered");
    }

    #[test]
    fn what_cannot_be_a_service_is_the_callers_mistake() {
        for name in ["", "Mail", "ma%69l", "a.b", &"x".repeat(64)] {
            assert!(matches!(unknown(name, &RoutingTable::default()), Refusal::NoServiceName(_)), "{name}");
        }
    }
}
