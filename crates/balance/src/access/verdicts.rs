//! What the slow hash has said of a password, so that it is asked once.
//!
//! A password is remembered as a digest with a key that this process has drawn and that nothing else knows: what is in
//! memory is of no use elsewhere, and a request costs a microsecond instead of a quarter of a second. Right and wrong
//! ones are bounded apart, so that guesses do not push the right ones out. All are forgotten when the policy changes.

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

/// The digest of a name and a password.
pub(crate) type Digest = [u8; 32];

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    right: HashSet<Digest>,
    wrong: HashSet<Digest>,
}

/// The digest of what a client shows, `name:password`, whose name has no colon.
pub(crate) fn digest(credentials: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(hmac::sign(&KEY, credentials).as_ref());
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
        verdicts.put(digest(b"ann:right"), true);
        (0..10 * WRONG_MAX).for_each(|n| verdicts.put(digest(format!("ann:{n}").as_bytes()), false));
        assert_eq!(verdicts.get(&digest(b"ann:right")), Some(true));
        assert_eq!(verdicts.get(&digest(b"ann:unknown")), None);
        assert!(verdicts.lock().wrong.len() <= WRONG_MAX);
    }
}
