//! The members of etcd that `muster up` runs.
//!
//! | file | what it settles |
//! |---|---|
//! | [`member`] | arguments, and whether a member has data. Pure |
//! | [`rejoin`] | brings a member back whose folder is gone |
//! | [`log`], [`log_level`] | etcd's JSON as the services' text; how much of it is shown |
//! | [`advice`] | what to do about a member that does not start |

pub(crate) mod advice;
pub(crate) mod log;
pub(crate) mod log_level;
pub(crate) mod member;
pub(crate) mod rejoin;
