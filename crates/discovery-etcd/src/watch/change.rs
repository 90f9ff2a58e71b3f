//! What a watch tells, and how it behaves.

use std::{collections::BTreeMap, time::Duration};

use discovery::{AccessKeyId, InstanceKey, Override, Revision, ServiceName, Update};

use crate::{keys::decode::Unreadable, watch::health::ResyncCause};

/// How a watch behaves. The defaults are what the suite promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// Ask for a sign of life this often. Default 1 s.
    pub progress_interval: Duration,
    /// Give a member up after this much silence. Default 2 s; longer than the interval.
    pub silence_limit: Duration,
    /// How often to compare with a complete list. Default 30 s.
    pub reconcile_interval: Duration,
    /// The longest wait between two attempts to reach etcd. Default 2 s; they start at 100 ms.
    pub retry_max: Duration,
}

/// One step in what is known: one list, or one response of etcd's watch. Apply it as a whole.
///
/// The first one has a reset of each: instances, overrides, policies and API keys. See [`Update`] for the contract.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Everything up to this revision of etcd is told, with this change. Goes backwards only with
    /// [`ResyncCause::Wiped`].
    pub revision: Revision,
    /// Why everything was listed, when this comes from a list.
    pub cause: Option<ResyncCause>,
    /// What changed about instances, in order.
    pub updates: Vec<Update>,
    /// What changed about overrides, in order.
    pub overrides: Vec<OverrideUpdate>,
    /// What changed about policies, in order.
    pub policies: Vec<PolicyUpdate>,
    /// What changed about the gateway's API keys, in order.
    pub access_keys: Vec<AccessKeyUpdate>,
    /// Keys and values that cannot be parsed and did not have the same mistake before. An instance whose value
    /// became unreadable is in `updates` as removed.
    pub unreadable: Vec<Unreadable>,
}

/// One change to the operators' overrides of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverrideUpdate {
    /// These, and no others, are overridden; each as far as [`Override::applies_to`] says.
    Reset(BTreeMap<InstanceKey, Override>),
    /// This instance is overridden, whether it is registered or not.
    Set(InstanceKey, Override),
    /// This instance is no longer overridden.
    Unset(InstanceKey),
}

/// One change to the services' policies, `config/<service>`, as they were written. The reader parses them, and knows
/// the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyUpdate {
    /// These services, and no others, have one.
    Reset(BTreeMap<ServiceName, String>),
    /// This service has this one now.
    Set(ServiceName, String),
    /// This service has none any more.
    Unset(ServiceName),
}

/// One change to the gateway's API keys, `config/key/<id>`, as they were written. The reader parses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessKeyUpdate {
    /// There are these, and no others.
    Reset(BTreeMap<AccessKeyId, String>),
    /// This key says this now.
    Set(AccessKeyId, String),
    /// This key is revoked.
    Unset(AccessKeyId),
}

// === impl WatchOptions ===

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            progress_interval: Duration::from_secs(1),
            silence_limit: Duration::from_secs(2),
            reconcile_interval: Duration::from_secs(30),
            retry_max: Duration::from_secs(2),
        }
    }
}
