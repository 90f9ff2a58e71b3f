//! Names and passwords (RFC 7617), whose hashes are those of `htpasswd -B`.
//!
//! A right password costs a slow hash once, off the threads that serve ([`hashing`]), and then a keyed digest
//! ([`crate::access::verdicts`]). A name that is not known costs the same hash, so that answers do not tell
//! which names are.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use service_kit::connections::ClientNetwork;
use tokio::sync::oneshot;

use crate::access::{
    hashing::{self, Job},
    identity::Identity,
    verdicts::{self, Verdicts},
};

/// What bcrypt reads of a password; a longer one is none.
const PASSWORD_MAX_BYTES: usize = 72;
/// More than this is no name and password.
const ENCODED_MAX_BYTES: usize = 1024;

/// The names of one policy.
pub(crate) struct Users {
    by_name: BTreeMap<String, User>,
    /// What an unknown name is compared with: as slow as the slowest of the others.
    decoy: Arc<str>,
    verdicts: Arc<Verdicts>,
}

struct User {
    hash: Arc<str>,
    identity: Arc<Identity>,
}

/// What a name and a password are.
#[derive(Debug)]
pub(crate) enum Checked {
    Right(Arc<Identity>),
    Wrong,
    /// The client has as many passwords under way as it may have.
    TooMany,
    /// It is being worked out.
    Open(Pending),
}

/// A password that is being worked out.
#[derive(Debug)]
pub(crate) struct Pending {
    answer: oneshot::Receiver<bool>,
    identity: Option<Arc<Identity>>,
}

// === impl Users ===

impl Users {
    /// Those of a policy, which take over what was worked out for the policy `before` it.
    pub(crate) fn new(hashes: &BTreeMap<String, String>, before: Option<&Self>) -> Self {
        let user = |(name, hash): (&String, &String)| {
            (name.clone(), User { hash: hash.as_str().into(), identity: Arc::new(Identity::new("basic", name)) })
        };
        // The cost stands in the hash: `$2y$12$…`.
        let slowest = hashes.values().max_by_key(|hash| hash.get(4..6).unwrap_or_default().to_owned());
        Self {
            by_name: hashes.iter().map(user).collect(),
            decoy: slowest.map(String::as_str).unwrap_or_default().into(),
            verdicts: before.map(|before| Arc::clone(&before.verdicts)).unwrap_or_default(),
        }
    }

    /// Checks what stands behind `Basic`.
    pub(crate) fn check(&self, encoded: &[u8], client: ClientNetwork) -> Checked {
        let Some(credentials) = (encoded.len() <= ENCODED_MAX_BYTES).then(|| STANDARD.decode(encoded).ok()).flatten()
        else {
            return Checked::Wrong;
        };
        let Some(colon) = credentials.iter().position(|byte| *byte == b':') else { return Checked::Wrong };
        let (name, password) = (&credentials[..colon], &credentials[colon + 1..]);
        if password.len() > PASSWORD_MAX_BYTES {
            return Checked::Wrong;
        }
        let user = std::str::from_utf8(name).ok().and_then(|name| self.by_name.get(name));
        // What is found of a name that is not known says nothing about it once it is.
        let digest = verdicts::digest(user.map_or("", |user| &user.hash), &credentials);
        match (self.verdicts.get(&digest), user) {
            (Some(true), Some(user)) => return Checked::Right(Arc::clone(&user.identity)),
            (Some(_), _) => return Checked::Wrong,
            (None, _) => {}
        }
        let job = Job {
            digest,
            name: verdicts::digest("", name),
            hash: Arc::clone(user.map_or(&self.decoy, |user| &user.hash)),
            password: password.into(),
            counts: user.is_some(),
            verdicts: Arc::clone(&self.verdicts),
        };
        match hashing::submit(client, job) {
            Ok(answer) => Checked::Open(Pending { answer, identity: user.map(|user| Arc::clone(&user.identity)) }),
            Err(hashing::Full) => Checked::TooMany,
        }
    }
}

impl fmt::Debug for Users {
    /// The names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

// === impl Pending ===

impl Pending {
    /// Whose the name is, if the password is right.
    pub(crate) async fn settle(self) -> Option<Arc<Identity>> {
        let is_right = self.answer.await.unwrap_or(false);
        self.identity.filter(|_| is_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(hashes: &[(&str, &str)], before: Option<&Users>) -> Users {
        let hashes = hashes.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
        Users::new(&hashes, before)
    }

    /// Whether the password is right; `None`: that has to be worked out.
    fn known(users: &Users, name: &str, password: &str) -> Option<bool> {
        let client = ClientNetwork::of([10, 9, 9, 9].into());
        match users.check(STANDARD.encode(format!("{name}:{password}")).as_bytes(), client) {
            Checked::Right(_) => Some(true),
            Checked::Wrong => Some(false),
            Checked::TooMany | Checked::Open(_) => None,
        }
    }

    async fn work_out(users: &Users, name: &str, password: &str) -> bool {
        let client = ClientNetwork::of([10, 9, 9, 8].into());
        match users.check(STANDARD.encode(format!("{name}:{password}")).as_bytes(), client) {
            Checked::Open(pending) => pending.settle().await.is_some(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_policy_that_changes_costs_the_hashes_that_have_changed() {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        let (ann, bob, newer) = (hash("a"), hash("b"), hash("c"));
        let before = users(&[("ann", &ann), ("bob", &bob)], None);
        assert!(work_out(&before, "ann", "a").await && work_out(&before, "bob", "b").await);
        // Of a name that is not known, with the hash that it will have.
        assert!(!work_out(&before, "eve", "a").await);
        let after = users(&[("ann", &ann), ("bob", &newer), ("eve", &ann)], Some(&before));
        assert_eq!(known(&after, "ann", "a"), Some(true));
        assert_eq!((known(&after, "bob", "b"), known(&after, "eve", "a")), (None, None));
        assert!(!work_out(&after, "bob", "b").await && work_out(&after, "eve", "a").await);
        let without = users(&[("bob", &newer)], Some(&after));
        assert_ne!(known(&without, "ann", "a"), Some(true), "it is taken out");
    }

    #[tokio::test]
    async fn a_password_may_have_as_many_bytes_as_bcrypt_reads() {
        let longest = "x".repeat(PASSWORD_MAX_BYTES);
        let users = users(&[("ann", &bcrypt::hash(&longest, 4).unwrap())], None);
        assert!(work_out(&users, "ann", &longest).await);
        assert_eq!(known(&users, "ann", &format!("{longest}x")), Some(false));
    }

    #[test]
    fn no_hash_is_in_what_is_logged() {
        let users = users(&[("ann", "$2y$04$hash")], None);
        assert_eq!(format!("{users:?}"), "{\"ann\"}");
    }
}
