//! Who is there: from etcd to the routing table.
//!
//! | file | |
//! |---|---|
//! | [`watcher`] | takes updates, publishes tables |
//! | [`instances`] | everything that is known about the instances, and the table that follows from it |
//! | [`snapshot`], `snapshot_writer` | the same on disk, for a start without etcd; when it is written |
//! | `exposure` | services that are open to everyone who reaches this gateway |

pub(crate) mod exposure;
pub mod instances;
pub mod snapshot;
mod snapshot_writer;
pub mod watcher;

/// What the log lines of this room are filed under: the name that the watcher had before there were rooms, because operators
/// filter by it.
const TARGET: &str = "balance::watcher";
