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

    /// Takes in what etcd says of one key, `None` for nothing any more; what is wrong with it. Unlike a policy, a key
    /// that became invalid opens nothing: it may have been meant to be narrower.
    ///
    /// It costs the change, whatever the number of keys.
    fn set(&mut self, id: &AccessKeyId, text: Option<String>) -> Option<FieldError> {
        let ring = Arc::make_mut(&mut self.ring);
        if let Some(before) = self.given.remove(id) {
            ring.remove(id, &before);
        }
        let text = text?;
        let mistake = ring.add(id, &text).err();
        self.given.insert(id.clone(), text);
        mistake
    }
}

// === impl Instances ===

impl Instances {
    /// Replaces the API keys, which are all there are; returns what is wrong with some.
    pub fn replace_access_keys(&mut self, all: BTreeMap<AccessKeyId, String>) -> Vec<(AccessKeyId, FieldError)> {
        if all == self.access_keys.given {
            return Vec::new();
        }
        self.note();
        let given = &self.access_keys.given;
        let gone = given.keys().filter(|id| !all.contains_key(*id)).map(|id| (id.clone(), None));
        let mut changes: Vec<_> = gone.collect();
        let differs = |(id, text): &(AccessKeyId, String)| given.get(id) != Some(text);
        changes.extend(all.into_iter().filter(differs).map(|(id, text)| (id, Some(text))));
        let set = |(id, text)| self.access_keys.set(&id, text).map(|mistake| (id, mistake));
        changes.into_iter().filter_map(set).collect()
    }

    /// Takes over what `config/key/<id>` says, or that it is revoked; returns what is wrong with that key.
    pub fn set_access_key(&mut self, id: &AccessKeyId, text: Option<String>) -> Option<FieldError> {
        self.note();
        self.access_keys.set(id, text)
    }

    fn note(&mut self) {
        self.is_changed = true;
        self.version += 1;
        self.rights_version += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::access::keys::Found;

    fn text(byte: u8) -> String {
        format!(r#"{{"sha256":"{}","services":["mail"]}}"#, format!("{byte:02x}").repeat(32))
    }

    fn opens(keys: &AccessKeys, byte: u8) -> bool {
        matches!(keys.ring.find_hash([byte; 32], "mail", SystemTime::UNIX_EPOCH), Found::Opens(_))
    }

    #[test]
    fn a_key_that_is_replaced_revoked_or_became_invalid_opens_nothing_more() {
        let id = "ci".parse().unwrap();
        let mut keys = AccessKeys::default();
        assert_eq!(keys.set(&id, Some(text(1))), None);
        assert_eq!(keys.set(&id, Some(text(2))), None);
        assert_eq!((opens(&keys, 1), opens(&keys, 2)), (false, true));
        assert!(keys.set(&id, Some("{}".to_owned())).is_some());
        assert!(!opens(&keys, 2));
        keys.set(&id, Some(text(3)));
        let twin = "twin".parse().unwrap();
        keys.set(&twin, Some(text(3)));
        keys.set(&id, None);
        assert!(opens(&keys, 3), "the same key under another id");
        keys.set(&twin, None);
        assert!(!opens(&keys, 3) && keys.given.is_empty());
    }
}
