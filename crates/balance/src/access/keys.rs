//! API keys: every key that is in force, found by its hash.
//!
//! The ring is part of the routing table, so a key that is made or revoked counts at every gateway as soon as etcd's
//! watch tells of it, and a gateway that starts without etcd has it from its snapshot.

use std::{collections::HashMap, sync::Arc};

use discovery::{AccessKey, AccessKeyId, FieldError};
use ring::digest;

use crate::access::identity::Identity;

/// More than this is no key; nothing longer is hashed.
const KEY_MAX_BYTES: usize = 256;

/// The keys in force.
///
/// A key is found by the hash of what came. What the time of that tells of a hash is of no use, because no client can
/// choose a key by its hash.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    by_hash: HashMap<[u8; 32], Known>,
}

#[derive(Debug)]
struct Known {
    key: AccessKey,
    identity: Arc<Identity>,
}

/// What a key that came is.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'a> {
    /// It opens the service.
    Opens(&'a Arc<Identity>),
    /// It is in force, for other services.
    OutOfScope,
    Unknown,
}

// === impl KeyRing ===

impl KeyRing {
    /// Puts a key on the ring as etcd has it.
    ///
    /// # Errors
    ///
    /// What is wrong with it; it opens nothing then, whatever it was before.
    pub(crate) fn add(&mut self, id: &AccessKeyId, text: &str) -> Result<(), FieldError> {
        let key = AccessKey::parse(text)?;
        let identity = Arc::new(Identity::new("key", id.as_str()));
        // The same key under two ids: the services of the first.
        self.by_hash.entry(key.hash().unwrap_or_default()).or_insert(Known { key, identity });
        Ok(())
    }

    /// What the key that came opens.
    pub(crate) fn find(&self, came: &[u8], service: &str) -> Found<'_> {
        if came.len() > KEY_MAX_BYTES {
            return Found::Unknown;
        }
        let hash = digest::digest(&digest::SHA256, came);
        match self.by_hash.get(hash.as_ref()) {
            Some(known) if known.key.opens(service) => Found::Opens(&known.identity),
            Some(_) => Found::OutOfScope,
            None => Found::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc` (FIPS 180-4).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_opens_what_it_is_for_and_nothing_else() {
        let mut ring = KeyRing::default();
        ring.add(&"ci".parse().unwrap(), &format!(r#"{{"sha256":"{ABC}","services":["mail"]}}"#)).unwrap();
        assert!(matches!(ring.find(b"abc", "mail"), Found::Opens(identity) if &*identity.subject == "ci"));
        assert_eq!(ring.find(b"abc", "web"), Found::OutOfScope);
        assert_eq!(ring.find(b"abd", "mail"), Found::Unknown);
        assert_eq!(ring.find(ABC.as_bytes(), "mail"), Found::Unknown, "the hash is not the key");
        assert!(ring.add(&"x".parse().unwrap(), "{}").is_err());
    }
}
