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
    pub(crate) fn new(hashes: &BTreeMap<String, String>) -> Self {
        let user = |(name, hash): (&String, &String)| {
            (name.clone(), User { hash: hash.as_str().into(), identity: Arc::new(Identity::new("basic", name)) })
        };
        // The cost stands in the hash: `$2y$12$…`.
        let slowest = hashes.values().max_by_key(|hash| hash.get(4..6).unwrap_or_default().to_owned());
        Self {
            by_name: hashes.iter().map(user).collect(),
            decoy: slowest.map(String::as_str).unwrap_or_default().into(),
            verdicts: Arc::default(),
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
        let digest = verdicts::digest(&credentials);
        match (self.verdicts.get(&digest), user) {
            (Some(true), Some(user)) => return Checked::Right(Arc::clone(&user.identity)),
            (Some(_), _) => return Checked::Wrong,
            (None, _) => {}
        }
        let job = Job {
            digest,
            name: verdicts::digest(name),
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

    #[test]
    fn no_hash_is_in_what_is_logged() {
        let users = Users::new(&[("ann".to_owned(), "$2y$04$hash".to_owned())].into());
        assert_eq!(format!("{users:?}"), "{\"ann\"}");
    }
}
