//! How many instances a service may have, and how many services a token.
//!
//! Asked only for an instance that is not there yet. The numbers come from the mirror, which is milliseconds behind: of
//! many that come at the same instant some may pass beyond the bound. It is there to bound memory, not to count seats.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use discovery::ServiceName;

use super::denied::Denied;
use crate::view::View;

/// The bounds, and which token has registered what at this replica.
#[derive(Debug)]
pub struct Quotas {
    instances_max: usize,
    services_per_token_max: usize,
    services: Mutex<HashMap<String, HashSet<ServiceName>>>,
}

// === impl Quotas ===

impl Quotas {
    /// With these bounds.
    #[must_use]
    pub fn new(instances_max: usize, services_per_token_max: usize) -> Self {
        Self { instances_max, services_per_token_max, services: Mutex::default() }
    }

    /// Whether there is room for one more instance of `service`, announced with `token`.
    ///
    /// # Errors
    ///
    /// [`Denied::Instances`], [`Denied::Services`].
    pub fn check(&self, view: &View, service: &ServiceName, token: Option<&str>) -> Result<(), Denied> {
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
