//! How many instances a service may have, how many services a token, and how much of etcd they may take.
//!
//! The numbers are asked only for an instance that is not there yet, the bytes only for a value that grows. They come from
//! the mirror, which is milliseconds behind: of many that come at the same instant some may pass beyond the bound. It is
//! there to bound memory, not to count seats.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use discovery::{InstanceKey, ServiceName};

use super::{bound::Bound, denied::Denied, options::WriteOptions};
use crate::mirror::state::MirrorState;

/// The bounds, and which token has registered what at this replica.
#[derive(Debug)]
pub struct Quotas {
    instances_max: usize,
    services_per_token_max: usize,
    service_bytes_max: u64,
    bytes_max: u64,
    services: Mutex<HashMap<String, HashSet<ServiceName>>>,
}

// === impl Quotas ===

impl Quotas {
    /// With these bounds.
    #[must_use]
    pub fn new(instances_max: usize, services_per_token_max: usize, writes: &WriteOptions) -> Self {
        let service_bytes_max = writes.service_bytes_max;
        let bytes_max = writes.instances_bytes_max;
        Self { instances_max, services_per_token_max, service_bytes_max, bytes_max, services: Mutex::default() }
    }

    /// Whether `key` may take `bytes` of etcd instead of what it takes now.
    ///
    /// # Errors
    ///
    /// [`Denied::Stored`].
    pub fn fits(&self, view: &MirrorState, key: &InstanceKey, bytes: u64) -> Result<(), Denied> {
        let before = view.bytes_of_instance(key);
        if bytes <= before {
            return Ok(());
        }
        let is_beyond = |taken: u64, max: u64| taken.saturating_sub(before) + bytes > max;
        if is_beyond(view.bytes_of(&key.service), self.service_bytes_max) {
            let whose = format!("the service {}", key.service);
            return Err(Denied::Stored { whose, bound: Bound::ServiceBytes, max_bytes: self.service_bytes_max });
        }
        if is_beyond(view.bytes(), self.bytes_max) {
            let whose = "all registrations together".to_owned();
            return Err(Denied::Stored { whose, bound: Bound::InstancesBytes, max_bytes: self.bytes_max });
        }
        Ok(())
    }

    /// Whether there is room for an override of `key`: one that outlives its instance stays until it is taken back.
    ///
    /// # Errors
    ///
    /// [`Denied::Overrides`].
    pub fn check_override(&self, view: &MirrorState, key: &InstanceKey) -> Result<(), Denied> {
        let others = view.overrides().filter(|(other, _)| other.service == key.service && *other != key).count();
        if others >= self.instances_max {
            return Err(Denied::Overrides { service: key.service.clone(), max: self.instances_max });
        }
        Ok(())
    }

    /// Whether there is room for one more instance of `service`, announced with `token`.
    ///
    /// # Errors
    ///
    /// [`Denied::Instances`], [`Denied::Services`].
    pub fn check(&self, view: &MirrorState, service: &ServiceName, token: Option<&str>) -> Result<(), Denied> {
        if view.count_of(service) >= self.instances_max {
            return Err(Denied::Instances { service: service.clone(), max: self.instances_max });
        }
        let Some(token) = token else { return Ok(()) };
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let own = services.entry(token.to_owned()).or_default();
        if own.len() >= self.services_per_token_max && !own.contains(service) {
            own.retain(|service| view.count_of(service) > 0);
        }
        if own.len() >= self.services_per_token_max && !own.contains(service) {
            return Err(Denied::Services { token: token.to_owned(), max: self.services_per_token_max });
        }
        own.insert(service.clone());
        Ok(())
    }
}
