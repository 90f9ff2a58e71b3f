//! What of [`Instances`] is worth keeping on disk, and back.

use std::collections::BTreeMap;

use discovery::{Instance, InstanceKey, LeaseId, Registered, Revision, Status, Update};
use serde::{Deserialize, Serialize};

use super::Instances;
use crate::clock::Millis;

/// The registered instances and the operator's words, as they are written to disk.
///
/// The values are those of etcd, so that a person can read the file, and a later version understands it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The revision of etcd that this mirrors.
    pub revision: Revision,
    /// Key → value, as in etcd.
    pub instances: BTreeMap<InstanceKey, String>,
    /// What an operator says about an instance.
    #[serde(default)]
    pub overrides: BTreeMap<InstanceKey, Status>,
}

// === impl Instances ===

impl Instances {
    /// What is known now.
    #[must_use]
    pub fn save(&self) -> Saved {
        let value = |(key, known): (&InstanceKey, &super::Known)| (key.clone(), known.registered.instance.to_string());
        Saved {
            revision: self.revision,
            instances: self.registered.iter().map(value).collect(),
            overrides: self.overrides.clone(),
        }
    }

    /// Takes over what an earlier run knew. Values that cannot be read (any more) are left out, and returned.
    ///
    /// The instances count as leased: if the first list from etcd no longer has one, it expired meanwhile, for all that
    /// we know, and may still answer.
    pub fn restore(&mut self, saved: Saved, now: Millis) -> Vec<InstanceKey> {
        let mut unreadable = Vec::new();
        let mut all = Vec::new();
        for (key, value) in saved.instances {
            match Instance::parse(value.as_bytes()) {
                Ok(instance) => all.push(Registered {
                    key,
                    instance,
                    lease: Some(LeaseId(0)),
                    created: Revision::default(),
                    modified: Revision::default(),
                }),
                Err(_) => unreadable.push(key),
            }
        }
        self.apply(Update::Reset(all), now);
        self.replace_overrides(saved.overrides);
        unreadable
    }
}
