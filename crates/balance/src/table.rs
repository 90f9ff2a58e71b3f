//! The routing table: service → instances, what every request reads and only the watcher writes.
//!
//! | file | |
//! |---|---|
//! | [`routing_table`] | the snapshot, and how it is swapped |
//! | [`tombstones`] | the instances that went, and why |

pub mod routing_table;
pub mod tombstones;
