use crate::{InstanceKey, Registered};

/// One change to what is known about the instances, as readers of etcd get it.
///
/// The contract between the watch of etcd and the table that follows it:
///
/// - The first update is [`Update::Reset`]. Until it comes nothing is known, which is not the same as nothing being
///   there.
/// - Updates come in the order of etcd's revisions. All updates of one etcd transaction come together; a table applies
///   them as one step, so that no reader sees half of a transaction.
/// - After any gap (a lost stream that cannot be resumed, compaction, a wiped cluster) the next update is a `Reset`.
///   Until then the table stays as it is; how old it is, is visible elsewhere.
/// - Nothing is said twice: an update changes something, and identical data after a gap makes no update.
/// - Even so, updates are idempotent: `Remove` of an unknown key and a repeated `Add` are harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// These, and no others, are the instances. May be empty: then it is known that there is none.
    Reset(Vec<Registered>),
    /// This instance is new, or its value or lease changed.
    Add(Registered),
    /// This instance is gone: deregistered, expired or deleted. etcd does not tell which.
    Remove(InstanceKey),
}
