//! What differs between a service and the one before it, for those who are asked.

use std::sync::Arc;

use discovery::policy::{ActiveKind, Policy};

use crate::{instance::candidate::Candidate, table::routing_table::Service};

/// Who is no longer asked, by serial number, and who is from now on: by which policy, and whether it is listed.
pub(super) type Followed = (Vec<u64>, Vec<(Arc<Candidate>, Arc<Policy>, bool)>);

/// What is to be followed of a service that was `before` and is `after`.
pub(super) fn changes(before: Option<&Service>, after: Option<&Service>) -> Followed {
    let is_asked = |service: &&Service| service.policy().health.active.kind != ActiveKind::Off;
    let (before, after) = (before.filter(is_asked), after.filter(is_asked));
    let is_same_policy = before.zip(after).is_some_and(|(before, after)| Arc::ptr_eq(before.policy(), after.policy()));
    let mut gone = Vec::new();
    let mut come = Vec::new();
    for is_listed in [true, false] {
        let (then, now) = (instances(before, is_listed), instances(after, is_listed));
        let (then, now) =
            if is_same_policy { differing(then, now) } else { (then.iter().collect(), now.iter().collect()) };
        gone.extend(then.into_iter().map(|candidate| candidate.serial));
        if let Some(after) = after {
            come.extend(now.into_iter().map(|one| (Arc::clone(one), Arc::clone(after.policy()), is_listed)));
        }
    }
    (gone, come)
}

/// The candidates of a service, or its last resort.
fn instances(service: Option<&Service>, is_listed: bool) -> &[Arc<Candidate>] {
    match service.map(|service| &service.balancer) {
        None => &[],
        Some(balancer) if is_listed => balancer.candidates.all(),
        Some(balancer) => balancer.last_resort.all(),
    }
}

/// Who is only in one of two lists in the order of the keys: in the first, in the second.
fn differing<'a>(
    mut first: &'a [Arc<Candidate>],
    mut second: &'a [Arc<Candidate>],
) -> (Vec<&'a Arc<Candidate>>, Vec<&'a Arc<Candidate>>) {
    let mut only_first = Vec::new();
    let mut only_second = Vec::new();
    while let ([one, ones @ ..], [other, others @ ..]) = (first, second) {
        // Nothing is read of those that are the same.
        if Arc::ptr_eq(one, other) {
            (first, second) = (ones, others);
            continue;
        }
        let order = one.key.cmp(&other.key);
        if order.is_le() {
            only_first.push(one);
            first = ones;
        }
        if order.is_ge() {
            only_second.push(other);
            second = others;
        }
    }
    only_first.extend(first);
    only_second.extend(second);
    (only_first, only_second)
}
