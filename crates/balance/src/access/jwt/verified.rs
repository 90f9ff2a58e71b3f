//! Tokens that were good a moment ago, so that a signature is checked once.
//!
//! A token is remembered by its SHA-256, until it expires or the keys of its policy change. Bounded: when a part is
//! full, what has expired makes room, else any other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use ring::digest;

use crate::access::{identity::Identity, jwt::key_set::Keys};

/// How many parts there are, each with a lock of its own, so that cores do not wait for each other.
const PARTS: usize = 16;
/// Tokens of one part.
const PART_MAX: usize = 512;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Verified([Mutex<HashMap<Digest, Good>>; PARTS]);

type Digest = [u8; 32];

#[derive(Debug)]
struct Good {
    identity: Arc<Identity>,
    /// In seconds of the epoch.
    until: f64,
    keys: Arc<Keys>,
}

// === impl Verified ===

impl Verified {
    /// Whose token this is, if it was good by these keys.
    pub(crate) fn get(&self, token: &[u8], keys: &Arc<Keys>, now: SystemTime) -> Option<Arc<Identity>> {
        let digest = digest_of(token);
        let part = self.part(&digest);
        let good = part.get(&digest)?;
        (Arc::ptr_eq(&good.keys, keys) && seconds(now) < good.until).then(|| Arc::clone(&good.identity))
    }

    pub(crate) fn put(&self, token: &[u8], identity: Arc<Identity>, until: f64, keys: Arc<Keys>, now: SystemTime) {
        let digest = digest_of(token);
        let mut part = self.part(&digest);
        if part.len() >= PART_MAX {
            part.retain(|_, good| seconds(now) < good.until && Arc::ptr_eq(&good.keys, &keys));
        }
        if part.len() >= PART_MAX
            && let Some(any) = part.keys().next().copied()
        {
            part.remove(&any);
        }
        part.insert(digest, Good { identity, until, keys });
    }

    fn part(&self, digest: &Digest) -> std::sync::MutexGuard<'_, HashMap<Digest, Good>> {
        self.0[usize::from(digest[0]) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest_of(token: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    digest
}

fn seconds(now: SystemTime) -> f64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_remembered_until_it_expires_or_its_keys_change_and_memory_is_bounded() {
        let verified = Verified::default();
        let keys = Arc::new(Keys::default());
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let identity = Arc::new(Identity::new("jwt", "ann"));
        verified.put(b"token", Arc::clone(&identity), 10.0, Arc::clone(&keys), at(1));
        assert_eq!(verified.get(b"token", &keys, at(9)), Some(Arc::clone(&identity)));
        assert_eq!(verified.get(b"token", &keys, at(10)), None);
        assert_eq!(verified.get(b"token", &Arc::default(), at(9)), None, "other keys");
        assert_eq!(verified.get(b"taken", &keys, at(9)), None);
        for n in 0..100_000 {
            verified.put(format!("{n}").as_bytes(), Arc::clone(&identity), 1e9, Arc::clone(&keys), at(1));
        }
        let held: usize = verified.0.iter().map(|part| part.lock().unwrap().len()).sum();
        assert!(held <= PARTS * PART_MAX, "{held}");
    }
}
