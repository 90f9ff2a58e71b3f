//! Which users to list, and in which order.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::user::{EmailAddress, Status, Tag, User, UserName, folded};

/// Which users: those for whom everything holds that is not `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// With this status.
    pub status: Option<Status>,
    /// With this tag among theirs.
    pub tag: Option<Tag>,
    /// With this text somewhere in name or address, whatever its case. Reads all rows that the rest lets through.
    pub text: Option<SearchText>,
    /// With this address, however it is spelt.
    pub email: Option<EmailAddress>,
    /// With this name.
    pub name: Option<UserName>,
}

/// A text to search for, in the form in which it is stored to be found.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SearchText(String);

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

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of which users.
    pub filter: Filter,
    /// In which order.
    pub sort: Sort,
    /// From where; none from the start.
    pub after: Option<Position>,
    /// The most users.
    pub rows: u32,
}

// === impl Filter ===

impl Filter {
    /// Whether only few users may be meant, of many: then reading the whole table in the order in which it is stored takes a
    /// tenth of the time of reading it in the order of an index, row by row, until a page is full.
    pub(crate) fn is_selective(&self) -> bool {
        self.is_scan() && (self.tag.is_some() || self.text.is_some() || self.status != Some(Status::Active))
    }

    /// Whether rows have to be read that are not listed, and how many nobody knows: no index leads to those with a
    /// status, a tag or a text.
    pub(crate) fn is_scan(&self) -> bool {
        let Self { status, tag, text, email, name } = self;
        let is_found = email.is_some() || name.is_some();
        !is_found && (status.is_some() || tag.is_some() || text.is_some())
    }

    /// A number that is the same for the same filter and order, to see whether a cursor belongs to them. Not secret and
    /// not for ever: it may change with a release.
    #[must_use]
    pub fn fingerprint(&self, sort: Sort) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self, sort).hash(&mut hasher);
        hasher.finish()
    }
}

// === impl SearchText ===

impl SearchText {
    /// The most characters that are looked for.
    pub const MAX_CHARS: usize = 128;

    /// None when there is nothing to look for.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = folded(text.trim());
        (!text.is_empty()).then_some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SearchText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchText(…)")
    }
}

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
