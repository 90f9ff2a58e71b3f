//! In which order users are listed, and from where.

use crate::user::User;

/// In which order, users with the same key by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// Whether the last comes first.
    pub is_descending: bool,
}

/// What users can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SortKey {
    /// The order in which they were created.
    #[default]
    Id,
    /// By code points, so `Z` comes before `a`: the same in all databases, and in all languages equally wrong.
    Name,
    /// The address in lower case.
    Email,
    /// The time of the last change.
    UpdatedAt,
}

/// A place between two users in a sorted list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The key of the user before it; empty when the id says it all.
    pub key: PositionKey,
    /// The id of the user before it.
    pub id: i64,
}

/// A value of a [`SortKey`].
#[derive(Clone, PartialEq, Eq)]
pub enum PositionKey {
    /// The id is the key.
    Id,
    /// A name or an address.
    Text(String),
    /// A time.
    Number(i64),
}

// === impl PositionKey ===

impl std::fmt::Debug for PositionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PositionKey(…)")
    }
}

// === impl Sort ===

impl Sort {
    /// Where the list goes on after `user`.
    #[must_use]
    pub fn position(self, user: &User) -> Position {
        let key = match self.key {
            SortKey::Id => PositionKey::Id,
            SortKey::Name => PositionKey::Text(user.name.as_str().to_owned()),
            SortKey::Email => PositionKey::Text(user.email.key()),
            SortKey::UpdatedAt => PositionKey::Number(user.updated_at.0),
        };
        Position { key, id: user.id.0 }
    }
}
