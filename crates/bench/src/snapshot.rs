//! What `balance` knows, as its snapshot file has it: instances, policies, keys.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use crate::access::{Feature, JUDGE, KEY_SHA256};

/// How many instances `balance` knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Population {
    /// Instances of the service under load; at least two. They share the two upstreams.
    pub instances: usize,
    /// Instances of other services, ten to a service.
    pub others: usize,
}

/// What `balance` knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The service `bench` and, maybe, others.
    pub population: Population,
    /// A service of two instances for each of these, with its policy.
    pub features: &'a [Feature],
}

// === impl Known ===

impl Known<'_> {
    /// The file's content, for a gateway whose two upstreams are these.
    #[must_use]
    pub fn snapshot(&self, upstreams: [SocketAddr; 2]) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "saved_at_unix_ms": u64::try_from(now.as_millis()).unwrap_or_default(),
            "revision": 1,
            "instances": self.instances(upstreams),
            "policies": self.policies(),
            "access_keys": { "bench": json!({ "sha256": KEY_SHA256, "services": ["*"] }).to_string() },
        })
    }

    fn instances(&self, upstreams: [SocketAddr; 2]) -> Map<String, Value> {
        let address = |number: usize| Value::from(upstreams[number % 2].to_string());
        let Population { instances, others } = self.population;
        let own = (0..instances.max(2)).map(|number| (format!("service/bench/i{number}"), address(number)));
        let others = (0..others).map(|number| (format!("service/other-{}/i{number}", number / 10), address(number)));
        let asked = (!self.features.is_empty()).then_some(JUDGE.to_owned());
        let services = self.features.iter().map(|feature| feature.service.clone()).chain(asked);
        let of_features = services
            .flat_map(|service| (0..2).map(move |number| (format!("service/{service}/i{number}"), address(number))));
        own.chain(others).chain(of_features).collect()
    }

    fn policies(&self) -> Map<String, Value> {
        let policy = |feature: &Feature| Some((feature.service.clone(), feature.policy.as_ref()?.to_string().into()));
        self.features.iter().filter_map(policy).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPSTREAMS: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

    fn snapshot(known: Known<'_>) -> Value {
        known.snapshot(UPSTREAMS.map(|address| address.parse().unwrap()))
    }

    #[test]
    fn the_snapshot_has_the_population_that_was_asked_for() {
        let snapshot = snapshot(Known { population: Population { instances: 10, others: 25 }, features: &[] });
        let instances = snapshot["instances"].as_object().unwrap();
        assert_eq!(instances.len(), 35);
        assert_eq!(instances["service/bench/i9"], "127.0.0.1:2");
        assert!(instances.contains_key("service/other-2/i24"));
    }

    #[test]
    fn each_feature_is_a_service_with_its_policy() {
        let folder = tempfile::tempdir().unwrap();
        let features = crate::access::features(folder.path()).unwrap();
        let snapshot = snapshot(Known { population: Population::default(), features: &features });
        let [off, key] = &features[..2] else { panic!("there are more") };
        let policies = &snapshot["policies"];
        assert_eq!(snapshot["instances"][format!("service/{}/i1", off.service)], "127.0.0.1:2");
        assert_eq!(policies[&off.service], Value::Null);
        assert!(policies[&key.service].as_str().unwrap().contains("x-api-key"), "{policies}");
    }
}
