//! What the slow hash has said of a password, so that it is asked once.
//!
//! A password is remembered as a digest with a key that this process has drawn and that nothing else knows: what is in
//! memory is of no use elsewhere, and a request costs a microsecond instead of a quarter of a second. Right and wrong
//! ones are bounded apart, so that guesses do not push the right ones out. What was worked out counts for one hash, so
//! a policy that changes takes over what was found of the names that keep theirs.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use ring::hmac;

/// Of right passwords: more than a policy has names.
const RIGHT_MAX: usize = 1024;
/// Of wrong ones.
const WRONG_MAX: usize = 1024;

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()));

/// The digest of a name, a password, and the hash that it is to have.
pub(crate) type Digest = [u8; 32];

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    right: HashSet<Digest>,
    wrong: HashSet<Digest>,
}

/// The digest of what a client shows, `name:password`, whose name has no colon; `hash`, which has no NUL, is what the
/// password is compared with.
pub(crate) fn digest(hash: &str, credentials: &[u8]) -> Digest {
    let mut signed = hmac::Context::with_key(&KEY);
    [hash.as_bytes(), b"\0", credentials].iter().for_each(|part| signed.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(signed.sign().as_ref());
    digest
}

// === impl Verdicts ===

impl Verdicts {
    /// Whether the password is right, if it is known.
    pub(crate) fn get(&self, digest: &Digest) -> Option<bool> {
        let known = self.lock();
        match known.right.contains(digest) {
            true => Some(true),
            false => known.wrong.contains(digest).then_some(false),
        }
    }

    pub(crate) fn put(&self, digest: Digest, is_right: bool) {
        let mut known = self.lock();
        let (these, max) = if is_right { (&mut known.right, RIGHT_MAX) } else { (&mut known.wrong, WRONG_MAX) };
        if these.len() >= max {
            these.clear();
        }
        these.insert(digest);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_do_not_push_right_passwords_out() {
        let verdicts = Verdicts::default();
        verdicts.put(digest("hash", b"ann:right"), true);
        (0..10 * WRONG_MAX).for_each(|n| verdicts.put(digest("hash", format!("ann:{n}").as_bytes()), false));
        assert_eq!(verdicts.get(&digest("hash", b"ann:right")), Some(true));
        assert_eq!(verdicts.get(&digest("hash", b"ann:unknown")), None);
        assert!(verdicts.lock().wrong.len() <= WRONG_MAX);
    }

    #[test]
    fn what_was_found_counts_for_the_hash_that_it_was_found_for() {
        assert_ne!(digest("hash", b"ann:right"), digest("hash2", b"ann:right"));
        assert_ne!(digest("hash", b"ann:right"), digest("", b"hashann:right"));
    }
}
