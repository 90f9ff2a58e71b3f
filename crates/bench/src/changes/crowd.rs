//! Who is registered, and who changes when.

/// Instances, spread evenly over services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// In all. Below 2^16 × 255, so that each has an address of its own in 127.0.0.0/8.
    pub instances: u32,
    /// At most as many.
    pub services: u32,
}

/// What is measured, the first ones also in the whole run.
pub const CROWDS: [Crowd; 4] = [
    Crowd { instances: 10, services: 10 },
    Crowd { instances: 10_000, services: 2_000 },
    Crowd { instances: 50_000, services: 2_000 },
    Crowd { instances: 10_000, services: 1 },
];

/// A change of one key in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It says this from now on.
    Put(String, String),
    /// It goes.
    Delete(String),
}

/// Where no instance listens, and no check asks: active checks are off.
const PORT: u16 = 9;
/// From one instance that changes to the next; no factor of any crowd's, so that all have their turn, in many services.
const STEP: u32 = 37;
/// The policy of every service.
const CHECKS_OFF: &str = r#"{"health":{"active":{"kind":"off"}}}"#;

// === impl Crowd ===

impl Crowd {
    /// Policies and instances at the start, the policies first.
    pub(super) fn registrations(self) -> impl Iterator<Item = Change> {
        let policies =
            (0..self.services).map(|service| Change::Put(format!("config/s{service}"), CHECKS_OFF.to_owned()));
        policies.chain((0..self.instances).map(move |instance| Change::Put(self.key(instance), address(instance))))
    }

    /// The change with this number: an instance says something else, goes, comes back; then the next one does.
    pub(super) fn change(self, number: u32) -> Change {
        let instance = (number / 3).wrapping_mul(STEP) % self.instances;
        let key = self.key(instance);
        match number % 3 {
            0 => Change::Put(key, format!("http://{}?version={number}", address(instance))),
            1 => Change::Delete(key),
            _ => Change::Put(key, address(instance)),
        }
    }

    fn key(self, instance: u32) -> String {
        format!("service/s{}/i{}", instance % self.services, instance / self.services)
    }
}

/// Each has one of its own, and all are of this machine only.
fn address(instance: u32) -> String {
    let [_, high, middle, low] = instance.to_be_bytes();
    format!("127.{}.{middle}.{low}:{PORT}", 1 + high)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use discovery::policy::PolicyDocument;

    use super::*;

    fn applied(changes: impl Iterator<Item = Change>, keys: &mut HashMap<String, String>) {
        for change in changes {
            match change {
                Change::Put(key, value) => drop(keys.insert(key, value)),
                Change::Delete(key) => assert!(keys.remove(&key).is_some(), "{key} was not there"),
            }
        }
    }

    #[test]
    fn every_instance_has_a_key_and_a_loopback_address_of_its_own() {
        for crowd in CROWDS {
            let mut keys = HashMap::new();
            applied(crowd.registrations(), &mut keys);
            assert_eq!(keys.len(), (crowd.instances + crowd.services) as usize);
            let addresses: HashSet<_> = keys.iter().filter(|(key, _)| key.starts_with("service/")).collect();
            let addresses: HashSet<_> = addresses.iter().map(|(_, address)| *address).collect();
            assert_eq!(addresses.len(), crowd.instances as usize);
            let is_loopback = |address: &&String| address.parse::<std::net::SocketAddr>().unwrap().ip().is_loopback();
            assert!(addresses.iter().all(is_loopback));
        }
    }

    #[test]
    fn every_third_change_leaves_everything_as_it_was_at_the_start() {
        let crowd = CROWDS[0];
        let mut keys = HashMap::new();
        applied(crowd.registrations(), &mut keys);
        let start = keys.clone();
        for round in 0..20 {
            let numbers = [3 * round, 3 * round + 1, 3 * round + 2];
            applied([crowd.change(numbers[0])].into_iter(), &mut keys);
            assert_ne!(keys, start);
            applied(numbers[1..].iter().map(|number| crowd.change(*number)), &mut keys);
            assert_eq!(keys, start);
        }
    }

    #[test]
    fn all_instances_have_their_turn() {
        for crowd in CROWDS {
            let changed: HashSet<String> = (0..crowd.instances)
                .map(|turn| match crowd.change(3 * turn) {
                    Change::Put(key, _) | Change::Delete(key) => key,
                })
                .collect();
            assert_eq!(changed.len(), crowd.instances as usize);
        }
    }

    #[test]
    fn the_policy_is_one_that_the_gateway_takes_as_it_is() {
        assert!(PolicyDocument::parse(CHECKS_OFF.as_bytes()).is_ok());
    }
}
