//! The operator's side, on a port of its own.
//!
//! | file | |
//! |---|---|
//! | [`api`] | the routes |
//! | `explain` | why a request would go where it would go |

pub mod api;
pub(crate) mod explain;
