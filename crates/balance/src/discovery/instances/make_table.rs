//! The routing table, from the one before and what was touched.

use std::sync::Arc;

use discovery::ServiceName;

use super::Instances;
use crate::table::routing_table::{RoutingTable, Service};

// === impl Instances ===

impl Instances {
    /// The routing table, when it differs from the last one.
    pub fn table(&mut self) -> Option<Arc<RoutingTable>> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() && !self.is_changed {
            return None;
        }
        self.is_changed = false;
        self.version += u64::from(!touched.is_empty());
        for (name, part) in touched {
            let service = self.rebuilt(&name, &part);
            self.note_key_set(&name, service.as_ref());
            match service {
                Some(service) => self.built.insert(name, Arc::new(service)),
                None => self.built.remove(name.as_str()),
            }
        }
        let table = RoutingTable::new(self.source, self.revision, self.built.clone());
        let table = table.with_policies(self.policies.all()).with_keys(self.access_keys.ring());
        let table = table.with_key_sets(Arc::clone(&self.key_sets));
        Some(Arc::new(table.with_broken_policies(self.policies.broken())))
    }

    fn note_key_set(&mut self, name: &ServiceName, service: Option<&Service>) {
        let now = service.and_then(|service| service.access.as_ref()?.key_set());
        match (self.key_sets.get(name), now) {
            (None, None) => {}
            (Some(before), Some(now)) if Arc::ptr_eq(before, now) => {}
            (_, Some(now)) => {
                Arc::make_mut(&mut self.key_sets).insert(name.clone(), Arc::clone(now));
            }
            (Some(_), None) => {
                Arc::make_mut(&mut self.key_sets).remove(name);
            }
        }
    }
}
