//! Why no instance can answer for a service, in a sentence: what is down, since when, and why. The addresses of its instances are
//! in it only for clients that may know them ([`Details`]).

use std::fmt::Write as _;

use discovery::{Address, ServiceName, policy::Details};

use crate::{
    clock::{HumanDuration, Millis},
    message::gateway_error::GatewayError,
    table::routing_table::{ExcludedInstance, ExclusionReason, RoutingTable, Service, Source},
};

/// At most so many instances are named in a sentence.
const NAMED_MAX: usize = 3;

/// No instance of `service` can be picked; what its client gets.
pub(crate) fn of(service: &Service, now: Millis) -> GatewayError {
    why(service, now, service.policy().errors.details)
}

/// The same for an operator.
pub(crate) fn in_full(service: &Service, now: Millis) -> GatewayError {
    why(service, now, Details::Full)
}

/// `noun`, with the address of the instance where clients of the service may know it.
pub(crate) fn instance(service: &Service, noun: &str, address: &Address) -> String {
    named(noun, address, service.policy().errors.details)
}

fn named(noun: &str, address: &Address, details: Details) -> String {
    match details {
        Details::Reason => noun.to_owned(),
        Details::Full => format!("{noun} {address}"),
    }
}

fn why(service: &Service, now: Millis, details: Details) -> GatewayError {
    let name = &service.name;
    if !service.withheld.is_empty() {
        return GatewayError::NoInstance(format!("{name} is down: {}", withheld(&service.withheld, details)));
    }
    match service.tombstones.last() {
        Some(last) => {
            let last_instance = named("last instance", &last.address, details);
            let (cause, ago) = (last.cause, HumanDuration(now.since(last.at)));
            GatewayError::NoInstance(format!("{name} is down: {last_instance} {cause} {ago} ago"))
        }
        // It has candidates, all of which were tried; the caller knows more.
        None => GatewayError::NoInstance(format!("{name} is down: no instance is left to be tried")),
    }
}

/// Nothing is known about `name`; or it is no name.
pub(crate) fn unknown(name: &str, table: &RoutingTable) -> GatewayError {
    let service: ServiceName = match name.parse() {
        Ok(service) => service,
        Err(error) => {
            let detail = format!("the path must start with the name of a service, as in /mail: {error}");
            return GatewayError::NoServiceName(detail);
        }
    };
    match table.source {
        Source::Nothing => GatewayError::DiscoveryUnknown(format!(
            "whether there is an instance of {service} is unknown: etcd has not been reached since the gateway started"
        )),
        Source::Disk(_) => GatewayError::DiscoveryUnknown(format!(
            "no instance of {service} was registered when the gateway last saw etcd, which it has not reached since it \
             started"
        )),
        Source::Etcd => GatewayError::NoInstance(format!("no instance of \"{service}\" was ever registered")),
    }
}

/// `its only instance 10.0.0.5:7070 is draining`; `its 4 instances take no requests: a is draining, b …, and 1 more`, with
/// "one" in the place of addresses that stay secret.
fn withheld(withheld: &[ExcludedInstance], details: Details) -> String {
    if let [one] = withheld {
        return format!("{} {}", named("its only instance", &one.address, details), reason(one, details));
    }
    let mut sentence = format!("its {} instances take no requests: ", withheld.len());
    for (n, one) in withheld.iter().take(NAMED_MAX).enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let whose = match details {
            Details::Reason => "one".to_owned(),
            Details::Full => one.address.to_string(),
        };
        let _ = write!(sentence, "{comma}{whose} {}", reason(one, details));
    }
    if let Some(more @ 1..) = withheld.len().checked_sub(NAMED_MAX) {
        let _ = write!(sentence, ", and {more} more");
    }
    sentence
}

/// Completes the sentence "10.0.0.5:7070 …". An instance's own reason may hold addresses, so it is in full details
/// only.
pub(crate) fn reason(withheld: &ExcludedInstance, details: Details) -> String {
    match withheld.why {
        ExclusionReason::Status(status) => match withheld.reason.as_ref().filter(|_| details == Details::Full) {
            None => format!("is {status}"),
            Some(reason) => format!("is {status} ({reason})"),
        },
        ExclusionReason::Operator(status) => format!("is {status} by an operator's word"),
        ExclusionReason::Address(forbidden) => forbidden.to_string(),
        ExclusionReason::Scheme(scheme) => format!(
            "is registered as {scheme}, which this gateway does not speak to instances; if it speaks HTTP/1.1, let it \
             register as http"
        ),
    }
}

#[cfg(test)]
mod tests {
    use discovery::Status;

    use super::*;
    use crate::table::tombstones::{Cause, Tombstone};

    fn sentence(refusal: &GatewayError) -> String {
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
        let expired = sentence(&in_full(&dead(Cause::Expired), Millis(13_000)));
        assert_eq!(expired, "mail is down: last instance 10.0.0.5:7070 lost its heartbeat 12 s ago");
        let left = sentence(&in_full(&dead(Cause::Deregistered), Millis(1000)));
        assert_eq!(left, "mail is down: last instance 10.0.0.5:7070 deregistered 0 s ago");
        let told = sentence(&of(&dead(Cause::Expired), Millis(13_000)));
        assert_eq!(told, "mail is down: last instance lost its heartbeat 12 s ago", "without the address");
    }

    #[test]
    fn instances_that_want_no_requests_are_named_with_the_reason() {
        let withheld = |port: u16, why| {
            let (key, address) = (format!("service/mail/{port}"), format!("10.0.0.5:{port}"));
            ExcludedInstance { key: key.parse().unwrap(), address: address.parse().unwrap(), why, reason: None }
        };
        let one = Service { withheld: [withheld(1, ExclusionReason::Operator(Status::Draining))].into(), ..mail() };
        let expected = "mail is down: its only instance 10.0.0.5:1 is draining by an operator's word";
        assert_eq!(sentence(&in_full(&one, Millis(0))), expected);
        let expected = "mail is down: its only instance is draining by an operator's word";
        assert_eq!(sentence(&of(&one, Millis(0))), expected);
        let many = (1..=5).map(|port| withheld(port, ExclusionReason::Status(Status::Critical))).collect();
        let expected = "mail is down: its 5 instances take no requests: 10.0.0.5:1 is critical, 10.0.0.5:2 is critical, \
                        10.0.0.5:3 is critical, and 2 more";
        let many = Service { withheld: many, ..mail() };
        assert_eq!(sentence(&in_full(&many, Millis(0))), expected);
        let expected = "mail is down: its 5 instances take no requests: one is critical, one is critical, one is critical, \
                        and 2 more";
        assert_eq!(sentence(&of(&many, Millis(0))), expected);
    }

    #[test]
    fn what_an_instance_says_of_its_state_is_told_to_those_who_may_know_addresses() {
        let (key, address) = ("service/mail/a".parse().unwrap(), "10.0.0.5:1".parse().unwrap());
        let reason = discovery::Reason::shorten("no database at 10.0.0.9");
        let critical = ExcludedInstance { key, address, why: ExclusionReason::Status(Status::Critical), reason };
        let service = Service { withheld: [critical].into(), ..mail() };
        let expected = "mail is down: its only instance 10.0.0.5:1 is critical (no database at 10.0.0.9)";
        assert_eq!(sentence(&in_full(&service, Millis(0))), expected);
        assert_eq!(sentence(&of(&service, Millis(0))), "mail is down: its only instance is critical");
    }

    #[test]
    fn unknown_is_not_the_same_as_down() {
        let nowhere = RoutingTable::default();
        assert!(matches!(unknown("mial", &nowhere), GatewayError::DiscoveryUnknown(_)));
        let etcd = RoutingTable::new(Source::Etcd, discovery::Revision(1), crate::table::name_map::NameMap::default());
        assert_eq!(sentence(&unknown("mial", &etcd)), "no instance of \"mial\" was ever registered");
    }

    #[test]
    fn what_cannot_be_a_service_is_the_callers_mistake() {
        for name in ["", "Mail", "ma%69l", "a.b", &"x".repeat(64)] {
            assert!(matches!(unknown(name, &RoutingTable::default()), GatewayError::NoServiceName(_)), "{name}");
        }
    }
}
