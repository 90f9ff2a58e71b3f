use std::collections::{BTreeMap, BTreeSet};

use discovery::{InstanceKey, ServiceName};

/// What must be built again: services, or of a service some instances only.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeMap<ServiceName, Part>);

/// What of a service was touched.
#[derive(Debug)]
pub(super) enum Part {
    /// All of it: what is true of every instance of it has changed.
    Whole,
    /// These instances, and what there is only once, as its tombstones.
    Instances(BTreeSet<InstanceKey>),
}

// === impl Touched ===

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn whole(&mut self, service: ServiceName) {
        self.0.insert(service, Part::Whole);
    }

    /// The service, and none of its instances.
    pub(super) fn service(&mut self, service: &ServiceName) {
        if !self.0.contains_key(service) {
            self.0.insert(service.clone(), Part::Instances(BTreeSet::new()));
        }
    }

    pub(super) fn key(&mut self, key: &InstanceKey) {
        self.service(&key.service);
        if let Some(Part::Instances(keys)) = self.0.get_mut(&key.service) {
            keys.insert(key.clone());
        }
    }
}

impl IntoIterator for Touched {
    type Item = (ServiceName, Part);
    type IntoIter = std::collections::btree_map::IntoIter<ServiceName, Part>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
