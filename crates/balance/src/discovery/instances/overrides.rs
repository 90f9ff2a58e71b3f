//! What operators say about instances.

use std::collections::BTreeMap;

use discovery::{InstanceKey, LeaseId, Override};

use super::Instances;

// === impl Instances ===

impl Instances {
    /// Replaces all operator overrides.
    pub fn replace_overrides(&mut self, overrides: BTreeMap<InstanceKey, Override>) {
        let before = std::mem::take(&mut self.overrides);
        let differs = |key: &&InstanceKey| before.get(key) != overrides.get(key);
        before.keys().chain(overrides.keys()).filter(differs).for_each(|key| self.touched.key(key));
        self.overrides = overrides;
    }

    /// Replaces the operator override of one instance; `None` removes it.
    pub fn set_override(&mut self, key: InstanceKey, order: Option<Override>) {
        self.touched.key(&key);
        match order {
            Some(order) => self.overrides.insert(key, order),
            None => self.overrides.remove(&key),
        };
    }

    /// What an operator says about the life with this lease: not what was said of another one under the same id.
    pub(super) fn order(&self, key: &InstanceKey, lease: Option<LeaseId>) -> Option<&Override> {
        self.overrides.get(key).filter(|order| order.applies_to(lease))
    }
}
