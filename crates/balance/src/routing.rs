//! Which service a request is for.
//!
//! | file | |
//! |---|---|
//! | `target` | `/mail/a?b` → `mail` and `/a?b` |
//! | `slash` | `/web` in a browser → `/web/` |
//! | `index` | what `/` says |

pub(crate) mod index;
pub(crate) mod slash;
pub(crate) mod target;
