//! The API keys that etcd holds, and the ring that requests are judged by.

use std::{collections::BTreeMap, sync::Arc};

use discovery::{AccessKeyId, FieldError};

use super::Instances;
use crate::access::keys::KeyRing;

/// The keys as they were written, and as they are in force.
#[derive(Debug, Default)]
pub(super) struct AccessKeys {
    given: BTreeMap<AccessKeyId, String>,
    ring: Arc<KeyRing>,
}

// === impl AccessKeys ===

impl AccessKeys {
    pub(super) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring)
    }

    pub(super) fn save(&self) -> BTreeMap<AccessKeyId, String> {
        self.given.clone()
    }

    /// Makes the ring anew; what is wrong with some keys. Unlike a policy, a key that became invalid opens nothing: it
    /// may have been meant to be narrower.
    fn forge(&mut self) -> Vec<(AccessKeyId, FieldError)> {
        let mut ring = KeyRing::default();
        let add = |(id, text): (&AccessKeyId, &String)| ring.add(id, text).err().map(|error| (id.clone(), error));
        let mistakes = self.given.iter().filter_map(add).collect();
        self.ring = Arc::new(ring);
        mistakes
    }
}

// === impl Instances ===

impl Instances {
    /// Replaces the API keys, which are all there are; returns what is wrong with some.
    pub fn replace_access_keys(&mut self, all: BTreeMap<AccessKeyId, String>) -> Vec<(AccessKeyId, FieldError)> {
        if all == self.access_keys.given {
            return Vec::new();
        }
        self.access_keys.given = all;
        self.forge()
    }

    /// Takes over what `config/key/<id>` says, or that it is revoked; returns what is wrong with that key.
    pub fn set_access_key(&mut self, id: &AccessKeyId, text: Option<String>) -> Option<FieldError> {
        match text {
            Some(text) => drop(self.access_keys.given.insert(id.clone(), text)),
            None => drop(self.access_keys.given.remove(id)),
        }
        self.forge().into_iter().find(|(other, _)| other == id).map(|(_, mistake)| mistake)
    }

    fn forge(&mut self) -> Vec<(AccessKeyId, FieldError)> {
        self.is_changed = true;
        self.version += 1;
        self.access_keys.forge()
    }
}
