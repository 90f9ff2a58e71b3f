//! The policy that a service is under, and where it comes from.

use std::sync::Arc;

use discovery::{FieldError, policy::Policy};

/// A policy as it is in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct EffectivePolicy {
    pub(crate) policy: Arc<Policy>,
    pub(crate) source: PolicySource,
    /// What is wrong with the newest words in etcd, which are therefore not in force.
    pub(crate) mistake: Option<FieldError>,
}

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PolicySource {
    /// Nothing is said about the service: the gateway's flags, and its own defaults.
    #[default]
    Default,
    /// `config/<service>`, over the gateway's defaults.
    Etcd,
}
