//! Who is on the list: a unique name, an e-mail address, and what goes with them.
//!
//! Values of these types are valid by construction, and the same for every store: text is brought into Unicode's
//! Normalization Form C first, so that "é" is one name however a keyboard composes it, and nothing after that depends
//! on a database's collation, padding or length limit.
//!
//! `Debug` shows no name, no address and no attribute, so that none reaches a log by accident.

mod attributes;
mod changes;
mod draft;
mod email;
mod name;
pub(crate) mod openapi;
mod status;
mod tags;

pub use attributes::Attributes;
pub use changes::{AttributeChanges, Changes};
pub use draft::Draft;
pub use email::EmailAddress;
pub use name::UserName;
pub use status::Status;
pub use tags::{Tag, Tags};

pub(crate) use email::email;

use serde::Serialize;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

/// What the store calls a user: positive, unique, never given to another user, not even after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// A user as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
// Nothing is read into it; the description says that it has no other fields.
#[serde(deny_unknown_fields)]
pub struct User {
    /// Grows with every user; stays whatever else changes.
    #[schema(inline)]
    pub id: UserId,
    /// Unique.
    #[schema(inline)]
    pub name: UserName,
    /// Two users may share one, unless the configuration says otherwise.
    #[schema(inline)]
    pub email: EmailAddress,
    /// Whether mail may be sent to them.
    pub status: Status,
    /// Labels to select by.
    #[schema(inline)]
    pub tags: Tags,
    /// What else is known.
    #[schema(inline)]
    pub attributes: Attributes,
    /// 1 at first, one more with every change: what `ETag` and `If-Match` compare.
    #[schema(minimum = 1)]
    pub version: i64,
    /// When they were stored first; for those from before times were kept, when that began.
    pub created_at: UnixMillis,
    /// When something was changed last.
    pub updated_at: UnixMillis,
}

/// A user as a request wants it to be. What is `None` stays as it is; for a new user it is the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Which user.
    pub name: UserName,
    /// Their address from now on.
    pub email: EmailAddress,
    /// By default active.
    pub status: Option<Status>,
    /// By default none.
    pub tags: Option<Tags>,
    /// Beside those that they have; empty where `tags` says which these are.
    pub added_tags: Tags,
    /// By default none.
    pub attributes: Option<Attributes>,
}

// === impl NewUser ===

impl NewUser {
    /// A name and an address, and nothing else said.
    #[must_use]
    pub fn new(name: UserName, email: EmailAddress) -> Self {
        Self { name, email, status: None, tags: None, added_tags: Tags::default(), attributes: None }
    }

    /// The first version of this user, stored under `id`.
    pub(crate) fn stored_as(&self, id: i64, now: UnixMillis) -> User {
        User {
            id: UserId(id),
            name: self.name.clone(),
            email: self.email.clone(),
            status: self.status.unwrap_or_default(),
            tags: self.tags.clone().unwrap_or_else(|| self.added_tags.clone()),
            attributes: self.attributes.clone().unwrap_or_default(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}
