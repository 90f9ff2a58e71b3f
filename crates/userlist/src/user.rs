//! Who is on the list: a name that nobody else has, and an e-mail address.
//!
//! Values of these types are valid by construction, and the same for every store: text is brought into Unicode's
//! Normalization Form C first, so that "é" is one name however a keyboard composes it, and nothing after that depends
//! on a database's collation, padding or length limit.
//!
//! `Debug` shows no name and no address, so that neither reaches a log by accident.

mod email;
mod name;
mod text;

pub use email::EmailAddress;
pub use name::UserName;

use serde::Serialize;

/// What the store calls a user: positive, unique, never given to anybody else, not even after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// A user as stored; serializes to `{"id":1,"name":"dong","email":"d@example.com"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Grows with every user; stays when the address changes.
    pub id: UserId,
    /// Unique.
    pub name: UserName,
    /// Not unique: two users may share one.
    pub email: EmailAddress,
}

/// A user as somebody wants it to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Which user.
    pub name: UserName,
    /// Their address from now on.
    pub email: EmailAddress,
}

// === impl NewUser ===

impl NewUser {
    /// The same, stored under `id`.
    pub(crate) fn stored_as(&self, id: i64) -> User {
        User { id: UserId(id), name: self.name.clone(), email: self.email.clone() }
    }
}
