//! API keys: every key that is in force, found by its hash.
//!
//! The ring is part of the routing table, so a key that is made or revoked counts at every gateway as soon as etcd's
//! watch tells of it, and a gateway that starts without etcd has it from its snapshot.

use std::{
    array,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use discovery::{AccessKey, AccessKeyId, FieldError};
use ring::digest;

use crate::access::identity::Identity;

/// More than this is no key; nothing longer is hashed.
const KEY_MAX_BYTES: usize = 256;
/// Into so many parts a ring is divided. A table holds the ring as it was, so that a change copies the part that it is
/// in: of ten thousand keys, forty.
const PARTS: usize = 256;

/// The keys in force.
///
/// A key is found by the hash of what came. What the time of that tells of a hash is of no use, because no client can
/// choose a key by its hash.
#[derive(Debug, Clone)]
pub(crate) struct KeyRing {
    parts: [Arc<Part>; PARTS],
}

/// Keys by their hash, whose first byte says in which part they are. The same key may have several ids.
type Part = HashMap<[u8; 32], BTreeMap<AccessKeyId, Known>>;

#[derive(Debug, Clone)]
struct Known {
    key: Arc<AccessKey>,
    identity: Arc<Identity>,
}

/// What a key that came is.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'a> {
    /// It opens the service.
    Opens(&'a Arc<Identity>),
    /// It is in force, for other services.
    OutOfScope,
    /// Its time is over.
    Expired,
    Unknown,
}

// === impl KeyRing ===

impl Default for KeyRing {
    fn default() -> Self {
        Self { parts: array::from_fn(|_| Arc::default()) }
    }
}

impl KeyRing {
    /// Puts a key on the ring as etcd has it.
    ///
    /// # Errors
    ///
    /// What is wrong with it; it opens nothing then, whatever it was before.
    pub(crate) fn add(&mut self, id: &AccessKeyId, text: &str) -> Result<(), FieldError> {
        let key = AccessKey::parse(text)?;
        let hash = key.hash().unwrap_or_default();
        let identity = Identity { key: Some(hash), ..Identity::new("key", id.as_str()) };
        let known = Known { key: Arc::new(key), identity: Arc::new(identity) };
        self.part_mut(hash).entry(hash).or_default().insert(id.clone(), known);
        Ok(())
    }

    /// Takes the key off the ring that etcd had as `text`.
    pub(crate) fn remove(&mut self, id: &AccessKeyId, text: &str) {
        let Some(hash) = AccessKey::parse(text).ok().and_then(|key| key.hash()) else { return };
        let part = self.part_mut(hash);
        if let Some(ids) = part.get_mut(&hash) {
            ids.remove(id);
            if ids.is_empty() {
                part.remove(&hash);
            }
        }
    }

    /// What the key that came opens at `now`.
    pub(crate) fn find(&self, came: &[u8], service: &str, now: SystemTime) -> Found<'_> {
        if came.len() > KEY_MAX_BYTES {
            return Found::Unknown;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, came).as_ref());
        self.find_hash(hash, service, now)
    }

    /// The same for a key of which the hash was kept. Of the same key under several ids the first counts whose time is
    /// not over.
    pub(crate) fn find_hash(&self, hash: [u8; 32], service: &str, now: SystemTime) -> Found<'_> {
        let Some(ids) = self.parts[usize::from(hash[0])].get(&hash) else { return Found::Unknown };
        match ids.values().find(|known| known.key.is_in_force(now)) {
            Some(known) if known.key.opens(service) => Found::Opens(&known.identity),
            Some(_) => Found::OutOfScope,
            None => Found::Expired,
        }
    }

    fn part_mut(&mut self, hash: [u8; 32]) -> &mut Part {
        Arc::make_mut(&mut self.parts[usize::from(hash[0])])
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
        let now = SystemTime::UNIX_EPOCH;
        assert!(matches!(ring.find(b"abc", "mail", now), Found::Opens(identity) if &*identity.subject == "ci"));
        assert_eq!(ring.find(b"abc", "web", now), Found::OutOfScope);
        assert_eq!(ring.find(b"abd", "mail", now), Found::Unknown);
        assert_eq!(ring.find(ABC.as_bytes(), "mail", now), Found::Unknown, "the hash is not the key");
        assert!(ring.add(&"x".parse().unwrap(), "{}").is_err());
    }

    #[test]
    fn a_key_opens_nothing_after_its_time() {
        let mut ring = KeyRing::default();
        let at = |secs| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        let text = |rest: &str| format!(r#"{{"sha256":"{ABC}","services":["mail"]{rest}}}"#);
        ring.add(&"ci".parse().unwrap(), &text(r#","expires":"1970-01-01T00:01:00Z""#)).unwrap();
        assert!(matches!(ring.find(b"abc", "mail", at(59)), Found::Opens(_)));
        assert_eq!(ring.find(b"abc", "mail", at(60)), Found::Expired);
        ring.add(&"later".parse().unwrap(), &text("")).unwrap();
        assert!(matches!(ring.find(b"abc", "mail", at(60)), Found::Opens(identity) if &*identity.subject == "later"));
    }

    #[test]
    fn a_change_copies_one_part_and_leaves_the_ring_as_it_was_to_those_who_hold_it() {
        let mut ring = KeyRing::default();
        let text = |n: u8| format!(r#"{{"sha256":"{}","services":["mail"]}}"#, format!("{n:02x}").repeat(32));
        (0..=255).for_each(|n| ring.add(&format!("key-{n}").parse().unwrap(), &text(n)).unwrap());
        let held = ring.clone();
        ring.remove(&"key-7".parse().unwrap(), &text(7));
        let opens = |ring: &KeyRing| {
            let found = |n: &u8| matches!(ring.find_hash([*n; 32], "mail", SystemTime::UNIX_EPOCH), Found::Opens(_));
            (0..=255).filter(found).count()
        };
        assert_eq!((opens(&held), opens(&ring)), (256, 255));
        let is_shared = |n: &usize| Arc::ptr_eq(&held.parts[*n], &ring.parts[*n]);
        assert_eq!((0..PARTS).filter(is_shared).count(), PARTS - 1);
    }
}
