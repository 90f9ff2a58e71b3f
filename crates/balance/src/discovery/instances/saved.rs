use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discovery::{
    AccessKeyId, Address, Incarnation, Instance, InstanceKey, LeaseId, Override, Registered, Revision, ServiceName,
    Update,
};
use serde::{Deserialize, Serialize};

use super::{Instances, vanishing::Vanishing};
use crate::{
    access::jwt::key_set::SavedKeySet,
    clock::Millis,
    instance::candidate::Candidate,
    table::tombstones::{Cause, Tombstone},
};

/// What is known, as it is written to disk.
///
/// The values are those of etcd, so that a person can read the file, and a later version understands it. What an older
/// version did not write is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The revision of etcd that this mirrors.
    pub revision: Revision,
    /// Key → value, as in etcd.
    pub instances: BTreeMap<InstanceKey, String>,
    /// What an operator says about an instance.
    #[serde(default)]
    pub overrides: BTreeMap<InstanceKey, Override>,
    /// Which life each instance is, so that what an operator said of one is not taken for another.
    #[serde(default)]
    pub incarnations: BTreeMap<InstanceKey, Incarnation>,
    /// What `config/<service>` said last that made sense.
    #[serde(default)]
    pub policies: BTreeMap<ServiceName, String>,
    /// The API keys, as in etcd: what proves them, never a key.
    #[serde(default)]
    pub access_keys: BTreeMap<AccessKeyId, String>,
    /// The keys of token issuers, as their URLs have given them.
    #[serde(default)]
    pub key_sets: BTreeMap<String, String>,
    /// When those were read last, in seconds since 1970.
    #[serde(default)]
    pub key_sets_read_s: BTreeMap<String, u64>,
    /// Instances whose lease expired and that may be alive nevertheless, like `instances`.
    #[serde(default)]
    pub suspects: BTreeMap<InstanceKey, String>,
    /// Those that went, the oldest of each service first.
    #[serde(default)]
    pub tombstones: Vec<SavedTombstone>,
}

/// A tombstone as it is written to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTombstone {
    key: InstanceKey,
    address: Address,
    cause: Cause,
    /// How long before the file was written.
    ago_ms: u64,
}

/// What is known, to be [written down](Self::into_saved) elsewhere: taking it is short, because the instances are shared.
#[derive(Debug)]
pub struct Known {
    /// All but the instances.
    rest: Saved,
    registered: Vec<(Arc<Candidate>, Option<LeaseId>)>,
    suspects: Vec<(Arc<Candidate>, Option<LeaseId>)>,
}

// === impl Known ===

impl Known {
    /// As it is written to disk: the longer part of the work.
    #[must_use]
    pub fn into_saved(self) -> Saved {
        let value = |(candidate, _): &(Arc<Candidate>, _)| (candidate.key.clone(), candidate.instance.to_string());
        // One that an earlier run left without its lease is of a life that is not known.
        let incarnation = |(candidate, lease): &(Arc<Candidate>, Option<LeaseId>)| {
            lease.filter(|lease| lease.0 > 0).map(|lease| (candidate.key.clone(), Incarnation(lease)))
        };
        Saved {
            instances: self.registered.iter().map(value).collect(),
            suspects: self.suspects.iter().map(value).collect(),
            incarnations: self.registered.iter().chain(&self.suspects).filter_map(incarnation).collect(),
            ..self.rest
        }
    }
}

// === impl Instances ===

impl Instances {
    /// What is known at `now`, as it is written to disk.
    #[must_use]
    pub fn save(&self, now: Millis) -> Saved {
        self.known(now).into_saved()
    }

    /// What is known at `now`.
    #[must_use]
    pub fn known(&self, now: Millis) -> Known {
        let tombstone = |tombstone: &Tombstone| SavedTombstone {
            key: tombstone.key.clone(),
            address: tombstone.address.clone(),
            cause: tombstone.cause,
            ago_ms: u64::try_from(now.since(tombstone.at).as_millis()).unwrap_or(u64::MAX),
        };
        let key_sets = self.policies.key_sets();
        let read_s = |(url, set): (&String, &SavedKeySet)| Some((url.clone(), set.read_s?));
        let rest = Saved {
            key_sets_read_s: key_sets.iter().filter_map(read_s).collect(),
            key_sets: key_sets.into_iter().map(|(url, set)| (url, set.text)).collect(),
            revision: self.revision,
            overrides: self.overrides.clone(),
            policies: self.policies.save(),
            access_keys: self.access_keys.save(),
            tombstones: self.tombstones.all().map(tombstone).collect(),
            ..Saved::default()
        };
        let registered = self.registered.values();
        let suspects = self.suspects.values();
        Known {
            rest,
            registered: registered.map(|one| (Arc::clone(&one.candidate), one.registered.lease)).collect(),
            suspects: suspects.map(|one| (Arc::clone(&one.candidate), one.lease)).collect(),
        }
    }

    /// Takes over what an earlier run knew, `age` ago. Values that cannot be read (any more) are left out, and returned.
    ///
    /// The instances count as leased: if the first list from etcd no longer has one, it expired meanwhile, for all that
    /// we know, and may still answer.
    pub fn restore(&mut self, saved: Saved, age: Duration, now: Millis) -> Vec<InstanceKey> {
        let mut unreadable = Vec::new();
        let incarnations = saved.incarnations;
        let mut read = |values: BTreeMap<InstanceKey, String>| -> Vec<Registered> {
            let parsed = values.into_iter().filter_map(|(key, value)| match Instance::parse(value.as_bytes()) {
                Ok(instance) => Some(leased(key, instance, &incarnations)),
                Err(_) => {
                    unreadable.push(key);
                    None
                }
            });
            parsed.collect()
        };
        let (registered, suspects) = (read(saved.instances), read(saved.suspects));
        // A suspect was registered before.
        self.apply(Update::Reset(registered.iter().chain(&suspects).cloned().collect()), now);
        self.apply(Update::Reset(registered), now);
        // They did not vanish now.
        self.vanishing = Vanishing::default();
        self.suspects.values_mut().for_each(|suspect| suspect.kept_until = None);
        for SavedTombstone { key, address, cause, ago_ms } in saved.tombstones {
            let at = now - Duration::from_millis(ago_ms).saturating_add(age);
            self.touched.service(&key.service);
            if let Some(forgotten) = self.tombstones.add(Tombstone { key, address, at, cause }) {
                self.touched.service(&forgotten);
            }
        }
        self.replace_overrides(saved.overrides);
        let read_s = saved.key_sets_read_s;
        let key_set = |(url, text): (String, String)| {
            let set = SavedKeySet { text, read_s: read_s.get(&url).copied() };
            (url, set)
        };
        self.policies.restore_key_sets(saved.key_sets.into_iter().map(key_set).collect());
        // What was saved was valid for the program that saved it; if it no longer is, the default is in force.
        self.replace_policies(saved.policies);
        self.replace_access_keys(saved.access_keys);
        unreadable
    }
}

fn leased(key: InstanceKey, instance: Instance, incarnations: &BTreeMap<InstanceKey, Incarnation>) -> Registered {
    let (created, modified) = (Revision::default(), Revision::default());
    let lease = incarnations.get(&key).map_or(LeaseId(0), |incarnation| incarnation.0);
    Registered { key, instance, lease: Some(lease), created, modified }
}
