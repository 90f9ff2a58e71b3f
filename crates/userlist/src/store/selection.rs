//! Which users, in which order, from where.

mod filter;
mod sort;

pub use filter::{AttributeFilter, Filter, Period, SearchText};
pub use sort::{Page, Position, PositionKey, Sort, SortKey};
