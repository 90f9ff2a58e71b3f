//! Overrides end with the life that they were given for.
//!
//! An override of a life that has ended is about no instance: gateways and registries pass it over at once. It is deleted here
//! a little later: a key that vanishes although its instance lives is [put back](crate::restore) under the same lease, and
//! an override is not to be lost meanwhile. Every registry does this; that the life has ended is checked by etcd in the
//! transaction that deletes, so it does not matter which of them comes first, or how old its mirror is.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use discovery::{InstanceKey, Override};
use discovery_etcd::Etcd;
use service_kit::chain;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::mirror::Mirror;

/// How often is looked.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long an override stays that is about no instance.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Deletes what is about no instance, for as long as it is polled.
pub async fn run(etcd: Etcd, mirror: Mirror) -> Infallible {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = Ended::default();
    loop {
        ticks.tick().await;
        if !mirror.is_fresh() {
            continue;
        }
        for (key, order) in ended.due(of_no_instance(&mirror), Instant::now()) {
            match etcd.end_override(&key, &order).await {
                Ok(true) => tracing::info!(%key, %order, "override deleted: its incarnation has ended"),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%key, error = %chain(&error), "cannot delete an override whose incarnation has ended")
                }
            }
        }
    }
}

fn of_no_instance(mirror: &Mirror) -> Vec<(InstanceKey, Override)> {
    let view = mirror.read();
    let is_of_no_instance = |key: &InstanceKey, order: &Override| {
        let lease = view.seen(key).and_then(|held| held.lease);
        order.incarnation.is_some() && !order.applies_to(lease)
    };
    let found = view.overrides().filter(|(key, order)| is_of_no_instance(key, order));
    found.map(|(key, order)| (key.clone(), order.clone())).collect()
}

/// Since when each is about no instance.
#[derive(Debug, Default)]
struct Ended(HashMap<(InstanceKey, Override), Instant>);

// === impl Ended ===

impl Ended {
    /// Which of the `found` have been about no instance for long enough.
    fn due(&mut self, found: Vec<(InstanceKey, Override)>, now: Instant) -> Vec<(InstanceKey, Override)> {
        let since: HashMap<_, _> =
            found.into_iter().map(|one| (one.clone(), self.0.get(&one).copied().unwrap_or(now))).collect();
        self.0 = since;
        let is_due = |since: &Instant| now.saturating_duration_since(*since) >= KEPT_FOR;
        self.0.iter().filter(|(_, since)| is_due(since)).map(|(one, _)| one.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_kept_for_a_while_in_case_that_its_life_goes_on() {
        let mut ended = Ended::default();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let one = || {
            let value = "draining?incarnation=00000000000000ff";
            ("service/mail/a".parse::<InstanceKey>().unwrap(), value.parse::<Override>().unwrap())
        };
        assert!(ended.due(vec![one()], start).is_empty());
        assert!(ended.due(vec![one()], after(9)).is_empty());
        assert!(ended.due(vec![], after(9)).is_empty(), "it is there again");
        assert!(ended.due(vec![one()], after(11)).is_empty());
        assert_eq!(ended.due(vec![one()], after(21)), [one()]);
    }
}
