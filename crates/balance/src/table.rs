//! The routing table: service → instances, what every request reads and only the watcher writes.
//!
//! | file | |
//! |---|---|
//! | `name_map` | services by name, so that a change costs the change |
//! | `retired_tables` | the snapshots of before, until no request needs them |
//! | [`routing_table`] | the snapshot, and how it is swapped |
//! | [`tombstones`] | the instances that went, and why |

pub(crate) mod name_map;
pub(crate) mod retired_tables;
pub mod routing_table;
pub mod tombstones;
