//! Who is there: from etcd to the routing table.
//!
//! | file | |
//! |---|---|
//! | [`watcher`] | takes updates, publishes tables |
//! | [`instances`] | everything that is known about the instances, and the table that follows from it |
//! | [`snapshot`] | the same on disk, for a start without etcd |
//! | `exposure` | services that are open to everyone who reaches this gateway |

pub(crate) mod exposure;
pub mod instances;
pub mod snapshot;
pub mod watcher;
