use std::collections::HashMap;

use discovery::{Address, InstanceKey};

/// Who stands where: the instances of all services by their address. Looked at for every instance that comes or goes, of
/// which there may be ten thousand at once, so it must not be a walk over all of them.
#[derive(Debug, Default)]
pub(super) struct AddressIndex(HashMap<Address, Vec<InstanceKey>>);

// === impl AddressIndex ===

impl AddressIndex {
    pub(super) fn add(&mut self, key: &InstanceKey, address: &Address) {
        self.0.entry(address.clone()).or_default().push(key.clone());
    }

    pub(super) fn remove(&mut self, key: &InstanceKey, address: &Address) {
        if let Some(keys) = self.0.get_mut(address) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.0.remove(address);
            }
        }
    }

    /// The instances at `address`, of whichever service.
    pub(super) fn at(&self, address: &Address) -> &[InstanceKey] {
        self.0.get(address).map_or(&[], Vec::as_slice)
    }
}
