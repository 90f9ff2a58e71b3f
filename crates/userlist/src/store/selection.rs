//! Which users, in which order, from where.

mod filter;
mod sort;

pub use filter::{AttributeFilter, Filter, Period, SearchText};
pub use sort::{Position, PositionKey, Sort, SortKey};

use crate::user::{UserId, UserName};

/// By what a user is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// By the name, which may change.
    Name(UserName),
    /// By the id, which does not.
    Id(UserId),
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
